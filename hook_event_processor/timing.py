"""The times of a schedule: a cron expression in a time zone, or every so many seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain, islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from hook_event_processor.errors import ScheduleRefused

SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 3_155_760_000.0
_MAX_CRON = 255  # characters
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """Either `cron`, read in `timezone`, or `every` so many seconds since 1970 in UTC.

    Around a change of the clocks a cron expression with a fixed minute and
    hour fires once, as in Debian's cron.
    """

    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        """Raises ScheduleRefused for what has no times."""
        if (self.cron is None) == (self.every is None):
            raise ScheduleRefused("a schedule has either a cron expression or an interval")
        if self.every is not None and not SHORTEST_SECONDS <= self.every <= LONGEST_SECONDS:
            raise ScheduleRefused(f"an interval of {self.every:g} s: it takes a second to a hundred years")
        next(self.after(_EPOCH))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times that follow, without end, in UTC."""
        return self._after_by_cron(moment) if self.every is None else self._after_by_interval(moment, self.every)

    def count(self, since: datetime, until: datetime, most: int) -> int:
        """How many times there are from one moment to another, `most` at most."""
        times = self.after(since - timedelta(microseconds=1))
        return next((number for number, time in enumerate(islice(times, most)) if time > until), most)

    @property
    def text(self) -> str:
        """As people write it."""
        if self.every is not None:
            return f"every {_span(self.every)}"
        return f"{self.cron}" if self.timezone == "UTC" else f"{self.cron} {self.timezone}"

    def _zone(self) -> tzinfo:
        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):  # no such name, or one that leads elsewhere
            raise ScheduleRefused(
                f"there is no time zone {self.timezone!r} on this host: write one such as Europe/Berlin, or UTC"
            ) from None

    def _after_by_cron(self, moment: datetime) -> Iterator[datetime]:
        assert self.cron is not None  # noqa: S101 - one of the two is
        fields = _NAMED.get(self.cron.lower(), self.cron)
        refused = f"{self.cron[:_MAX_CRON]!r} is no cron expression"
        if len(fields) > _MAX_CRON or len(fields.split()) != 5:
            raise ScheduleRefused(
                f"{refused}: write minute, hour, day of month, month and day of week, such as '30 4 * * 1-5'"
            )
        zone = self._zone()
        try:
            # Of an hour that comes twice CronSim knows the first only, which may be over.
            local = _Cron(fields, moment.astimezone(zone))
            times = (time for each in local if (time := each.astimezone(UTC)) > moment)
            first = next(times, None)
        except CronSimError as fault:
            raise ScheduleRefused(f"{refused}: {str(fault)[:1].lower()}{str(fault)[1:]}") from None
        except (AssertionError, TypeError, ValueError):  # what it does not look at, such as a step of 2#1/3
            raise ScheduleRefused(refused) from None
        if first is None:
            raise ScheduleRefused(f"{refused}: it never comes")
        return chain((first,), times)

    def _after_by_interval(self, moment: datetime, every: float) -> Iterator[datetime]:
        number = (moment - _EPOCH).total_seconds() // every
        while True:
            time = _EPOCH + timedelta(seconds=number * every)
            if time > moment:
                yield time
            number += 1


class _Cron(CronSim):
    """CronSim that loses no times where clocks are changed by half an hour, as on Lord Howe Island."""

    def advance_hour(self) -> bool:
        moved = super().advance_hour()
        if moved and self.dt.minute:  # its steps of an hour have met a change, and end within the hour
            start = (self.dt.astimezone(UTC) - timedelta(minutes=self.dt.minute)).astimezone(self.dt.tzinfo)
            if start.hour == self.dt.hour:  # else the hour itself begins late
                self.dt = start
        return moved

    def tick(self, seconds: int = 1) -> None:
        """Go on by so many seconds; a jump over minutes ends where clocks are changed."""
        before = self.dt
        super().tick(seconds)
        if 60 < seconds < 3600 and self.dt.utcoffset() != before.utcoffset():
            self.dt = before
            while self.dt.utcoffset() == before.utcoffset():
                super().tick(60)


def _span(seconds: float) -> str:
    """15m, 1h30m, 2d."""
    text = ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        number, seconds = divmod(seconds, size)
        text += f"{number:.0f}{unit}" if number else ""
    return text + (f"{seconds:g}s" if seconds else "")
