# ruff: noqa: S608 - names in the SQL come from ``identifier`` and ``Schema``, which let no quote through
"""The rows of one table: documents as JSON in SQLite, and the two mappings through which TinyDB sees them.

Documents are written by the standard library's JSON encoder, as ASCII: a lone surrogate and an integer beyond
64 bits come back as they were; NaN and infinities are refused. ``Where`` says what conditions mean.
"""

import json
import re
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import index
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from tinydb.table import Document

from puppetmaster import jsoncodec


class Partial(tuple[str, ...]):
    """The fields of an index that leaves out the documents in which the first of them is null or absent."""

    __slots__ = ()


class Fixed(tuple[str, ...]):
    """The fields of an index that never change in a document: a change is refused.

    They are kept in columns of their own, so that other changes of the document do not touch the index. An
    index of any other kind is written at every change of a document.
    """

    __slots__ = ()


class Schema:
    """The SQL of a table and its indexes: its name, and how it is created, changed and dropped."""

    def __init__(
        self, connection: sqlite3.Connection, name: str, indexes: Iterable[tuple[str, ...]] = ()
    ) -> None:
        indexes = list(indexes)
        self.name = f"doc_{identifier(name)}"
        self.table = f'"{self.name}"'
        self._connection = connection
        #: Column of a ``Fixed`` field -> the expression that takes the field out of the document.
        self._kept = {
            f"fixed_{field}": expression(field)
            for fields in indexes
            if isinstance(fields, Fixed)
            for field in fields
        }
        self._indexes = {}
        for fields in indexes:
            kind = {Partial: "partial", Fixed: "fixed"}.get(type(fields), "index")
            key = f"{kind}_{'.'.join(identifier(part) for part in (name, *fields))}"
            columns = ", ".join(map(self.expression, fields))
            only = f" WHERE {self.expression(fields[0])} IS NOT NULL" if kind == "partial" else ""
            self._indexes[key] = f'CREATE INDEX IF NOT EXISTS "{key}" ON {self.table} ({columns}){only}'
        columns, values = ", ".join(["id", "doc", *self._kept]), ", ".join(["?1", "?2", *self._taken("?2")])
        #: Inserts or replaces a document. Its parameters are the id and the text.
        self.put = (
            f"INSERT INTO {self.table} ({columns}) VALUES ({values}) "
            "ON CONFLICT (id) DO UPDATE SET doc = excluded.doc"
        )
        values = ", ".join(["CAST(key AS INTEGER)", "value", *self._taken("value")])
        #: The same for all documents of an object, by id. Its parameter is the text of the object.
        self.put_all = (
            f"INSERT INTO {self.table} ({columns}) SELECT {values} FROM json_each(?1) WHERE true "
            "ON CONFLICT (id) DO UPDATE SET doc = excluded.doc"
        )

    def expression(self, field: str) -> str:
        """The SQL for a top-level field of this table. Raises ValueError: the name is none of a field."""
        taken = expression(field)
        return f"fixed_{field}" if f"fixed_{field}" in self._kept else taken

    def _taken(self, document: str) -> list[str]:
        return [taken.replace("doc", document, 1) for taken in self._kept.values()]

    def exists(self) -> bool:
        """Whether the table was ever written. It may be empty now."""
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return bool(self._connection.execute(sql, (self.name,)).fetchall())

    def is_missing(self, error: sqlite3.OperationalError) -> bool:
        """Whether this error says that the table does not exist."""
        return str(error) == f"no such table: {self.name}"

    def create(self) -> None:
        """Make the table and its indexes, unless the table is there."""
        if not self.exists():
            self._connection.execute(self._create(self.table))
            self._create_indexes()

    def bring_up(self) -> None:
        """Give a table of an earlier version the columns and indexes of this one, and no others."""
        if not self.exists():
            return
        if self._columns() != ["id", "doc", *self._kept]:
            aside = f'"{self.name}.aside"'
            self._connection.execute(self._create(aside))
            values = ", ".join(["id", "doc", *self._taken("doc")])
            self._connection.execute(f"INSERT INTO {aside} SELECT {values} FROM {self.table}")
            self.drop()
            self._connection.execute(f"ALTER TABLE {aside} RENAME TO {self.table}")
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        for (index_name,) in self._connection.execute(sql, (self.name,)).fetchall():
            if index_name not in self._indexes:
                self._connection.execute(f'DROP INDEX "{index_name}"')
        self._create_indexes()

    def _columns(self) -> list[str]:
        return [row[1] for row in self._connection.execute(f"PRAGMA table_info({self.table})").fetchall()]

    def _create(self, table: str) -> str:
        kept = "".join(f", {column} CHECK ({column} IS {taken})" for column, taken in self._kept.items())
        return f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, doc TEXT NOT NULL{kept})"

    def _create_indexes(self) -> None:
        for statement in self._indexes.values():
            self._connection.execute(statement)

    def drop(self) -> None:
        """Remove the table with its indexes."""
        self._connection.execute(f"DROP TABLE IF EXISTS {self.table}")


