"""The copy, on this host's disk, of who the watchers are: with it they begin while the database is away."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from hook_event_processor.watchers.daemon.ledger import RETRY_SECONDS
from hook_event_processor.watchers.daemon.local_store import LocalStore, subject

logger = logging.getLogger("Watchers")


class Copy:
    """Keeps the watchers' rows, as store.watchers has them, and tries again where the disk does not take them."""

    def __init__(self, store: LocalStore, with_states: Callable[[], Collection[str]]) -> None:
        """`with_states` says which watchers are at work and may have left states: keep_definitions() leaves theirs."""
        self._store = store
        self._with_states = with_states
        self._unkept: Sequence[Mapping[str, Any]] | None = None  # what it is to be, once the disk takes it
        self._keep_at = 0.0

    def next_due(self) -> float | None:
        """When it is to be written again; None while it is as it should be."""
        return None if self._unkept is None else self._keep_at

    def keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write it, or have it tried again; those that are at work may have left states by then."""
        try:
            self._store.keep_definitions(rows, self._with_states())
        except sqlite3.Error as fault:
            if self._unkept is None:
                logger.error("the copy of the watchers cannot be written, trying again: %s", fault)
            self._unkept, self._keep_at = rows, monotonic() + RETRY_SECONDS
        else:
            self._unkept = None

    def see_to(self, now: float) -> None:
        """Try again, when it is time."""
        if self._unkept is not None and now >= self._keep_at:
            self.keep(self._unkept)

    def read(self) -> Sequence[Mapping[str, Any]] | None:
        """What was kept; None when it cannot be read."""
        try:
            return self._store.definitions()
        except (sqlite3.Error, ValueError) as fault:
            logger.error("the copy of the watchers cannot be read: %s", fault)
            return None

    def states(self, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What new watches go on from, by id."""
        try:
            states = self._store.states()
            if self._unkept is not None:  # then those of what was looked at before are there still
                for row in self._store.definitions():
                    if row["id"] in wanted and subject(row) != subject(wanted[row["id"]]):
                        states.pop(row["id"], None)
            return states
        except (sqlite3.Error, ValueError) as fault:
            logger.error("the watchers' states cannot be read, all begin anew: %s", fault)
            return {}
