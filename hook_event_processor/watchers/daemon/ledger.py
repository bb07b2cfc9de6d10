"""What looks have left and is still to be written down: together, and again when the disk refuses it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

from hook_event_processor.amount import counted
from hook_event_processor.watchers.check import Definition
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.local_store import LocalStore, State
from hook_event_processor.watchers.daemon.spool import SpooledEvent
from hook_event_processor.watchers.daemon.watch import Outcome

logger = logging.getLogger("Watchers")

_STATES_SECONDS = 0.5  # states without events wait for others, but the first of a watcher
RETRY_SECONDS = 1.0  # until what the disk refused is tried again
# Events in memory while the disk refuses them.
_MAX_HELD = 10_000
_MAX_HELD_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024  # that a disk may take which refused all at once


class Ledger:
    """Not for several threads at once."""

    def __init__(self, store: LocalStore, envelopes: Envelopes, spooled: Callable[[], None]) -> None:
        self._store = store
        self._envelopes = envelopes
        self._spooled = spooled
        self._states: dict[str, State] = {}
        self._events: list[SpooledEvent] = []
        self._bytes = 0  # of these events
        self._write_at: float | None = None
        self._fault = ""
        self._lost = 0
        self._dropping = False

    def add(self, definition: Definition, outcome: Outcome) -> None:
        """Take down what a look left; events, and a watcher's first state, are due to be written now.

        Without a first state the next start would begin anew, and miss what had changed until then.
        """
        if outcome.state is not None:
            self._states[definition.id] = (definition.id, definition.type, outcome.state)
        self._events += outcome.events
        self._bytes += _size(outcome.events)
        if (outcome.events or outcome.is_first) and not self._fault:
            self._write_at = 0.0
        elif self._write_at is None and self._states:
            self._write_at = monotonic() + _STATES_SECONDS
        if self._surplus():
            self._make_room()

    def _make_room(self) -> None:
        """Have no more events than may be held: the oldest are lost if the disk refuses them."""
        if not self._fault:
            self.write(float("inf"))
        surplus = self._surplus()
        self._lost += surplus
        self._forget_oldest(surplus)

    def _surplus(self) -> int:
        """How many of the oldest events are more than may be held."""
        surplus = max(len(self._events) - _MAX_HELD, 0)
        size = self._bytes - _size(self._events[:surplus])
        while size > _MAX_HELD_BYTES:
            size -= len(self._events[surplus].body)
            surplus += 1
        return surplus

    def _forget_oldest(self, count: int) -> None:
        self._bytes -= _size(self._events[:count])
        del self._events[:count]

    @property
    def fault(self) -> str:
        """Why nothing can be written; empty while it can."""
        return self._fault

    def forget(self, watcher_id: str) -> None:
        """A state is not to be written: its watcher looks at something else."""
        self._states.pop(watcher_id, None)

    def next_due(self) -> float | None:
        """When there is something to be written; None when there is nothing."""
        return self._write_at

    def write(self, now: float) -> None:
        """Write what is due; what cannot be written is kept for the next time."""
        if self._write_at is None or now < self._write_at:
            return
        count, dropped = len(self._events), 0
        try:
            # All at once, states with their events; where that was refused, events as far as the disk takes them.
            while self._fault and (piece := self._piece()):
                dropped += self._store.keep((), piece)
                self._forget_oldest(len(piece))
            dropped += self._store.keep(list(self._states.values()), [*self._events, *self._warning()])
            self._forget_oldest(len(self._events))
        except sqlite3.Error as fault:
            if str(fault) != self._fault:
                logger.error("the spool cannot be written, trying again: %s", fault)
            self._fault = str(fault)
            self._write_at = monotonic() + RETRY_SECONDS
        else:
            if self._fault:
                logger.info("the spool can be written again; %s", self._were_lost())
            self._states, self._write_at, self._fault, self._lost = {}, None, "", 0
        written = count - len(self._events)
        self._say_dropped(dropped, written)
        if written:
            self._spooled()

    def _piece(self) -> list[SpooledEvent]:
        """The oldest events, at least one, that come to so many bytes; none when all are so few."""
        size = 0
        for count, event in enumerate(self._events):
            size += len(event.body)
            if size > _PIECE_BYTES:
                return self._events[: max(count, 1)]
        return []

    def _warning(self) -> list[SpooledEvent]:
        if not self._lost:
            return []
        message = f"{self._were_lost()} while the spool could not be written: {self._fault}"
        data = {"component": "watcher", "message": message, "severity": "error", "lost": self._lost}
        return [self._envelopes.own("system.warning", data, datetime.now(UTC))]

    def _were_lost(self) -> str:
        return f"{counted(self._lost, 'event')} {'was' if self._lost == 1 else 'were'} lost"

    def _say_dropped(self, dropped: int, written: int) -> None:
        if dropped and not self._dropping:
            logger.warning("the spool is full: events are given up, and counted (SPOOL_MAX_EVENTS, SPOOL_MAX_MB)")
        if dropped or written:
            self._dropping = bool(dropped)


def _size(events: Sequence[SpooledEvent]) -> int:
    return sum(len(event.body) for event in events)
