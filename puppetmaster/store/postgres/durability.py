"""Whether a database keeps what it has acknowledged, and how we reach it, as the doctor asks."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from puppetmaster.store.postgres import schema
from puppetmaster.store.postgres.connection import Connection, Door, as_store_error

#: Clocks that differ by less do no harm.
CLOCKS_S = 2.0
_NAMES = ("fsync", "full_page_writes", "synchronous_standby_names", "synchronous_commit")
#: Who may not see how a standby is fed sees that there is one. A backup is fed for a while only.
_STANDBYS = """
SELECT coalesce(application_name, ''), sync_state FROM pg_stat_replication
WHERE state IS DISTINCT FROM 'backup'
"""
#: Whoever may not see the sessions of others does not see that another puppetmaster leads.
_USERS = """
SELECT relowner::regrole::text, current_user FROM pg_class
WHERE oid = to_regclass('meta') AND relowner <> current_user::regrole
  AND NOT pg_has_role('pg_read_all_stats', 'USAGE')
"""
#: Commits that wait for a standby, in any process.
_HELD_UP = """
SELECT current_setting('synchronous_standby_names') FROM pg_stat_activity
WHERE datname = current_database() AND wait_event = 'SyncRep' LIMIT 1
"""


def held_up(connection: Connection, place: str) -> str | None:
    """Why what is written is not confirmed, and what to do; None: nothing waits. Raises psycopg.Error."""
    found = connection.execute(_HELD_UP).fetchone()
    if found is None:
        return None
    return (
        f"{place} does not confirm what is written: it waits for its standby server "
        f"(synchronous_standby_names = '{found[0]}'): bring that back; or do without it, with "
        "ALTER SYSTEM SET synchronous_standby_names = '' and SELECT pg_reload_conf()."
    )


def doubts(address: str, wall_s: Callable[[], float] = time.time) -> list[str]:
    """What may be lost or go wrong, a sentence each, and what to do.

    Raises SettingsError, StoreError: the database cannot be used.
    """
    door = Door(address)
    with closing(door.connect()) as connection, as_store_error(f"{door.place} cannot be used"):
        there = connection.execute("SELECT to_regclass('meta')").fetchone()
        if there is not None and there[0] is not None:
            schema.check(connection, door.place)
        else:
            schema.permitted(connection, door.place)
        given = {name: _text(connection, f"SHOW {name}") for name in _NAMES}
        found = [
            f"the server does not wait for its disk ({name} is off), and a power cut loses what was "
            f"acknowledged: set {name} = on"
            for name in _NAMES[:2]
            if given[name] == "off"
        ]
        found += _users(connection)
        found += _standbys(connection, door, given)
        found += _pooler(connection, door)
        found += _clocks(connection, wall_s)
    return found


def _users(connection: Connection) -> Iterator[str]:
    for owner, user in connection.execute(_USERS).fetchall():
        yield (
            f"the tables are those of {owner}, and {user} does not see whether a session of {owner} still "
            "leads: let all puppetmasters log in as the same user"
        )


def _standbys(connection: Connection, door: Door, given: dict[str, str]) -> Iterator[str]:
    standbys = connection.execute(_STANDBYS).fetchall()
    waited_for = bool(given["synchronous_standby_names"])
    twice = "so that a command may run twice after a failover"
    if not waited_for and (standbys or door.hosts > 1):
        many = f"{door.hosts} servers" if door.hosts > 1 else "a server with a standby"
        yield (
            f"{door.place} names {many} and the first waits for none of the others, {twice}: "
            "set synchronous_standby_names"
        )
    if waited_for and given["synchronous_commit"] == "local":
        yield f"synchronous_commit is local and waits for no standby, {twice}: set synchronous_commit = on"
    if waited_for and (behind := [name for name, state in standbys if state == "async"]):
        yield (
            f"nobody waits for the standby {', '.join(behind)}, {twice} to it: add it to "
            "synchronous_standby_names, or never make it the first"
        )


def _pooler(connection: Connection, door: Door) -> Iterator[str]:
    """A pooler invents the number of the server's process. In transaction mode several share a process."""
    if _backend(connection) == connection.info.backend_pid:
        return
    with closing(door.connect()) as second:
        shared = _backend(second) == _backend(connection)
    mode = "in transaction mode" if shared else "perhaps in transaction mode"
    yield (
        f"a pooler is between, {mode}: what is prepared in a session is lost there, and who leads is not "
        "seen to be gone: name the server itself in PUPPETMASTER_STORE"
    )


def _backend(connection: Connection) -> int:
    return int(_text(connection, "SELECT pg_backend_pid()"))


def _clocks(connection: Connection, wall_s: Callable[[], float]) -> Iterator[str]:
    """Compare our clock with the server's, which has looked at its own between two looks at ours."""
    before_s = wall_s()
    theirs_s = float(_text(connection, "SELECT extract(epoch FROM clock_timestamp())"))
    after_s = wall_s()
    ahead_s = max(before_s - theirs_s, 0.0) or min(after_s - theirs_s, 0.0)
    if abs(ahead_s) > CLOCKS_S:
        where = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"the clock of this machine is {abs(ahead_s):.0f} s {where} that of the database, and jobs have "
            "deadlines: have both set by NTP"
        )


def _text(connection: Connection, sql: str) -> str:
    row = connection.execute(sql).fetchone()
    return "" if row is None else str(row[0])
