"""How a processor is: what it says of itself to systemd, and in its row."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hook_event_processor.settings import Settings
from hook_event_processor.store import processors

if TYPE_CHECKING:
    from hook_event_processor.service.machinery import Machinery


class Condition:
    """Reads what the parts of `machinery` say; may be used from any thread once they are all there."""

    def __init__(self, machinery: Machinery, settings: Settings, node: str) -> None:
        self._machinery = machinery
        self._settings = settings
        self._node = node
        self.draining = False

    def status_line(self) -> str:
        """What `systemctl status` shows."""
        parts = self._machinery
        away = parts.outage.seconds
        if away is not None:
            return f"the database has been away for {away:.0f} s, trying again"
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
            "version": version("hook-event-processor"),
            "state": "draining" if self.draining else "running",
            "wake": "listen" if parts.lookout.listening else "poll",
            "workers": self._settings.workers,
            "busy": parts.slots.busy,
            "stuck": parts.stuck,
            "stats": {**parts.metrics.snapshot(), "leased": parts.leases.leased},
        }


def _backlog(events: int | None) -> str:
    if events is None:
        return "backlog not counted yet"
    return f"backlog {events:,}" + ("+" if events >= processors.COUNT_LIMIT else "")
