# ruff: noqa: S608 - the names in the SQL are this package's own; values are parameters
"""The tables, and the steps from one format of them to the next.

Documents are text, as they are in the file: ``jsonb`` refuses some texts that JSON allows. What SQL asks for
stands in columns beside. Requests and items of a job have the ids ``first`` to ``first + total - 1``, so that
they need no index by job. What changes often is in no index, so that a changed row stays on its page.

Steps expand first: an earlier version goes on with what is there. What it needed goes in a later step, which
raises ``least``, the oldest format that a version must know.
"""

from collections.abc import Mapping

import psycopg

from puppetmaster.errors import StoreError
from puppetmaster.store.postgres.connection import Connection

FORMAT = 5
#: The format of tables that are made now, before the steps.
FIRST_FORMAT = 1
#: The bus of an installation that has one.
BUS = 1
#: Held while tables are made or changed.
LOCK = 7_074_757_265

TABLES = """
CREATE TABLE meta (
    id int PRIMARY KEY CHECK (id = 1),
    format int NOT NULL,       -- which steps were done
    least int NOT NULL,        -- a version that knows only older formats must not use it
    installation text NOT NULL,
    cluster text NOT NULL      -- of which cluster and database it is; elsewhere it is a copy
);
CREATE TABLE buses (
    id int PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,   -- counts the leaders
    turn bigint NOT NULL DEFAULT 0,    -- counts what they committed
    owner text,                        -- the name of the leader's sessions; null: nobody leads
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    tunnel text,                       -- on which the leader is registered with the controller
    next_job bigint NOT NULL,
    next_request bigint NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE jobs (
    id bigint PRIMARY KEY,
    first bigint NOT NULL,
    total bigint NOT NULL,
    status text NOT NULL,
    name text COLLATE "C",
    key text COLLATE "C",
    finished_at text,
    ended_boot text,
    ended_s float8,
    failed boolean NOT NULL,
    large bigint NOT NULL,     -- bytes of its documents, as far as they are large
    doc text NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX jobs_key ON jobs (key) WHERE key IS NOT NULL;
CREATE TABLE items (
    id bigint PRIMARY KEY,
    job bigint NOT NULL,
    resource text COLLATE "C",
    doc text NOT NULL
);
CREATE TABLE requests (
    id bigint PRIMARY KEY,
    job bigint NOT NULL,
    destination text COLLATE "C" NOT NULL,
    status text NOT NULL,
    doc text NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX requests_destination ON requests (destination, id);
CREATE TABLE sendings (
    id bigint PRIMARY KEY,
    request bigint NOT NULL,
    job bigint NOT NULL
);
CREATE INDEX sendings_job ON sendings (job);
CREATE TABLE trash (
    id bigint PRIMARY KEY,
    first bigint NOT NULL,
    total bigint NOT NULL,
    draft boolean NOT NULL
);
CREATE TABLE gateways (
    name text COLLATE "C" PRIMARY KEY,
    labels jsonb NOT NULL,
    doc text NOT NULL
);
"""
NAMES = ("meta", "buses", "jobs", "items", "requests", "sendings", "trash", "gateways")

#: What the steps add to them.
ADDED = ("templates", "outbox", "orders", "changes")

