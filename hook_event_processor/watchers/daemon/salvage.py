"""What can still be read of a store that was damaged: definitions, states, and the events that were not sent yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from hook_event_processor.watchers.daemon.spool import SpooledEvent

Rows = list[tuple[Any, ...]]


class Salvage:
    """Reads a store that SQLite calls malformed, each table from both ends until it meets what cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.definitions: Rows = []
        self.states: Rows = []
        self.events: list[SpooledEvent] = []
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error:
            return
        try:
            self.definitions = [row for row in _rows(connection, "definitions", "id, type, body") if _is_json(row[2])]
            self.states = [row for row in _rows(connection, "states", "id, type, body") if _is_json(row[2])]
            self.events = [
                SpooledEvent(event_id, body, type_)
                for _, event_id, body, type_ in _rows(connection, "spool", "seq, id, body, type")
                if _is_event(event_id, body, type_)
            ]
        finally:
            connection.close()


def _rows(connection: sqlite3.Connection, table: str, columns: str) -> Rows:
    """What can be read, by the first column, which tells rows apart."""
    key = columns.split(",")[0]
    rows: dict[Any, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        for row in _until_unreadable(connection, f"SELECT {columns} FROM {table} ORDER BY {key} {order}"):
            if row[0] in rows and order == "DESC":
                break
            rows[row[0]] = row
    try:
        return [rows[key] for key in sorted(rows)]
    except TypeError:  # a key that is of another type than the others: not ours
        return []


def _until_unreadable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from connection.execute(query)
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _is_event(event_id: object, body: object, type_: object) -> bool:
    try:
        UUID(str(event_id))
    except ValueError:
        return False
    return isinstance(type_, str) and _is_json(body)


def _is_json(body: object) -> bool:
    try:
        return isinstance(body, bytes) and isinstance(orjson.loads(body), dict | list)
    except orjson.JSONDecodeError:
        return False


def side_files(path: Path) -> Sequence[tuple[Path, str]]:
    """A store's file and those that SQLite keeps beside it, with what their names end in."""
    return [(path.with_name(path.name + suffix), suffix) for suffix in ("", "-wal", "-shm")]
