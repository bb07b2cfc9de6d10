"""time: what the rules of time zones say; all else is Lua's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from hook_event_processor.lua.door import Call, Failed, Function, Services
from hook_event_processor.lua.masking import shortened

_MAX_NAME_BYTES = 64
_CACHED = 64  # zones


def functions(_: Services) -> Mapping[str, Function]:
    return {"time.zone": Function(zone)}


def zone(_: Call, name: bytes, seconds: int) -> tuple[int, bytes]:
    """How many seconds the zone is ahead of UTC at that time, and what it is called then."""
    rules = _rules(name)
    if rules is None:
        given = shortened(name, _MAX_NAME_BYTES)
        raise Failed(f"time.format: there is no zone {given!r} on this host")
    at = datetime.fromtimestamp(seconds, UTC).astimezone(rules)
    ahead = at.utcoffset()
    return (int(ahead.total_seconds()) if ahead else 0), (at.tzname() or "").encode()


@lru_cache(maxsize=_CACHED)
def _rules(name: bytes) -> ZoneInfo | None:
    # Absolute paths and those with .. are refused by ZoneInfo itself.
    if len(name) > _MAX_NAME_BYTES:
        return None
    try:
        return ZoneInfo(name.decode())
    except (ValueError, OSError, KeyError):
        return None
