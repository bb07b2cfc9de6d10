"""What is to be said of watchers that have looked, and which of them cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from hook_event_processor.store.watchers import Looked
from hook_event_processor.watchers.daemon.envelope import storable
from hook_event_processor.watchers.daemon.watch import Watch


class Reports:
    """The latest of each watcher, until it is taken."""

    def __init__(self, faulty: Callable[[], None]) -> None:
        """`faulty` is called when a fault has come or gone."""
        self._faulty = faulty
        self._errors: dict[str, str] = {}
        self._looked: dict[str, Looked] = {}
        self._lock = threading.Lock()

    @property
    def failing(self) -> int:
        """How many cannot look."""
        return len(self._errors)

    def of(self, watch: Watch, error: str | None) -> None:
        """It has looked, or tried to."""
        self.note(watch.definition.id, watch.checked_at, error)

    def note(self, watcher_id: str, checked_at: datetime | None = None, error: str | None = None) -> None:
        """It was at work, if ever, at that time; None for no fault."""
        error = error and storable(error)  # it may hold what a program has printed
        with self._lock:
            self._looked[watcher_id] = Looked(watcher_id, checked_at or datetime.now(UTC), error)
        if error != self._errors.get(watcher_id):
            self._errors.pop(watcher_id, None)
            if error:
                self._errors[watcher_id] = error
            self._faulty()

    def forget(self, watcher_id: str) -> None:
        """It is no more, and what was to be said of it is about nothing."""
        self._errors.pop(watcher_id, None)
        with self._lock:
            self._looked.pop(watcher_id, None)

    def forget_all(self) -> None:
        """None is at work."""
        self._errors = {}

    def take(self) -> list[Looked]:
        """From any thread: what has come since this was last asked."""
        with self._lock:
            looked, self._looked = list(self._looked.values()), {}
        return looked
