"""The format of the store's documents, and the steps that bring a file of an older format up to it."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from puppetmaster.errors import StoreError
from puppetmaster.store.sqlite.documents import SqliteTinyDB

log = logging.getLogger("sanji.puppetmaster.store.sqlite.migrations")

FORMAT = 3


def check(meta: Mapping[str, Any], where: object) -> None:
    """Raises StoreError: this version cannot read a store with this meta document, found in ``where``."""
    format_ = meta.get("format")
    if type(format_) is int and format_ > FORMAT:
        raise StoreError(
            f"{where} has format {format_} and this version reads up to {FORMAT}: "
            "use the version that wrote it, or a newer one; nothing was changed."
        )
    if type(format_) is not int or format_ < 1:
        raise StoreError(
            f"{where} has format {format_}, expected a number from 1 to {FORMAT}: "
            "it is no store of puppetmaster's; move it away, or set PUPPETMASTER_DATA_DIR to another."
        )
    missing = [name for name in ("installation", "nextJob", "nextRequest") if name not in meta]
    if missing:
        raise StoreError(
            f"{where} lacks {', '.join(missing)} in its meta document: it was changed; "
            "put a copy of an earlier day or an import in its place."
        )


def bring_up(db: SqliteTinyDB, meta: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Bring the documents to FORMAT; ``check`` has let their meta document pass. Each step is a transaction.

    Returns the new meta document.
    """
    brought = dict(meta)
    for older in range(brought["format"], FORMAT):
        brought["format"] = older + 1
        with db.transaction():
            MIGRATIONS[older](db)
            db.table("meta").put([(1, brought)])
        log.info("%s is brought from format %s to %s", where, older, older + 1)
    return brought


def _from_1_to_2(db: SqliteTinyDB) -> None:
    """Give jobs waves and a time to start, and sendings a table of their own."""
    jobs = db.table("jobs")
    for document in jobs.all():
        known = {key: value for key, value in document.items() if key not in ("concurrency", "idempotent")}
        jobs.put([(document.doc_id, {**known, "startAt": None, "wave": 1, "waveErrors": 0, "gate": None})])
    requests = db.table("requests")
    sent = [one for one in requests.all() if one.get("message", one.doc_id) != one.doc_id]
    db.table("sendings").put((one["message"], {"request": one.doc_id, "job": one["job"]}) for one in sent)


def _from_2_to_3(_db: SqliteTinyDB) -> None:
    """Nothing: the storage itself keeps destinations in a column of their own, which older versions lack."""


#: Format -> the step to the next format.
MIGRATIONS: Mapping[int, Callable[[SqliteTinyDB], None]] = {1: _from_1_to_2, 2: _from_2_to_3}
