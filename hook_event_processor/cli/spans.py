"""Durations and times as users write them: 30s, 10m, 2m30s, 720h, 7d, or an RFC 3339 time."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

from hook_event_processor.event import MAX_DELAY

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def duration(text: str) -> timedelta:
    """A duration; argparse reports what is none."""
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 30s, 10m, 2m30s, 720h or 7d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > MAX_DELAY.total_seconds():
        raise argparse.ArgumentTypeError(f"{text!r} is too long a duration: at most a hundred years")
    return timedelta(seconds=seconds)


def since(text: str) -> datetime:
    """A time in the past: that of an RFC 3339 text, or so long ago."""
    if _DURATION.fullmatch(text):
        return datetime.now(UTC) - duration(text)
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration (10m, 7d) nor a time (2025-10-06T14:23:45Z)"
        ) from None


def moment(text: str) -> datetime:
    """An RFC 3339 time; one without an offset is local. Raises ValueError or OverflowError."""
    return datetime.fromisoformat(text).astimezone(UTC)


def count(text: str) -> int:
    """How many, at least one; argparse reports what is none."""
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 999999")
    return int(text)


def priority(text: str) -> int:
    """An event's priority; argparse reports what is none."""
    if not re.fullmatch(r"[1-9]|10", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a priority: 1 (first) to 10 (last)")
    return int(text)
