"""Times as events and JSON documents carry them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: float | datetime) -> str:
    """A time in UTC (RFC 3339): Unix seconds or a datetime, as exactly as it is given."""
    moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else at.astimezone(UTC)
    return moment.isoformat(timespec="microseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")


def elapsed(since: float, until: float) -> float:
    """Seconds between two times in Unix seconds, to the millisecond; 0 where the clock was set back between them."""
    return max(round(until - since, 3), 0.0)
