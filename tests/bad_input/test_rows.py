"""Whatever PostgreSQL takes as an event is processed or dead-lettered with its reason, and stops no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import Connection, sql
from running import add_hook, count, running
from waiting import wait_for

from hook_event_processor.store.database import Database

# Reads all there is, and gives it back as JSON.
READER = """
local json = require("json")
return { name = "reader", event_type = "*", execute = function(event)
  local all = {}
  for name, value in pairs(event) do all[name] = value end
  return true, #json.encode(all.data) .. " bytes of " .. tostring(all.type) .. " at " .. tostring(all.timestamp)
end }
"""
_NESTED = "[" * 1500 + "]" * 1500
_LITERALS = (
    *("1e400", "-1e-400", "1" + "0" * 400, "0.1" + "0" * 300 + "1", "9223372036854775807", "9223372036854775808", "-0"),
    *(
        _NESTED,
        '{"' + "k" * 20_000 + '": 1}',
        '{"": {"": ""}}',
        '"\\ud83d\\ude00"',
        '"\\u2028"',
        "null",
        "[]",
        "{}",
        '""',
    ),
    *('{"stack": {}}', '{"stack": 7}', '{"depth": 1e300}', '{"depth": "x"}', '{"agent_id": []}', '{"__index": 1}'),
    *('{"traceparent": 5, "correlation_id": {"a": 1}}', '"' + "x" * 150_000 + '"', '{"data": {"data": null}}'),
)
_TIMES = st.sampled_from(
    (
        "infinity",
        "-infinity",
        "4713-01-01 00:00 BC",
        "294276-12-31 23:59:59Z",
        "1970-01-01",
        "2026-03-29 02:30 Europe/Berlin",
    )
)
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.just("x" * 255)
_JSON = st.sampled_from(_LITERALS) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=10,
).map(psycopg.types.json.json.dumps)
_ROWS = st.fixed_dictionaries(
    {"source": _TEXTS, "action": _TEXTS},
    optional={
        "resource": _TEXTS,
        "resource_id": _TEXTS,
        "payload": _JSON,
        "metadata": _JSON,
        "created_at": _TIMES,
        "occurred_at": _TIMES,
        "available_at": st.sampled_from(("-infinity", "2001-01-01", "4713-01-01 00:00 BC")),
        "priority": st.integers(1, 10),
        "retry_count": st.integers(0, 2),
        "processing_errors": st.lists(_TEXTS, max_size=2),
        "needs_slot": st.booleans(),
        "claimed_by": _TEXTS,
    },
)


@pytest.fixture(scope="module")
def processed(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A session on a database whose processor runs the reader for every event."""
    with shared_database.session("tests") as connection:
        add_hook(connection, "reader", "*", READER)
        with running(shared_database, tmp_path_factory.mktemp("processor"), max_retry_count=1):
            yield connection


def _insert(connection: Connection, row: dict[str, Any]) -> bool:
    """Whether PostgreSQL takes it."""
    statement = sql.SQL("INSERT INTO hook_events ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(map(sql.Placeholder, row))
    )
    try:
        connection.execute(statement, row)
    except psycopg.DataError:
        return False
    return True


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.generate],  # a smaller one would say no more, and takes a processor's time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=st.lists(_ROWS, min_size=20, max_size=60))
def test_any_row_is_processed_or_dead_lettered_with_its_reason(
    processed: Connection, rows: list[dict[str, Any]]
) -> None:
    taken = sum(_insert(processed, row) for row in rows)
    own = "source <> 'system' AND NOT starts_with(action, 'dead_letter')"
    wait_for(lambda: count(processed, "NOT processed AND failed_at IS NULL") == 0, 60)
    assert count(processed, own) >= taken
    assert count(processed, "failed_at IS NOT NULL AND processing_errors IS NULL") == 0
    # The last: those before came with the row.
    latest = "processing_errors[array_upper(processing_errors, 1)]"
    told = processed.execute(f"SELECT DISTINCT {latest} FROM hook_events WHERE failed_at IS NOT NULL").fetchall()
    assert all(error for (error,) in told)
    processed.execute("DELETE FROM hook_events")


@pytest.mark.parametrize("literal", _LITERALS, ids=range(len(_LITERALS)))
def test_an_odd_payload_stops_no_event_behind_it(processed: Connection, literal: str) -> None:
    taken = _insert(processed, {"source": "odd", "action": "one", "payload": literal})
    _insert(processed, {"source": "task", "action": "next"})
    wait_for(lambda: count(processed, "NOT processed AND failed_at IS NULL") == 0, 20)
    assert count(processed, "source = 'task' AND processed") == 1
    assert count(processed, "source = 'odd' AND (processed OR processing_errors IS NOT NULL)") == taken
    processed.execute("DELETE FROM hook_events")
