"""A table in ranges of pages: each is read once, in the order of the disk, and no index is needed.

An index that finds old rows would cost every acknowledgement an entry, or the
place on its own page (sql/0019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import Connection

from hook_event_processor.store.cleanup.pace import Pace


@dataclass(frozen=True, slots=True)
class Range:
    """Pages of a table, as ctids for `ctid >= first AND ctid < last`, and how much of the table is done by then."""

    first: str
    last: str
    done: float


def ranges(connection: Connection, table: str, pace: Pace) -> Iterator[Range]:
    """The table as it is now; the pace decides how many pages come next."""
    row = connection.execute(
        "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint", (table,)
    ).fetchone()
    pages = int(row[0]) if row else 0
    page = 0
    while page < pages:
        last = page + pace.pages
        yield Range(f"({page},0)", f"({last},0)", min(1.0, last / pages))
        page = last
