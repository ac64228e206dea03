"""Which store an installation has: a file in its data directory, or PostgreSQL. Only here both are known.

psycopg is imported where PostgreSQL is meant, and nowhere else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings
from puppetmaster.store import datadir, transfer
from puppetmaster.store.base import Elsewhere, Store
from puppetmaster.store.sqlite.store import SqliteStore


def open_store(
    settings: Settings,
    waiting: Callable[[str], None] = lambda _: None,
    reaches: Callable[[], bool] = lambda: False,
) -> Store:
    """The store of these settings, for the thread that will commit. Raises SettingsError, StoreError.

    ``waiting`` is called again and again, with a sentence, while a standby waits for the lead.
    ``reaches`` is whether the broker can be reached, and is called when the leader wants to know.
    """
    directory = settings.data_dir
    if not settings.store:
        store = SqliteStore(directory)
        datadir.goes_on_in_file(directory)
        return store
    with _extra():
        from puppetmaster.store.postgres.store import PostgresStore  # noqa: PLC0415 - an extra
    waits = waiting if settings.standby == "on" else None
    database = PostgresStore(settings.store, datadir.known(directory), waits, reaches)
    datadir.goes_on_in_database(directory, database.known)
    return database


def open_elsewhere(settings: Settings) -> Elsewhere:
    """The store of these settings, while another process leads there. Raises SettingsError."""
    with _extra():
        from puppetmaster.store.postgres.orders import Asker  # noqa: PLC0415 - an extra
    return Asker(settings.store)


def export(settings: Settings, file: Path) -> int:
    """Write all jobs to a file, as ``transfer.export``."""
    if not settings.store:
        return transfer.export(settings.data_dir, file)
    with _extra():
        from puppetmaster.store.postgres import transfer as postgres  # noqa: PLC0415 - an extra
    return postgres.export(settings.store, file)


def import_(file: Path, settings: Settings) -> int:
    """Fill an empty store with what was exported, as ``transfer.import_``."""
    if not settings.store:
        return transfer.import_(file, settings.data_dir)
    with _extra():
        from puppetmaster.store.postgres import transfer as postgres  # noqa: PLC0415 - an extra
    jobs, known = postgres.import_(file, settings.store)
    datadir.goes_on_in_database(settings.data_dir, known)
    return jobs


def doubts(address: str) -> list[str]:
    """What a database may lose of what it was given, a sentence each, and what to do.

    Nothing is written there. Raises as ``open_store``.
    """
    with _extra():
        from puppetmaster.store.postgres import durability  # noqa: PLC0415 - an extra
    return durability.doubts(address)


@contextmanager
def _extra() -> Iterator[None]:
    """Raises SettingsError: psycopg is not installed, or cannot be used."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"PUPPETMASTER_STORE names PostgreSQL, and psycopg cannot be used ({error}): "
            "pip install 'puppetmaster[postgresql]', or the package puppetmaster-postgresql beside Debian's."
        ) from error
