# ruff: noqa: S608 - names in the SQL come from identifier() and expression(), which let no quote through
"""How SQL names tables, fields and indexes, and what a table of documents consists of.

What SQLite itself reads of a document, for indexes and conditions, is narrower than JSON: an integer beyond
64 bits is a float, a text may end at its first NUL, an object or a list is its JSON text, true is 1, and a
document nested beyond 2,000 levels is refused. So indexes and conditions belong on small fields: ids,
states, names.
"""

import re
import sqlite3
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes


class Partial(tuple[str, ...]):
    """The fields of an index that leaves out the documents in which the first of them is null or absent."""

    __slots__ = ()


class Fixed(tuple[str, ...]):
    """The fields of an index that stay as they were when their document came: a change is refused.

    They are kept beside the document, so that its other changes do not touch the index. An index of any
    other kind is written to with each of them.
    """

    __slots__ = ()


class Schema:
    """A table with its indexes: how it is named, made, brought up to date and dropped."""

    def __init__(
        self, connection: sqlite3.Connection, name: str, indexes: Iterable[tuple[str, ...]] = ()
    ) -> None:
        indexes = list(indexes)
        self.name = f"doc_{identifier(name)}"
        self.table = f'"{self.name}"'
        self._connection = connection
        #: How the fields that are kept beside the document come out of it, by their columns.
        self._kept = {
            f"fixed_{field}": expression(field)
            for fields in indexes
            if isinstance(fields, Fixed)
            for field in fields
        }
        self._indexes = {}
        for fields in indexes:
            kind = (
                "partial"
                if isinstance(fields, Partial)
                else "fixed"
                if isinstance(fields, Fixed)
                else "index"
            )
            key = f"{kind}_{'.'.join(identifier(part) for part in (name, *fields))}"
            columns = ", ".join(map(self.expression, fields))
            only = f" WHERE {self.expression(fields[0])} IS NOT NULL" if kind == "partial" else ""
            self._indexes[key] = f'CREATE INDEX IF NOT EXISTS "{key}" ON {self.table} ({columns}){only}'
        columns, values = ", ".join(["id", "doc", *self._kept]), ", ".join(["?", "?", *self._taken("?")])
        #: Inserts or replaces a document, which comes as its id and, so many times, its text.
        self.put = (
            f"INSERT INTO {self.table} ({columns}) VALUES ({values}) "
            "ON CONFLICT (id) DO UPDATE SET doc = excluded.doc"
        )
        self.texts = 1 + len(self._kept)

    def expression(self, field: str) -> str:
        """How SQL names a top-level field of this table."""
        taken = expression(field)
        return f"fixed_{field}" if f"fixed_{field}" in self._kept else taken

    def _taken(self, document: str) -> list[str]:
        return [taken.replace("doc", document, 1) for taken in self._kept.values()]

    def exists(self) -> bool:
        """Whether the table has been written, also when it is empty now."""
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        return bool(self._connection.execute(sql, (self.name,)).fetchall())

    def create(self) -> None:
        """Make the table and its indexes, unless the table is there."""
        if not self.exists():
            self._connection.execute(self._create(self.table))
            self._create_indexes()

    def bring_up(self) -> None:
        """Give a table from an earlier time the columns and indexes that it is to have, and no others."""
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
    """The name in a-z, 0-9 and _ only, all else as %xx: SQL names know no case, and a quote would end one."""
    encoded = name.encode("utf-8", "surrogatepass")
    return re.sub(rb"[^a-z0-9_]", lambda match: b"%%%02x" % match[0][0], encoded).decode("ascii")


def name_of(encoded: str) -> str:
    """The name that `identifier` encoded."""
    return unquote_to_bytes(encoded).decode("utf-8", "surrogatepass")


def expression(field: str) -> str:
    """How SQL takes a top-level field out of a document; letter by letter the same wherever it is used."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", field):
        raise ValueError(f"expected a field of letters, digits and _, not digit first, got {field!r}")
    return f"json_extract(doc, '$.{field}')"
