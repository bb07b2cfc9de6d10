"""What watchers noticed, in the log: a line for each event while they are few, a count while they are many."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from hook_event_processor.event import split_type
from hook_event_processor.telemetry.journal import fields
from hook_event_processor.telemetry.runs import Bucket
from hook_event_processor.watchers.check import Definition, Noticed

_RATE, _BURST = 20.0, 100
_SUMMARY_SECONDS = 1.0
_SHOWN = 200  # characters of what it happened to


class EventLog:
    """Found in the journal by EVENT_ID, SOURCE, ACTION and WATCHER. May be called from any thread."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._bucket = Bucket(_RATE, _BURST, clock())

    def say(self, definition: Definition, noticed: Noticed, event_id: str) -> None:
        """Log one event, or count it."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        with self._lock:
            if not self._bucket.take(1, self._clock()):
                return
        source, action = split_type(noticed.type)
        extra = fields(event_id=event_id, source=source, action=action, watcher=definition.id)
        name = definition.name or definition.id
        self._logger.info("%s %s: %s, event %s", noticed.type, noticed.resource[:_SHOWN], name, event_id, extra=extra)

    def summarize(self) -> None:
        """Say how many events were left out, if that began a second ago or more; call it every second or so."""
        with self._lock:
            left_out = self._bucket.left_out_since(self._clock() - _SUMMARY_SECONDS)
        if left_out:
            self._logger.info("events not logged one by one: %d more; hook_events has them", left_out)