def identifier(name: str) -> str:
    """The name in a-z, 0-9 and _, all else as %xx: SQL names have no case, and a quote ends them."""
    encoded = name.encode("utf-8", "surrogatepass")
    return re.sub(rb"[^a-z0-9_]", lambda match: b"%%%02x" % match[0][0], encoded).decode("ascii")


def name_of(encoded: str) -> str:
    """The name that `identifier` encoded."""
    return unquote_to_bytes(encoded).decode("utf-8", "surrogatepass")


def expression(field: str) -> str:
    """The SQL that takes a field out of a document. An index needs the very same text.

    The field is a top-level one, or one of the object in it: ``labels.example.com/site`` is the field
    ``example.com/site`` of ``labels``. Raises ValueError: the name is none of a field.
    """
    found = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)(?:\.([A-Za-z0-9_./-]+))?", field)
    if found is None:
        raise ValueError(f"expected a field of letters, digits and _, not digit first, got {field!r}")
    below = "" if found[2] is None else f'."{found[2]}"'
    return f"json_extract(doc, '$.{found[1]}{below}')"


Scalar = str | int | float | bool | None
Where = Mapping[str, Scalar | Sequence[Scalar]]
"""Field -> its value, the values that it may have, those that it must not have (`Except`), a part of its text
(`Contains`), or any (`Present`). All fields must fit. None fits a field that is null or absent."""


encode = jsoncodec.text
decode = json.JSONDecoder().decode


class Contains(str):
    """A part of the text that a field of a condition has, letters a to z in either case."""

    __slots__ = ()


class Except(tuple[Scalar, ...]):
    """The values that a field of a condition must not have; a field that is null or absent fits."""

    __slots__ = ()


class Present(tuple[Scalar, ...]):
    """A field of a condition must have a value, whichever it is."""

    __slots__ = ()


class Fields(dict[str, Scalar | Sequence[Scalar]]):
    """A query of TinyDB's: documents whose top-level fields have these values, as in ``Where``.

    A table in SQLite looks for what fits; any other table of TinyDB calls it with each document.
    """

    def __call__(self, value: Mapping[Any, Any]) -> bool:
        """Whether this document fits."""
        return all(_fits(value.get(field), wanted) for field, wanted in self.items())

    def __hash__(self) -> int:  # type: ignore[override]  # TinyDB keeps answers by query
        return hash(frozenset((field, encode(wanted)) for field, wanted in self.items()))


