"""Whether two values are the same JSON."""

from __future__ import annotations

import json


def is_same(one: object, other: object) -> bool:
    """Whether they are written alike, whatever the order of keys: for Python true is 1, and 1 is 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