_TEMPLATES = """
ALTER TABLE buses ADD COLUMN next_template bigint NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN template bigint;
CREATE INDEX jobs_template ON jobs (template) WHERE template IS NOT NULL;
CREATE TABLE templates (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    doc text NOT NULL
);
CREATE INDEX templates_name ON templates (name);
"""
_OUTBOX = """
CREATE TABLE outbox (
    id bigint PRIMARY KEY,
    doc text NOT NULL
);
"""
#: What others want of the leader, and what it tells them. It is not for keeps: a crash of the server
#: empties it, and nobody waits for the disk.
_ORDERS = """
CREATE UNLOGGED TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reply text NOT NULL,         -- the channel on which the asker is told that there is an answer
    asked text NOT NULL,
    until timestamptz NOT NULL,  -- later it is not begun any more
    epoch bigint,                -- of the leader that has taken it; null: none has
    answer text
);
CREATE UNLOGGED TABLE changes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch bigint NOT NULL,       -- of the leader that tells it
    at timestamptz NOT NULL DEFAULT now(),
    doc text NOT NULL
);
"""
#: A request grows twice, when it is sent and when it ends. With this much room its row stays on its page, and
#: touches no index, even when all rows of the page change in one turn.
_ROOM = "ALTER TABLE requests SET (fillfactor = 30);"
#: Format -> the statements that lead to it from the format before, and the new ``least``.
STEPS: Mapping[int, tuple[str, int]] = {
    2: (_TEMPLATES, 1),
    3: (_OUTBOX, 1),
    4: (_ORDERS, 1),
    5: (_ROOM, 1),
}

#: Which cluster and database this is.
CLUSTER = """
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || oid::text
FROM pg_database WHERE datname = current_database()
"""


def make(connection: Connection, installation: str, first_request: int, place: str) -> None:
    """Make the tables, unless they are there. Raises StoreError: other tables are there."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        sql = "SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(quote_ident(name)) IS NOT NULL"
        there = {str(name) for (name,) in connection.execute(sql, [list(NAMES)])}
        if there == set(NAMES):
            return
        if there:
            raise StoreError(foreign(place))
        permitted(connection, place)
        connection.execute(TABLES)
        connection.execute(
            f"INSERT INTO meta SELECT 1, %s, %s, %s, ({CLUSTER})", [FIRST_FORMAT, FIRST_FORMAT, installation]
        )
        sql = "INSERT INTO buses (id, next_job, next_request) VALUES (%s, 1, %s)"
        connection.execute(sql, [BUS, first_request])


def permitted(connection: Connection, place: str) -> None:
    """Raises StoreError: the user may make no tables. From PostgreSQL 15 on only a database's owner may."""
    sql = "SELECT current_user, schema, has_schema_privilege(schema, 'CREATE') FROM current_schema() schema"
    user, schema, granted = connection.execute(sql).fetchone() or ("", None, False)
    if not granted:
        raise StoreError(
            f"{place} lets {user} make no tables: make {user} its owner (ALTER DATABASE .. OWNER TO), or "
            f"GRANT CREATE ON SCHEMA {schema or 'public'} TO {user}."
        )


def foreign(place: str) -> str:
    """The sentence for a database that has other tables."""
    return (
        f"{place} has tables of another program, or a part of ours: it is no store of puppetmaster's; "
        "give puppetmaster a database of its own."
    )


def check(connection: Connection, place: str) -> str:
    """Raises StoreError: this version cannot use these tables. Returns the name of the installation."""
    try:
        found = connection.execute("SELECT format, least, installation FROM meta").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StoreError(foreign(place)) from error
    if found is None:
        raise StoreError(foreign(place))
    format_, least, installation = found
    if least > FORMAT:
        raise StoreError(
            f"{place} has format {format_} and this version reads up to {FORMAT}: "
            "use the version that wrote it, or a newer one; nothing was changed."
        )
    return str(installation)


def moved(connection: Connection) -> bool:
    """Whether the tables were made in another cluster or database: then they are a copy."""
    found = connection.execute(f"SELECT cluster <> ({CLUSTER}) FROM meta").fetchone()
    return found is not None and bool(found[0])


def bring_up(connection: Connection) -> list[int]:
    """Do the steps that are missing, each in one transaction. Returns the formats that were reached."""
    done = []
    (there,) = connection.execute("SELECT format FROM meta").fetchone() or (FORMAT,)
    for format_, (sql, least) in sorted((one, step) for one, step in STEPS.items() if one > there):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            (now,) = connection.execute("SELECT format FROM meta").fetchone() or (FORMAT,)
            if now < format_:
                connection.execute(sql)
                connection.execute("UPDATE meta SET format = %s, least = %s", [format_, least])
                done.append(format_)
    return done
