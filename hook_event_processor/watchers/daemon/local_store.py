"""What a host keeps of its watchers on its own disk: definitions, states, and events that wait to be sent."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hook_event_processor.watchers.daemon import spool
from hook_event_processor.watchers.daemon.salvage import Salvage, side_files
from hook_event_processor.watchers.daemon.spool import Limits, SpooledEvent, Total

logger = logging.getLogger("Watchers")

_VERSION = 1
_BUSY_MS = 5000  # for the daemon of other types of the same host
_FILLED_SECONDS = 60.0  # within which a store that was made has its tables
_TABLES = """
CREATE TABLE IF NOT EXISTS definitions (id TEXT PRIMARY KEY, type TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS states (id TEXT PRIMARY KEY, type TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


# A watcher's id and type, and its state as JSON.
State = tuple[str, str, bytes]


class LocalStore:
    """An SQLite file in WAL mode. May be used by any thread, and by daemons of different types at once.

    sqlite3's own errors pass through: a full disk, say.
    """

    def __init__(self, path: Path, types: Sequence[str], limits: Limits) -> None:
        """Opens or makes the file; one that is damaged is set aside, and what can be read of it taken over."""
        self._path = path
        self._types = tuple(types)
        self.limits = limits
        self._lock = threading.Lock()
        self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        was_emptied = self._was_emptied()
        try:
            opened = _open(self._path)
        except sqlite3.DatabaseError as fault:
            if isinstance(fault, sqlite3.OperationalError):  # the disk, not the file
                raise
            return self._begin_anew(fault)
        if was_emptied:
            logger.error("%s was empty: what watchers knew and the events to be sent are lost", self._path)
        return opened

    def _was_emptied(self) -> bool:
        """An empty file is a new store to SQLite. One that another daemon has just made is filled in a moment."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        return status.st_size == 0 and time.time() - status.st_mtime > _FILLED_SECONDS

    def _begin_anew(self, fault: sqlite3.DatabaseError) -> sqlite3.Connection:
        aside = self._path.with_suffix(f".unreadable-{time.time_ns()}")
        for file, suffix in side_files(self._path):
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))
        saved = Salvage(aside)
        connection = _open(self._path)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO definitions VALUES (?, ?, ?)", saved.definitions)
        connection.executemany("INSERT INTO states VALUES (?, ?, ?)", saved.states)
        spool.append(connection, saved.events, self.limits)
        connection.execute("COMMIT")
        logger.error(
            "%s is damaged (%s): it is now %s, and what could be read of it goes on: %d watchers, %d events to be sent",
            *(self._path, fault, aside.name, len(saved.definitions), len(saved.events)),
        )
        return connection

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def definitions(self) -> list[Mapping[str, Any]]:
        """The copy of the definitions of the daemon's types."""
        query = f"SELECT body FROM definitions WHERE type IN ({self._marks}) ORDER BY id"
        with self._lock:
            rows = self._connection.execute(query, self._types).fetchall()
        return [json.loads(row[0]) for row in rows]

    def keep_definitions(self, definitions: Sequence[Mapping[str, Any]], fresh: Collection[str] = ()) -> None:
        """Replace the copy of the definitions of the daemon's types.

        The states of those that are gone, or that look at something else now,
        go too, but not of the `fresh`, by id: theirs are of what they look at now.
        """
        rows = {row["id"]: (row["id"], row["type"], json.dumps(row, sort_keys=True).encode()) for row in definitions}
        with self._transaction(durable=True) as connection:
            query = f"SELECT id, body FROM definitions WHERE type IN ({self._marks})"
            old = dict(connection.execute(query, self._types).fetchall())
            if old == {row[0]: row[2] for row in rows.values()}:
                return
            other = [
                (watcher_id,)
                for watcher_id, body in old.items()
                if watcher_id not in rows
                or (watcher_id not in fresh and subject(json.loads(body)) != subject(json.loads(rows[watcher_id][2])))
            ]
            connection.executemany("DELETE FROM states WHERE id = ?", other)
            connection.execute(f"DELETE FROM definitions WHERE type IN ({self._marks})", self._types)
            connection.executemany("INSERT INTO definitions VALUES (?, ?, ?)", rows.values())

    def states(self) -> dict[str, Any]:
        """What the watchers of the daemon's types left for the next start, by id."""
        query = f"SELECT id, body FROM states WHERE type IN ({self._marks})"
        with self._lock:
            return {row[0]: json.loads(row[1]) for row in self._connection.execute(query, self._types)}

    def keep(self, states: Sequence[State], events: Sequence[SpooledEvent]) -> int:
        """Write what looks left, states and events together; returns how many events were given up.

        Events are on the disk when it returns. States alone reach it when the
        system likes: what happened after an older one is noticed again.
        """
        with self._transaction(durable=bool(events)) as connection:
            connection.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", states)
            return spool.append(connection, events, self.limits) if events else 0

    def total(self) -> Total:
        with self._lock:
            return spool.total(self._connection)

    def first(self, limit: int) -> list[tuple[int, str, bytes]]:
        """The oldest events that this daemon sends: number, id and body of each."""
        with self._lock:
            return spool.first(self._connection, self._types, limit)

    def remove(self, sent: Sequence[tuple[int, str]]) -> None:
        """Remove events, by number and id, that the database has. Not durable: what comes back is known there."""
        with self._transaction(durable=False) as connection:
            spool.remove(connection, sent)

    def tell_dropped(self, event_of: Callable[[int], SpooledEvent]) -> None:
        """Spool the event that tells how many were given up, if any were; `event_of` makes it of their number."""
        if not self.total().dropped:
            return
        with self._transaction(durable=True) as connection:
            spool.tell_dropped(connection, event_of)

    def other_types(self) -> list[str]:
        """The types of spooled events that are for daemons of other types to send."""
        with self._lock:
            return spool.other_types(self._connection, self._types)

    def release(self, type_name: str) -> None:
        """Let every daemon send the events of a type."""
        with self._transaction(durable=False) as connection:
            spool.release(connection, type_name)

    def note(self, name: str) -> str | None:
        """What was noted under a name."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def keep_note(self, name: str, value: str) -> None:
        with self._transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    @property
    def _marks(self) -> str:
        return ", ".join("?" * len(self._types))

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        with self._lock:
            # In WAL mode: whether a commit waits for the disk.
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def subject(definition: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a state is of: when it is another one, the state says nothing any more."""
    return definition["type"], definition["options"], definition["conditions"]


def _open(path: Path) -> sqlite3.Connection:
    # Serialized by our own lock; transactions are begun by hand.
    connection = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = -256")  # KB: it is written, and hardly read
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} {spool.TABLES} PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, this program works with {_VERSION}")
        spool.total(connection)
        [whole] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if whole != "ok":
            raise sqlite3.DatabaseError(whole)
    except BaseException:
        connection.close()
        raise
    return connection
