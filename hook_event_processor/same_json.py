"""Whether two values are the same JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_OTHERS_ARE_FLOATS = 2**64  # where integers of JSON are read as such


def is_same(one: object, other: object) -> bool:
    """Whether PostgreSQL writes them alike: for Python true is 1, and 1 is 1.0."""
    return json.dumps(_stored(one), sort_keys=True) == json.dumps(_stored(other), sort_keys=True)


def _stored(value: Any) -> Any:
    """As it is read back: 1e16 is stored as an integer, in its digits, and 1.0 is not; -0.0 loses its sign."""
    if isinstance(value, Mapping):
        return {name: _stored(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_stored(part) for part in value]
    if not isinstance(value, float):
        return value
    if "e" in repr(value) and value.is_integer() and abs(value) < _OTHERS_ARE_FLOATS:
        return int(Decimal(repr(value)))
    return value + 0.0
