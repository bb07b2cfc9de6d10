"""How fast events were processed before, during and after the faults, read from what the database recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from psycopg import Connection

from ops.chaos.context import Fault, Shift

_STEPS = 10  # a second has so many
_PROCESSED = f"""
SELECT floor((extract(epoch FROM processed_at) - %(shift)s) * {_STEPS})::bigint, count(*)
FROM hook_events
WHERE processed AND processed_at >= to_timestamp(%(begin)s + %(shift)s)
  AND processed_at < to_timestamp(%(end)s + %(shift)s)
GROUP BY 1
"""
SHARE = 0.95
_WORTH = 0.9  # of the rate that is offered: with less before the first fault, any rate afterwards is as good
_MEASURED_SECONDS = 3.0
RECOVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Events a second before the first blow and at the end; seconds until the rate was back after each fault."""

    before: float
    after: float
    recoveries: Sequence[tuple[str, float | None]]  # None: not before the load ended
    offered: float

    @property
    def comparable(self) -> bool:
        """Whether the rate before is one to come back to."""
        return self.before >= _WORTH * self.offered

    @property
    def slowest(self) -> float | None:
        """The longest recovery; None when there was no fault, or one never ended."""
        seconds = [seconds for _, seconds in self.recoveries]
        return None if not seconds or None in seconds else max(s for s in seconds if s is not None)

    def findings(self) -> list[str]:
        """No rate to come back to, or recoveries that took too long."""
        few = f"no rate to come back to: {self.before:.0f} events/s before, of {self.offered:.0f} offered"
        return ([] if self.comparable else [few]) + [
            f"{name}: {'the rate did not come back' if seconds is None else f'it took {seconds:.1f} s'} until"
            f" {SHARE:.0%} of {self.before:.0f} events/s"
            for name, seconds in self.recoveries
            if seconds is None or seconds > RECOVERY_SECONDS
        ]


class Histogram:
    """Processed events by tenth of a second."""

    def __init__(self, connection: Connection, since: float, shifts: Sequence[Shift] = ()) -> None:
        """`since` is Unix time. `shifts` are those of the database's clock, which counts are corrected for."""
        self._counts: Counter[int] = Counter()
        for begin, end, shift in _spans(since, shifts):
            found = connection.execute(_PROCESSED, {"shift": shift, "begin": begin, "end": end}).fetchall()
            self._counts.update(dict(found))

    def rate(self, begin: float, end: float) -> float:
        """Events a second between two moments."""
        first, last = int(begin * _STEPS), int(end * _STEPS)
        return self._mean(first, last - first) if last > first else 0.0

    def recovery(self, since: float, until: float, wanted: float, disturbed: Sequence[float] = ()) -> float | None:
        """Seconds from `since` until a second begins in which the wanted rate is reached; None when none does.

        It must stay so: on average for RECOVERY_SECONDS, or until it is disturbed again.
        """
        first, last = int(since * _STEPS) + 1, int(until * _STEPS)
        ends = sorted(int(moment * _STEPS) for moment in (*disturbed, until))
        for step in range(first, last - _STEPS + 1):
            end = next(moment for moment in ends if moment > step)
            stays = min(max(end - step, _STEPS), int(RECOVERY_SECONDS * _STEPS))
            # What a second catches up with is not for those after it.
            if min(self._mean(step, _STEPS), self._mean(step, stays, wanted / SHARE)) >= wanted:
                return (step - first) / _STEPS
        return None

    def _mean(self, first: int, steps: int, most: float = inf) -> float:
        """Events a second in so many steps, of no second more than `most`."""
        total = 0.0
        for begin in range(first, first + steps, _STEPS):
            second = range(begin, min(begin + _STEPS, first + steps))
            total += min(sum(self._counts[step] for step in second), most * len(second) / _STEPS)
        return total * _STEPS / steps


def _spans(since: float, shifts: Iterable[Shift]) -> Iterator[tuple[float, float, float]]:
    """From when to when the database's clock was ahead by how much."""
    begin, ahead = since, 0.0
    for shift in shifts:
        yield begin, shift.at, ahead
        begin, ahead = shift.at, shift.seconds
    yield begin, inf, ahead


def rates(
    connection: Connection,
    load: tuple[float, float],
    faults: Sequence[Fault],
    offered: float,
    shifts: Sequence[Shift] = (),
) -> Rates:
    """`load` is when the load began and ended (Unix time), `offered` what it was meant to be, events a second.

    `shifts` are those of the database's clock.
    """
    began, ended = load
    histogram = Histogram(connection, began, shifts)
    faults = [fault for fault in faults if fault.began_at < ended]  # later there is no rate to come back to
    first_blow = min((fault.began_at for fault in faults), default=began + 2 * _MEASURED_SECONDS)
    before = histogram.rate(first_blow - _MEASURED_SECONDS, first_blow)
    # What waited for the processors' start may have made it faster than it can stay.
    wanted = min(before, offered) * SHARE
    disturbed = [fault.began_at for fault in faults]
    recoveries = [
        (fault.name, histogram.recovery(fault.mended_at or fault.began_at, ended, wanted, disturbed))
        for fault in faults
    ]
    return Rates(before, histogram.rate(ended - _MEASURED_SECONDS, ended), recoveries, offered)
