"""How fast events were processed before, during and after the faults, read from what the database recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection

from ops.chaos.context import Fault

_STEPS = 10  # a second has so many
_PROCESSED = f"""
SELECT floor(extract(epoch FROM processed_at) * {_STEPS})::bigint, count(*)
FROM hook_events WHERE processed AND processed_at >= to_timestamp(%s) GROUP BY 1
"""
SHARE = 0.95
_MEASURED_SECONDS = 3.0
RECOVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Events a second before the first blow and at the end; seconds until the rate was back after each fault."""

    before: float
    after: float
    recoveries: Sequence[tuple[str, float | None]]  # None: not before the load ended

    @property
    def slowest(self) -> float | None:
        """The longest recovery; None when there was no fault, or one never ended."""
        seconds = [seconds for _, seconds in self.recoveries]
        return None if not seconds or None in seconds else max(s for s in seconds if s is not None)

    def findings(self) -> list[str]:
        """Recoveries that took too long."""
        return [
            f"{name}: {'the rate did not come back' if seconds is None else f'it took {seconds:.1f} s'} until"
            f" {SHARE:.0%} of {self.before:.0f} events/s"
            for name, seconds in self.recoveries
            if seconds is None or seconds > RECOVERY_SECONDS
        ]


class Histogram:
    """Processed events by tenth of a second."""

    def __init__(self, connection: Connection, since: float) -> None:
        """`since` is Unix time."""
        self._counts: dict[int, int] = dict(connection.execute(_PROCESSED, (since,)).fetchall())

    def rate(self, begin: float, end: float) -> float:
        """Events a second between two moments."""
        first, last = int(begin * _STEPS), int(end * _STEPS)
        total = sum(self._counts.get(step, 0) for step in range(first, last))
        return total * _STEPS / (last - first) if last > first else 0.0

    def recovery(self, since: float, until: float, wanted: float) -> float | None:
        """Seconds from `since` until a second begins in which the wanted rate is reached; None when none does."""
        first = int(since * _STEPS) + 1
        for step in range(first, int(until * _STEPS) - _STEPS + 1):
            if sum(self._counts.get(later, 0) for later in range(step, step + _STEPS)) >= wanted:
                return (step - first) / _STEPS
        return None


def rates(connection: Connection, load: tuple[float, float], faults: Sequence[Fault], offered: float) -> Rates:
    """`load` is when the load began and ended (Unix time), `offered` what it was meant to be, events a second."""
    began, ended = load
    histogram = Histogram(connection, began)
    faults = [fault for fault in faults if fault.began_at < ended]  # later there is no rate to come back to
    first_blow = min((fault.began_at for fault in faults), default=began + 2 * _MEASURED_SECONDS)
    before = histogram.rate(first_blow - _MEASURED_SECONDS, first_blow)
    # What waited for the processors' start may have made it faster than it can stay.
    wanted = min(before, offered) * SHARE
    recoveries = [
        (fault.name, histogram.recovery(fault.mended_at or fault.began_at, ended, wanted)) for fault in faults
    ]
    return Rates(before, histogram.rate(ended - _MEASURED_SECONDS, ended), recoveries)
