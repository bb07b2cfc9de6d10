"""A processor's own health told as events: health.degraded as it goes, health.recovered as it is back."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from psycopg import Connection

from hook_event_processor.processor import health
from hook_event_processor.store import own_events
from hook_event_processor.store.own_events import OwnEvent
from hook_event_processor.telemetry.findings import in_a_line


class Degraded:
    """Remembers whether that was told, and when."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether it was told, and is not over."""
        return self._since is not None

    def tell(self, connection: Connection, row: Mapping[str, Any]) -> None:
        """Tell once of each change; `row` is the processor's, as store.processors.say takes it."""
        facts = health.read(row["health"])
        wrong = [finding for finding in health.judge(facts) if not finding.is_healthy] if facts else []
        if wrong and self._since is None:
            told: dict[str, Any] = {
                "metrics": {finding.fact: finding.value for finding in wrong},
                "threshold": {finding.fact: finding.limit for finding in wrong},
                "error": in_a_line(wrong),
            }
            own_events.tell(connection, _event("health.degraded", row, told))
            self._since = monotonic()
        elif not wrong and self._since is not None:
            lasted = {"downtime_duration": round(monotonic() - self._since, 1)}
            own_events.tell(connection, _event("health.recovered", row, lasted))
            self._since = None


def _event(event_type: str, row: Mapping[str, Any], told: Mapping[str, Any]) -> OwnEvent:
    payload = {"service": service_of(row["instance"]), **told, "processor": row["node"], "host": row["host"]}
    return OwnEvent(event_type, payload, ("processor", row["node"]))


def service_of(instance: str) -> str:
    """The unit that a processor of this instance is."""
    return f"hook-event-processor{f'@{instance}' if instance else ''}"
