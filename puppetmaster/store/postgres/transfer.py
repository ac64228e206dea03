# ruff: noqa: S608 - the names in the SQL are this package's own; values are parameters
"""Export of the database to the JSON file that ``store.transfer`` writes, and import from one."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from puppetmaster.model.gateway import Gateway
from puppetmaster.model.job import Job
from puppetmaster.model.request import Item, Request
from puppetmaster.model.template import Template
from puppetmaster.store import transfer
from puppetmaster.store.base import Ids
from puppetmaster.store.datadir import FILE_NAME, Known
from puppetmaster.store.postgres import rows, schema
from puppetmaster.store.postgres.connection import Call, Connection, Door, as_store_error
from puppetmaster.store.postgres.store import PostgresStore
from puppetmaster.store.sqlite import migrations
from puppetmaster.store.sqlite.documents import SqliteTinyDB
from puppetmaster.store.sqlite.store import ids_in, with_ids

#: Number of documents that are in memory at once.
PART = 1000
_NOT_THROWN = "AND job NOT IN (SELECT id FROM trash)"
#: Table -> its ids and documents after an id.
_PARTS = {
    "jobs": "SELECT id, doc FROM jobs WHERE id > %s",
    "items": f"SELECT id, doc FROM items WHERE id > %s {_NOT_THROWN}",
    "sendings": "SELECT id, json_build_object('request', request, 'job', job)::text AS doc FROM sendings "
    "WHERE id > %s",
    "requests": f"SELECT id, doc FROM requests WHERE id > %s {_NOT_THROWN}",
    "gateways": "SELECT * FROM (SELECT row_number() OVER (ORDER BY name) AS id, doc FROM gateways) "
    "AS numbered WHERE id > %s",
    "templates": "SELECT id, doc FROM templates WHERE id > %s",
}


def export(address: str, file: Path) -> int:
    """As ``transfer.export``, from the database at ``address``."""
    door = Door(address)
    with closing(door.connect()) as connection, as_store_error(f"{door.place} cannot be exported"):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        installation = schema.check(connection, door.place)
        found = connection.execute(
            "SELECT next_job, next_request, next_template, (SELECT count(*) FROM jobs) FROM buses "
            "WHERE id = %s",
            [schema.BUS],
        ).fetchone()
        assert found is not None
        next_job, next_request, next_template, jobs = found
        meta = {"format": migrations.FORMAT, "installation": installation}
        meta = with_ids(meta, Ids(next_job, next_request, next_template))
        members = {"meta": iter([f'\n"1": {json.dumps(meta)}'])}
        members |= {name: _documents(connection, sql) for name, sql in _PARTS.items()}
        transfer.write(file, members)
        return int(jobs)


def _documents(connection: Connection, sql: str) -> Iterator[str]:
    """The documents of a table as members of a JSON object."""
    last, begun = 0, False
    while found := connection.execute(f"{sql} ORDER BY id LIMIT {PART}", [last]).fetchall():
        last = found[-1][0]
        yield ("," if begun else "") + "\n" + ",\n".join(f'"{id_}": {doc}' for id_, doc in found)
        begun = True


def import_(file: Path, address: str) -> tuple[int, Known]:
    """As ``transfer.import_``, into the database at ``address``. Returns what is to be known of it, too.

    A file is filled first, which checks what is there, and brings an older format up to date.
    """
    with TemporaryDirectory(prefix="puppetmaster-import-") as place, closing(PostgresStore(address)) as store:
        jobs = transfer.import_(file, Path(place))
        with closing(SqliteTinyDB(Path(place) / FILE_NAME, read_only=True)) as db:
            meta = db.table("meta").get(doc_id=1)
            store.fill(_calls(db), ids_in(meta), meta["installation"])
        return jobs, store.known


def _calls(db: SqliteTinyDB) -> Iterator[Sequence[Call]]:
    """What puts all documents of a file into the tables, in parts."""
    large: Counter[int] = Counter()
    for some in _in_parts(db, "items"):
        yield [rows.items((Item.from_document(id_, one) for id_, one in some), large)]
    for some in _in_parts(db, "requests"):
        yield [rows.requests((Request.from_document(id_, one) for id_, one in some), large)]
    for some in _in_parts(db, "jobs"):
        yield [rows.jobs((Job.from_document(id_, one) for id_, one in some), large)]
    for some in _in_parts(db, "sendings"):
        yield [rows.sendings((id_, one["request"], one["job"]) for id_, one in some)]
    for some in _in_parts(db, "gateways"):
        yield [rows.gateways(Gateway.from_document(one) for _, one in some)]
    for some in _in_parts(db, "templates"):
        yield [rows.templates(Template.from_document(id_, one) for id_, one in some)]


def _in_parts(db: SqliteTinyDB, name: str) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    table = db.table(name)
    ids = table.ids()
    for start in range(0, len(ids), PART):
        yield [(one.doc_id, one) for one in table.get(doc_ids=ids[start : start + PART].tolist())]