class TableRows:
    """One SQL table of documents, by id. A table that was never written is empty.

    `indexes` are tuples of top-level fields. A condition on all fields of an index gives rows ordered by id.
    """

    def __init__(
        self, connection: sqlite3.Connection, name: str, indexes: Iterable[tuple[str, ...]] = ()
    ) -> None:
        self._connection = connection
        self.schema = Schema(connection, name, indexes)
        self._table = self.schema.table

    def texts(self) -> dict[int, str]:
        """All documents as JSON text, in the order of their ids."""
        return dict(self._fetch(f"SELECT id, doc FROM {self._table} ORDER BY id"))

    def text(self, doc_id: object) -> str | None:
        """One document as JSON text. None: there is no such document."""
        found = self._fetch(f"SELECT doc FROM {self._table} WHERE id = ?", (doc_id,))
        return found[0][0] if found else None

    def max_id(self) -> int:
        """The highest id; 0: the table is empty."""
        found = self._fetch(f"SELECT max(id) FROM {self._table}")
        return found[0][0] or 0 if found else 0

    def get(self, doc_ids: Iterable[int]) -> list[Document]:
        """The documents that exist among these, in the order of their ids."""
        sql = f"SELECT id, doc FROM {self._table} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return self._documents(sql, (_ids(doc_ids),))

    def within(self, doc_ids: Sequence[int], most_bytes: int) -> tuple[list[Document], int]:
        """As ``get``, for the first of these ascending ids, until the documents have ``most_bytes``.

        Returns the documents, and how many of the ids were looked up.
        """
        sql = f"SELECT id, doc FROM {self._table} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        found: list[Document] = []
        for doc_id, text in self._walk(sql, (_ids(doc_ids),)):
            found.append(Document(decode(text), doc_id))
            most_bytes -= len(text)
            if most_bytes <= 0:
                return found, bisect_right(doc_ids, doc_id)
        return found, len(doc_ids)

    def put(self, texts: Iterable[tuple[int, str]]) -> None:
        """Insert or replace documents, which are given as JSON text; make the table, unless it is there."""
        self._write(lambda: self._connection.executemany(self.schema.put, texts))

    def put_all(self, text: str) -> None:
        """As ``put``, for an object with all documents by id. SQLite keeps the texts as they are in it."""
        self._write(lambda: self._connection.execute(self.schema.put_all, (text,)))

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except sqlite3.OperationalError as error:
            if not self.schema.is_missing(error):
                raise
            self.schema.create()  # SQLite has not taken anything yet
            write()

    def delete(self, doc_ids: Iterable[int]) -> list[int]:
        """Remove documents by id. Returns the ids that there were, ascending."""
        return self._delete(" WHERE id IN (SELECT value FROM json_each(?))", (_ids(doc_ids),))

    def delete_all(self) -> None:
        """Remove all documents and keep the table."""
        self._execute(f"DELETE FROM {self._table}", ())

    def select(
        self, where: Where, order: Literal["asc", "desc"], limit: int | None, offset: int
    ) -> list[Document]:
        """See `SqliteTable.page`. The inner query needs the index only; the outer reads what it returns."""
        if order not in ("asc", "desc"):
            raise ValueError(f"order: expected 'asc' or 'desc', got {order!r}")
        condition, values = self._conditions(where)
        page = f"SELECT id FROM {self._table}{condition} ORDER BY id {order} LIMIT ? OFFSET ?"
        sql = f"SELECT id, doc FROM {self._table} WHERE id IN ({page}) ORDER BY id {order}"
        return self._documents(sql, (*values, -1 if limit is None else limit, offset))

    def ids(self, where: Where, limit: int | None, offset: int) -> "array[int]":
        """See `SqliteTable.ids`. There may be a million of them."""
        condition, values = self._conditions(where)
        sql = f"SELECT id FROM {self._table}{condition} ORDER BY id LIMIT ? OFFSET ?"
        page = (*values, -1 if limit is None else limit, offset)
        return array("q", (doc_id for (doc_id,) in self._walk(sql, page)))

    def values(self, fields: Sequence[str], where: Where) -> list[tuple[Any, ...]]:
        """The id and some fields of the documents that fit, by id; no document is decoded."""
        condition, values = self._conditions(where)
        columns = ", ".join(("id", *(self.schema.expression(field) for field in fields)))
        return self._fetch(f"SELECT {columns} FROM {self._table}{condition} ORDER BY id", values)

    def last_values(self, fields: Sequence[str], where: Where) -> tuple[Any, ...] | None:
        """As ``values``, of the document with the highest id only; None: none fits."""
        condition, values = self._conditions(where)
        columns = ", ".join(("id", *(self.schema.expression(field) for field in fields)))
        sql = f"SELECT {columns} FROM {self._table}{condition} ORDER BY id DESC LIMIT 1"
        return next(iter(self._fetch(sql, values)), None)

    def distinct(self, field: str, wheres: Iterable[Where] = ()) -> list[Any]:
        """The values of a field in the documents that fit all conditions, each once, in order."""
        taken = self.schema.expression(field)
        terms, values = [f"{taken} IS NOT NULL"], []
        for where in wheres:
            some, their_values = self._terms(where)
            terms += some
            values += their_values
        sql = f"SELECT DISTINCT {taken} FROM {self._table} WHERE {' AND '.join(terms)} ORDER BY {taken}"
        return [value for (value,) in self._walk(sql, values)]

    def next_values(self, fields: Sequence[str], after: int, limit: int) -> list[tuple[Any, ...]]:
        """The id and some top-level fields of the next documents after an id, by id; no other row is read."""
        columns = ", ".join(("id", *(self.schema.expression(field) for field in fields)))
        sql = f"SELECT {columns} FROM {self._table} WHERE id > ? ORDER BY id LIMIT ?"
        return self._fetch(sql, (after, limit))

    def count(self, where: Where, most: int | None = None) -> int:
        """Number of documents that fit; ``most`` if there are more."""
        condition, values = self._conditions(where)
        if most is None:
            found = self._fetch(f"SELECT count(*) FROM {self._table}{condition}", values)
        else:
            fitting = f"SELECT 1 FROM {self._table}{condition} LIMIT ?"
            found = self._fetch(f"SELECT count(*) FROM ({fitting})", (*values, most))
        return int(found[0][0]) if found else 0

    def delete_where(self, where: Where) -> list[int]:
        """Remove the documents that fit. Returns their ids, ascending."""
        return self._delete(*self._conditions(where))

    def _delete(self, condition: str, values: Sequence[object]) -> list[int]:
        # Two statements, because the SQLite of a gateway may not know RETURNING.
        found = self._fetch(f"SELECT id FROM {self._table}{condition} ORDER BY id", values)
        self._execute(f"DELETE FROM {self._table}{condition}", values)
        return [doc_id for (doc_id,) in found]

    def _conditions(self, where: Where) -> tuple[str, list[str]]:
        """The WHERE clause of a condition (empty: there is no condition), and its parameters."""
        terms, values = self._terms(where)
        return (f" WHERE {' AND '.join(terms)}" if terms else ""), values

    def _terms(self, where: Where) -> tuple[list[str], list[str]]:
        """The terms of a condition, and their parameters."""
        terms, values = [], []
        for field, wanted in where.items():
            left = self.schema.expression(field)
            # Values travel as JSON, so that they are read by the same code as the documents' own.
            if wanted is None:
                terms.append(f"{left} IS NULL")
            elif isinstance(wanted, Contains):
                terms.append(f"instr(lower({left}), lower(json_extract(?, '$'))) > 0")
                values.append(encode(wanted))
            elif isinstance(wanted, Scalar):
                terms.append(f"{left} = json_extract(?, '$')")
                values.append(encode(wanted))
            elif isinstance(wanted, Present):
                terms.append(f"{left} IS NOT NULL")
            elif isinstance(wanted, Except):
                terms.append(f"({left} NOT IN (SELECT value FROM json_each(?)) OR {left} IS NULL)")
                values.append(encode(list(wanted)))
            else:
                null = f" OR {left} IS NULL" if None in wanted else ""
                terms.append(f"({left} IN (SELECT value FROM json_each(?)){null})")
                values.append(encode(list(wanted)))
        return terms, values

    def _documents(self, sql: str, values: Sequence[object]) -> list[Document]:
        return [Document(decode(text), doc_id) for doc_id, text in self._fetch(sql, values)]

    def _fetch(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        # All rows at once: an open cursor would hold its snapshot, and the log could not be cut.
        cursor = self._execute(sql, values)
        return cursor.fetchall() if cursor else []

    def _walk(self, sql: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """As ``_fetch``, row by row, for callers that take all rows at once or hold a snapshot anyway."""
        cursor = self._execute(sql, values)
        if cursor is not None:
            try:
                yield from cursor
            finally:
                cursor.close()

    def _execute(self, sql: str, values: Sequence[object]) -> sqlite3.Cursor | None:
        """Execute; None: the table does not exist. Between a question and this it might be dropped."""
        try:
            return self._connection.execute(sql, values)
        except sqlite3.OperationalError as error:
            if self.schema.is_missing(error):
                return None
            raise


class Snapshot(Mapping[str, dict[str, Any]]):
    """What TinyDB reads: documents by id as text, each decoded when it is asked for and never shared.

    One document is one lookup. A walk is one query, and sees the table as it was when the walk began.
    """

    def __init__(self, rows: TableRows) -> None:
        self._rows = rows
        self._texts: dict[int, str] | None = None

    def __getitem__(self, key: str) -> dict[str, Any]:
        text = self._rows.text(key) if self._texts is None else self._texts.get(int(key))
        if text is None:
            raise KeyError(key)
        return decode(text)  # type: ignore[no-any-return]  # every document is an object

    def __iter__(self) -> Iterator[str]:
        self._texts = self._rows.texts()
        return map(str, self._texts)

    def __len__(self) -> int:
        return self._rows.count({})


class Changes(MutableMapping[int, dict[str, Any]]):
    """What TinyDB changes: documents by id, loaded when asked for; `write` stores those that differ.

    TinyDB changes documents in place, so each one handed out is encoded again and compared with its text.
    """

    def __init__(self, rows: TableRows) -> None:
        self._rows = rows
        self._texts: dict[int, str] = {}  # stored text of each document that was read
        self._complete = False  # whether _texts has all stored documents
        self._cleared = False  # whether all stored documents are to be removed
        self._documents: dict[int, dict[str, Any] | None] = {}  # handed out or set; None: deleted

    def __getitem__(self, doc_id: int) -> dict[str, Any]:
        if doc_id not in self._documents:
            text = self._texts.get(doc_id) if self._complete else self._rows.text(doc_id)
            if text is None:
                raise KeyError(doc_id)
            self._texts[doc_id] = text
            self._documents[doc_id] = decode(text)
        document = self._documents[doc_id]
        if document is None:
            raise KeyError(doc_id)
        return document

    def __setitem__(self, doc_id: int, document: dict[str, Any]) -> None:
        self._documents[index(doc_id)] = document

    def __delitem__(self, doc_id: int) -> None:
        if doc_id not in self:
            raise KeyError(doc_id)
        self._documents[doc_id] = None

    def __iter__(self) -> Iterator[int]:
        if not self._complete:
            self._texts = self._rows.texts()
            self._complete = True
        for doc_id in dict.fromkeys((*self._texts, *self._documents)):
            if doc_id not in self._documents or self._documents[doc_id] is not None:
                yield doc_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Forget all documents without reading them."""
        self._texts.clear()
        self._documents.clear()
        self._complete = self._cleared = True

    def write(self) -> None:
        """Store the documents that differ. All are encoded before the first is written."""
        documents = self._documents.items()
        texts = [(doc_id, encode(document)) for doc_id, document in documents if document is not None]
        changed = [(doc_id, text) for doc_id, text in texts if self._texts.get(doc_id) != text]
        deleted = [doc_id for doc_id, document in documents if document is None]
        if self._cleared:
            self._rows.delete_all()
        else:
            self._rows.delete(deleted)
        self._rows.put(changed)


def _fits(value: Any, wanted: Scalar | Sequence[Scalar]) -> bool:
    if isinstance(wanted, Contains):
        return isinstance(value, str) and _lower(wanted) in _lower(value)
    if isinstance(wanted, Scalar):
        return bool(value == wanted)
    if isinstance(wanted, Present):
        return value is not None
    return (value in wanted) != isinstance(wanted, Except)


def _lower(text: str) -> str:
    """The text with a to z in small letters, as SQL's lower()."""
    return "".join(letter.lower() if "A" <= letter <= "Z" else letter for letter in text)


def _ids(doc_ids: Iterable[int]) -> str:
    return encode([index(doc_id) for doc_id in doc_ids])
