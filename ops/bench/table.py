"""The table that benchmarks drain: filling it, and reading how fast it was drained."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection

HOOK = """\
local hook = { name = "bench", event_type = "bench.tool" }

function hook.execute(event)
  local data = event.data
  if data.tool_name ~= "Bash" then error("unexpected tool") end
  return true, "tool " .. data.tool_name
end

return hook
"""
OUTPUT = "tool Bash"  # what the hook returns
_PAYLOAD = '{"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}'
_OTHER_ROUTES = 19


@dataclass(frozen=True, slots=True)
class Drained:
    """What came of one run: events a second, from the first acknowledgement to the last."""

    events: int
    executions: int
    failed_executions: int
    per_second: float


def add_hooks(connection: Connection) -> None:
    """The hook that runs, and others whose patterns are looked at beside it."""
    names = ["bench", *(f"other_{number}" for number in range(_OTHER_ROUTES))]
    for name in names:
        event_type = "bench.tool" if name == "bench" else f"{name}.*"
        connection.execute(
            "WITH hook AS (INSERT INTO hooks (name, event_types) VALUES (%s, %s) RETURNING id)"
            " INSERT INTO hook_versions (hook_id, version, source_text, sha256) SELECT id, 1, %s, '' FROM hook",
            (name, [event_type], HOOK),
        )


def fill(connection: Connection, events: int) -> None:
    """Empty the tables and insert the events, as a vacuumed and checkpointed table would have them."""
    connection.execute("TRUNCATE hook_events, event_hook_executions")
    connection.execute(
        "INSERT INTO hook_events (source, action, resource, resource_id, payload)"
        " SELECT 'bench', 'tool', 'tool', 'Bash', %s FROM generate_series(1, %s)",
        (_PAYLOAD, events),
    )
    connection.execute("VACUUM ANALYZE hook_events")
    connection.execute("CHECKPOINT")


def drained(connection: Connection) -> Drained:
    """Read what the last run did. Fails when an event is left or a run is missing."""
    events, left, seconds = _one(
        connection,
        "SELECT count(*) FILTER (WHERE processed), count(*) FILTER (WHERE NOT processed),"
        " extract(epoch FROM max(processed_at) - min(processed_at))::float8 FROM hook_events",
    )
    executions, failed = _one(
        connection, "SELECT count(*), count(*) FILTER (WHERE NOT success) FROM event_hook_executions"
    )
    assert left == 0, f"{left} events are left"
    assert executions == events, f"{executions} executions of {events} events"
    assert failed == 0, f"{failed} runs failed"
    return Drained(events, executions, failed, events / seconds)


def _one(connection: Connection, statement: str) -> tuple[int, ...]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return tuple(row)
