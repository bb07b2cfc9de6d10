"""What a processor counts: totals since its start, and the rate and latency of the last minute."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from statistics import quantiles
from time import monotonic
from typing import Any

_WINDOW_SECONDS = 60
_MAX_SAMPLES = 2000


@dataclass(slots=True)
class Counters:
    """Totals since the start. `processed`: attempts at events that ended; `failed`: dead letters;
    `errors`: faults of the processor or its database, not of hooks."""

    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    errors: int = 0
    unrouted: int = 0


class Metrics:
    """Counters of one processor; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = monotonic()
        self._counters = Counters()
        self._per_second: deque[tuple[int, int]] = deque()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_MAX_SAMPLES)

    def add(self, *, succeeded: int = 0, failed: int = 0, retried: int = 0, errors: int = 0, unrouted: int = 0) -> None:
        """Count what a transaction committed."""
        ended = succeeded + failed + retried
        with self._lock:
            counters = self._counters
            counters.processed += ended
            counters.succeeded += succeeded
            counters.failed += failed
            counters.retried += retried
            counters.errors += errors
            counters.unrouted += unrouted
            self._count_second(int(monotonic()), ended)

    def _count_second(self, second: int, ended: int) -> None:
        if self._per_second and self._per_second[-1][0] == second:
            self._per_second[-1] = (second, self._per_second[-1][1] + ended)
        else:
            self._per_second.append((second, ended))
        while self._per_second[0][0] <= second - _WINDOW_SECONDS:
            self._per_second.popleft()

    def latency(self, seconds: float) -> None:
        """Note how long one event was ready before it was claimed."""
        with self._lock:
            self._latencies.append((monotonic(), max(seconds, 0.0)))

    def line(self) -> str:
        """The line that is logged every minute."""
        c = self._counters
        return (
            f"Metrics: Processed={c.processed}, Succeeded={c.succeeded}, Failed={c.failed}, Retried={c.retried},"
            f" Errors={c.errors}, Uptime={monotonic() - self._started:.0f}s"
        )

    def snapshot(self) -> dict[str, Any]:
        """Counters, rate_1m in events a second, and latency percentiles in milliseconds (None without samples)."""
        with self._lock:
            now = monotonic()
            recent = sum(count for second, count in self._per_second if second > now - _WINDOW_SECONDS)
            window = min(_WINDOW_SECONDS, max(now - self._started, 1.0))
            latencies = [seconds * 1000 for at, seconds in self._latencies if at > now - _WINDOW_SECONDS]
            p50, p99 = _percentiles(latencies)
            return {
                **asdict(self._counters),
                "rate_1m": round(recent / window, 1),
                "latency_p50_ms": p50,
                "latency_p99_ms": p99,
            }


def _percentiles(values: list[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    if len(values) == 1:
        return round(values[0], 2), round(values[0], 2)
    cuts = quantiles(values, n=100, method="inclusive")
    return round(cuts[49], 2), round(cuts[98], 2)
