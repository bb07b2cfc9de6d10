"""How a processor is: what it says of itself to systemd, and in its row."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from hook_event_processor import __version__
from hook_event_processor.processor.health import Facts, document, judge
from hook_event_processor.processor.health_file import ProcessorFile
from hook_event_processor.settings import Settings
from hook_event_processor.store import processors
from hook_event_processor.telemetry.findings import Alarm, in_a_line

if TYPE_CHECKING:
    from hook_event_processor.service.machinery import Machinery


class Condition:
    """Reads what the parts of `machinery` say; may be used from any thread once they are all there, but for look()."""

    def __init__(self, machinery: Machinery, settings: Settings, node: str, file: ProcessorFile) -> None:
        self._machinery = machinery
        self._settings = settings
        self._node = node
        self.file = file
        self._alarm = Alarm(logging.getLogger("Health"))
        self.draining = False

    def facts(self) -> Facts:
        """What its health is judged by."""
        parts = self._machinery
        now = monotonic()
        pauses = parts.pauses
        trying = [since for lane in parts.lanes if (since := lane.trying_since) is not None]
        return Facts(
            still={name: round(seconds, 1) for name, seconds in parts.watchdog.still().items()},
            away=_rounded(parts.outage.seconds),
            claiming=_rounded(now - min(trying)) if trying else None,
            claimed=_rounded(now - max(lane.claimed_at for lane in parts.lanes)),
            waiting=None if pauses.everything else _rounded(parts.housekeeping.waiting_seconds),
            listen=_rounded(parts.lookout.hearing.seconds),
            polls=parts.lookout.hearing.is_deaf,
            stuck=parts.stuck,
            paused=pauses.told,
        )

    def look(self) -> str:
        """How it is, where that is not as it should be, and what it does, in a line; what changes is told at once."""
        facts = self.facts()
        findings = judge(facts)
        changes = self._alarm.changes(findings)
        self.file.tell(facts, at_once=changes)
        if changes:
            self._machinery.housekeeping.hurry()
        told = in_a_line(findings)
        return f"{told}; {self._activity()}" if told else self._activity()

    def _activity(self) -> str:
        parts = self._machinery
        if parts.outage.seconds is not None:  # the findings say for how long
            return "trying again"
        stats = parts.metrics.snapshot()
        return (
            f"{'draining' if self.draining else 'processing'}: {stats['rate_1m']:g} events/s,"
            f" {_backlog(parts.housekeeping.backlog)}; {stats['processed']} processed, {stats['failed']} failed;"
            f" {parts.slots.busy} of {self._settings.workers} workers busy"
        )

    def describe(self) -> Mapping[str, Any]:
        """The processor's row, as store.processors.say takes it."""
        parts = self._machinery
        return {
            "node": self._node,
            "host": socket.gethostname(),
            "instance": self._settings.instance,
            "pid": os.getpid(),
            "version": __version__,
            "state": "draining" if self.draining else "running",
            "wake": "listen" if parts.lookout.listening else "poll",
            "workers": self._settings.workers,
            "busy": parts.slots.busy,
            "stuck": parts.stuck,
            "stats": {**parts.metrics.snapshot(), "leased": parts.leases.leased},
            "health": document(self.facts()),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _backlog(events: int | None) -> str:
    if events is None:
        return "backlog not counted yet"
    return f"backlog {events:,}" + ("+" if events >= processors.COUNT_LIMIT else "")
