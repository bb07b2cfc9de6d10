"""What users and hooks give, as JSON that can be stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from hook_event_processor.errors import EventRefused

# A NUL inside JSON: \u0000 behind an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def stored_text(name: str, value: Mapping[str, Any], max_size: int) -> str:
    """`value`, named `name` in messages, as JSON that can be stored.

    Raises EventRefused for what JSON or PostgreSQL cannot hold, and for more than `max_size` bytes.
    """
    text = encoded(name, value)
    if len(text) > max_size:
        raise EventRefused(
            f"the {name} has {len(text):,} bytes of JSON: at most {max_size:,} are taken (HOOK_MAX_PAYLOAD_SIZE);"
            " in Python, it is the max_payload_size of the Publisher"
        )
    if b"\\u0000" in text and _NUL.search(text):
        raise EventRefused(f"the {name} holds a NUL character (\\u0000), which PostgreSQL cannot store")
    return text.decode()


def encoded(name: str, value: Mapping[str, Any]) -> bytes:
    """`value`, named `name` in messages, as JSON. A float that is not finite becomes null, as in JavaScript.

    Raises EventRefused for what JSON cannot hold.
    """
    try:
        try:
            return orjson.dumps(value, _plain)
        except TypeError as fault:
            if "Recursion" not in str(fault):
                raise
        # orjson ends at 254 levels. So deep, a float that is not finite is refused.
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except RecursionError:
        raise EventRefused(f"the {name} is nested too deeply") from None
    except (TypeError, ValueError) as fault:
        raise EventRefused(f"the {name} cannot be written as JSON: {fault}") from None


def _plain(value: object) -> dict[str, Any]:
    """A mapping that is no dict, as one; the encoders know no others."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
