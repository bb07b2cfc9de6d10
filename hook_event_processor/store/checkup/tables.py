"""The tables: dead rows, bloated indexes, storage parameters, and what this role may do with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the statistics have it; `autovacuum` False where its own parameters turn it off."""

    name: str
    live: int
    dead: int
    autovacuum: bool
    last_vacuum_seconds: float | None


_TABLES = """
SELECT c.relname AS name, coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
       coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'autovacuum_enabled'), true) AS autovacuum,
       extract(epoch FROM now() - greatest(s.last_autovacuum, s.last_vacuum))::float8 AS last_vacuum_seconds
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass)
  AND c.relkind IN ('r', 'p') AND c.relname = ANY(%s)
ORDER BY c.relname
"""


def tables(connection: Connection, names: Sequence[str]) -> list[Table]:
    """Those of the tables that are there, by name."""
    with connection.cursor(row_factory=class_row(Table)) as cursor:
        return cursor.execute(_TABLES, (list(names),)).fetchall()


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its size, and how many entries it had when it was last cleaned; -1 for never."""

    name: str
    bytes: int
    entries: float
    predicate: str


_INDEXES = """
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes, c.reltuples::float8 AS entries,
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') AS predicate
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = 'hook_events'::regclass AND m.amname = 'btree' AND i.indisvalid AND c.relname = ANY(%s)
ORDER BY c.relname
"""


def indexes(connection: Connection, names: Sequence[str]) -> list[Index]:
    """Those of the event table's indexes that are there, valid, and B-trees, by name."""
    with connection.cursor(row_factory=class_row(Index)) as cursor:
        return cursor.execute(_INDEXES, (list(names),)).fetchall()


def entries(connection: Connection, index: Index, limit: int) -> int:
    """How many events belong into the index now, counted up to `limit`."""
    row = connection.execute(
        # The predicate is the catalog's own text.
        f"SELECT count(*) FROM (SELECT FROM hook_events WHERE {index.predicate} LIMIT %s) AS few",
        (limit,),
    ).fetchone()
    return int(row[0]) if row else 0


def lacking(connection: Connection, needed: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What of the privileges that are needed, by table, this role does not have.

    A privilege is a word such as SELECT; UPDATE is had with any column of it.
    A table that is not there lacks nothing.
    """
    rows = connection.execute(
        """
        SELECT wanted.name, wanted.privilege
        FROM unnest(%s::text[], %s::text[]) AS wanted(name, privilege), to_regclass(quote_ident(wanted.name)) AS found
        WHERE found IS NOT NULL AND NOT CASE wanted.privilege
            WHEN 'DELETE' THEN has_table_privilege(found, 'DELETE')
            ELSE has_any_column_privilege(found, wanted.privilege)
        END
        """,
        (
            [name for name, privileges in needed.items() for _ in privileges],
            [privilege for privileges in needed.values() for privilege in privileges],
        ),
    ).fetchall()
    found: dict[str, list[str]] = {}
    for name, privilege in rows:
        found.setdefault(name, []).append(privilege)
    return found


def vacuum(connection: Connection, table: str) -> None:
    """Remove dead rows and count anew; `connection` is in autocommit."""
    connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def rebuild(connection: Connection, index: str) -> None:
    """Build an index anew beside the one that is read meanwhile; `connection` is in autocommit."""
    statement = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(index))
    build(connection, index, statement.as_string(connection))


def build(connection: Connection, index: str, statement: str) -> None:
    """Run what builds an index concurrently, however long it takes; `connection` is in autocommit.

    It waits for transactions that began before it. What it leaves when it fails is dropped.
    """
    before = _half_built(connection, index)
    try:
        with _patient(connection):
            connection.execute(statement)
    except BaseException:
        # Under the session's own timeouts, for whoever has interrupted it. What cannot be dropped is found again.
        with suppress(psycopg.Error):
            for left in _half_built(connection, index) - before:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {left}")
        raise


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """Without an end to statements, nor to waiting for locks: that is how an index waits for transactions."""
    change = "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)"
    before = connection.execute(
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    ).fetchone()
    connection.execute(change, ("0", "0"))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(change, before)


def _half_built(connection: Connection, index: str) -> set[str]:
    """Names as SQL has them: the index where it is not valid, what attempts to build it anew have left beside it."""
    rows = connection.execute(
        """
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE NOT i.indisvalid AND %s::text IN (c.relname, regexp_replace(c.relname, '_cc(new|old)[0-9]*$', ''))
          AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass)
        """,
        (index,),
    ).fetchall()
    return {name for (name,) in rows}


def reset_autovacuum(connection: Connection, table: str) -> None:
    """Take back that a table is left out by autovacuum."""
    connection.execute(sql.SQL("ALTER TABLE {} RESET (autovacuum_enabled)").format(sql.Identifier(table)))
