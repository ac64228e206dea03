"""Whether a database keeps what it has acknowledged, as the doctor asks."""

from contextlib import closing

from puppetmaster.store.postgres import schema
from puppetmaster.store.postgres.connection import Door, as_store_error


def doubts(address: str) -> list[str]:
    """What may be lost, a sentence each, and what to do.

    Raises SettingsError, StoreError: the database cannot be used.
    """
    door = Door(address)
    with closing(door.connect()) as connection, as_store_error(f"{door.place} cannot be used"):
        there = connection.execute("SELECT to_regclass('meta')").fetchone()
        if there is not None and there[0] is not None:
            schema.check(connection, door.place)
        names = ("fsync", "full_page_writes", "synchronous_standby_names")
        given = {name: _setting(connection.execute(f"SHOW {name}").fetchone()) for name in names}
    found = [
        f"the server does not wait for its disk ({name} is off), and a power cut loses what was "
        f"acknowledged: set {name} = on"
        for name in names[:2]
        if given[name] == "off"
    ]
    if door.hosts > 1 and not given["synchronous_standby_names"]:
        found.append(
            f"{door.place} names {door.hosts} servers and the first waits for none of the others, so that a "
            "command may run twice after a failover: set synchronous_standby_names"
        )
    return found


def _setting(row: tuple[object, ...] | None) -> str:
    return "" if row is None else str(row[0])
