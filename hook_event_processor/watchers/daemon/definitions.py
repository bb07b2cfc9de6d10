"""What the database has for this daemon's watchers: their definitions, and the rows that say when they looked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from psycopg import Connection, DataError

from hook_event_processor.amount import counted
from hook_event_processor.store import watchers
from hook_event_processor.store.database import one_line
from hook_event_processor.store.watchers import Looked, Watcher
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import WatcherRefused
from hook_event_processor.watchers.daemon.looks import Looks

logger = logging.getLogger("Watchers")

_LOOKED_SECONDS = 5.0  # between two writings of when watchers have looked
_FAULT_SECONDS = 0.5
_REVISION_SECONDS = 2.0  # a notification that does not arrive is not missed


class Definitions:
    """Fetches definitions when they have changed, and tells what came of them."""

    def __init__(self, host: str, types: Sequence[str], looks: Looks) -> None:
        self._host = host
        self._types = types
        self._looks = looks
        self._revision: int | None = None
        self._revision_at = self._looked_at = 0.0
        self._unsaid: dict[str, Looked] = {}
        self._refused: dict[str, Looked] = {}

    @property
    def next_at(self) -> float:
        """When there is something to ask or to tell."""
        return min(self._revision_at, self._looked_at)

    def forget(self) -> None:
        """Fetch them anew, whatever their revision is."""
        self._revision = None

    def changed(self) -> None:
        """A notification says so."""
        self._revision_at = 0.0

    def faulty(self) -> None:
        """From any thread: what keeps a watcher from looking is to be told soon."""
        self._looked_at = min(self._looked_at, monotonic() + _FAULT_SECONDS)

    def fetch(self, connection: Connection, now: float) -> None:
        """Read them, when it is time to ask, and if they are other ones than before."""
        if now < self._revision_at and self._revision is not None:
            return
        self._revision_at = monotonic() + _REVISION_SECONDS
        # Before the rows: a change in between is found the next time.
        revision = watchers.revision(connection)
        if revision != self._revision:
            is_all = set(self._types) >= set(kinds.NAMES)
            rows = watchers.to_watch(connection, self._host, None if is_all else self._types)
            at = datetime.now(UTC)
            self._refused = {row.id: Looked(row.id, at, fault) for row in rows if (fault := _fault(row))}
            self._unsaid.update(self._refused)
            ours = [watcher for watcher in rows if watcher.type in self._types and watcher.id not in self._refused]
            self._looks.define([_row(watcher) for watcher in ours])
            self._revision = revision

    def tell(self, connection: Connection, now: float) -> None:
        """Say which watchers have looked, when it is time."""
        if now >= self._looked_at:
            self.tell_now(connection)

    def tell_now(self, connection: Connection) -> None:
        self._looked_at = monotonic() + _LOOKED_SECONDS
        # Those that are refused may have looked before they were.
        taken = [looked for looked in self._looks.take_looked() if looked.id not in self._refused]
        self._unsaid.update((looked.id, looked) for looked in taken)
        if self._unsaid:
            locked: set[str] = set()
            try:
                locked = watchers.say_looked(connection, list(self._unsaid.values()))
            except DataError as fault:
                # Said again it would be refused again, and nothing else would be sent any more.
                what = counted(len(self._unsaid), "watcher")
                logger.error("how %s looked is lost, the database refuses it: %s", what, one_line(fault))
            self._unsaid = {looked.id: looked for looked in self._unsaid.values() if looked.id in locked}


def _fault(watcher: Watcher) -> str | None:
    """Why a row, written past the command line, is none of a watcher of any type; None for no reason."""
    try:
        kinds.kind(watcher.type)
    except WatcherRefused as fault:
        return str(fault)
    return watcher.config.fault


def _row(watcher: Watcher) -> Mapping[str, Any]:
    """A definition as the local store keeps it."""
    config = watcher.config
    return {
        "id": watcher.id,
        "type": watcher.type,
        "conditions": config.conditions,
        "options": config.options,
        "interval": config.interval,
        "name": watcher.name,
        "stack": watcher.stack,
    }
