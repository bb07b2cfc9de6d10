"""Whether there is news of the fleet, asked in one statement by every idle processor."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store import hosts, processors


class News(NamedTuple):
    """Of which there is any."""

    hosts: bool
    processors: bool


def find(connection: Connection, version: str) -> News:
    """`version` is that of this processor, from which those of hosts may differ."""
    with connection.cursor(row_factory=class_row(News)) as cursor:
        query = f"SELECT {hosts.HAS_NEWS} AS hosts, {processors.HAS_NEWS} AS processors"
        return cursor.execute(query, {"version": version}).fetchone() or News(False, False)
