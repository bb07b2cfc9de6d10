"""Values as PostgreSQL stores them: what is written alike is the same."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.types.json import Jsonb

from hook_event_processor.same_json import is_same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, False),
        (True, 1, False),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1e16], [10**16], True),
        ({"a": (1, 2)}, {"a": [1, 2]}, True),
        (1.2345678901234567e19, 12345678901234567000, True),
        ([-0.0], [0.0], True),
    ],
)
def test_what_is_the_same(one: Any, other: Any, same: bool) -> None:
    assert is_same(one, other) is same


@pytest.mark.store
def test_what_comes_back_is_the_same(connection: Connection) -> None:
    @given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**64 - 1), st.booleans()))
    def comes_back(value: Any) -> None:
        [(text,)] = connection.execute("SELECT %s::jsonb::text", (Jsonb([value]),)).fetchall()
        assert is_same(orjson.loads(text), [value])

    comes_back()
