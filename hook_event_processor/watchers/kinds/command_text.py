"""What a program's output says: a text to be shown, and a number."""

from __future__ import annotations

import hashlib
import re

from hook_event_processor.watchers.check import CheckFailed

_SHOWN = 4096  # characters of an output in an event
_CUT = "\n[output cut]"
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")


def shown(output: bytes) -> str:
    """The output without the newlines at its end, and not too much of it."""
    text = output[: 4 * _SHOWN].decode("utf-8", "replace").rstrip("\n")
    return text if len(text) <= _SHOWN and len(output) <= 4 * _SHOWN else text[:_SHOWN] + _CUT


def digest(output: bytes) -> str:
    """Tells an output from another one: all of it that is kept, and whether there was more."""
    return hashlib.sha256(output).hexdigest()


def number(output: bytes) -> float:
    """The first number in the output. Raises CheckFailed when there is none."""
    found = _NUMBER.search(output)
    if found is None:
        raise CheckFailed("the command printed no number")
    return float(found.group())
