"""The table that benchmarks drain: filling it, and reading how fast it was drained."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection

from server import Database

HOOK = """\
{requires}local hook = {{ name = "{name}", event_type = "bench.tool" }}

function hook.execute(event)
  local data = event.data
  if data.tool_name ~= "Bash" then error("unexpected tool") end
  return true, "tool " .. data.tool_name
end

return hook
"""
# What acts outside of the database runs under a lease, in a worker slot.
_EFFECTFUL = 'local http = require("http")\n'
OUTPUT = "tool Bash"  # what the hook returns
_PAYLOAD = '{"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}'
_ROUTES = 20


@dataclass(frozen=True, slots=True)
class Workload:
    """What is drained: `events` with `payload` bytes of JSON each, for each of which `hooks` hooks run.

    `uuid4`: the client made the ids, without an order. `effectful`: hooks that could act, and do not.
    """

    events: int
    hooks: int = 1
    payload: int = len(_PAYLOAD)
    uuid4: bool = False
    effectful: bool = False


def add_hook(connection: Connection, name: str, event_type: str, text: str) -> None:
    """Store a hook as it is."""
    connection.execute(
        "WITH hook AS (INSERT INTO hooks (name, event_types) VALUES (%s, %s) RETURNING id)"
        " INSERT INTO hook_versions (hook_id, version, source_text, sha256) SELECT id, 1, %s, '' FROM hook",
        (name, [event_type], text),
    )


def add_hooks(connection: Connection, running: int = 1, *, effectful: bool = False) -> None:
    """The hooks that run, and as many others as make twenty, whose patterns are looked at beside them."""
    connection.execute("TRUNCATE hooks, hook_versions RESTART IDENTITY CASCADE")
    for number in range(1, _ROUTES + 1):
        name = f"bench_{number}"
        event_type = "bench.tool" if number <= running else f"{name}.*"
        add_hook(connection, name, event_type, HOOK.format(name=name, requires=_EFFECTFUL if effectful else ""))


def empty(connection: Connection) -> None:
    """Leave no event, no execution, and no word of former processors."""
    connection.execute("TRUNCATE hook_events, event_hook_executions, hook_processors")


def empty_events(connection: Connection) -> None:
    """Leave no event and no execution, while a processor runs."""
    connection.execute("TRUNCATE hook_events, event_hook_executions")


def insert(connection: Connection, load: Workload) -> None:
    """Insert the events, and leave the table as one that has been vacuumed and checkpointed."""
    padding = load.payload - len(_PAYLOAD)
    payload = _PAYLOAD if padding <= 0 else f'{_PAYLOAD[:-1]}, "text": "{"word " * (padding // 5)}"}}'
    new_id = "gen_random_uuid()" if load.uuid4 else "hook_uuidv7()"
    connection.execute(
        "INSERT INTO hook_events (id, source, action, resource, resource_id, payload)"
        f" SELECT {new_id}, 'bench', 'tool', 'tool', 'Bash', %s FROM generate_series(1, %s)",
        (payload, load.events),
    )
    settle(connection)


def settle(connection: Connection) -> None:
    """Leave nothing to do for autovacuum and the checkpointer."""
    connection.execute("VACUUM ANALYZE hook_events, event_hook_executions")
    connection.execute("CHECKPOINT")


def pass_history(connection: Connection) -> None:
    """Have claims begin behind what is there and processed, as processors that did it would have left it."""
    connection.execute("UPDATE hook_events_floor SET seq = (SELECT max(seq) FROM hook_events)")


def fill(connection: Connection, load: Workload) -> None:
    """Empty the tables and insert the events."""
    empty(connection)
    insert(connection, load)


# Of this run alone: there may be a history of processed events without executions.
_DRAINED = """
WITH ran AS (
    SELECT event_id, min(node) AS node, count(*) AS runs, count(*) FILTER (WHERE NOT success) AS failed
    FROM event_hook_executions GROUP BY event_id),
done AS (SELECT node, runs, failed, processed_at FROM ran JOIN hook_events e ON e.id = ran.event_id WHERE e.processed),
began AS (SELECT max(first) AS all_began FROM (SELECT min(processed_at) AS first FROM done GROUP BY node) AS of_each)
SELECT count(*), sum(runs), sum(failed), (count(*) FILTER (WHERE processed_at > all_began))
    / extract(epoch FROM max(processed_at) - all_began)::float8
FROM done, began GROUP BY all_began
"""


def drained(database: Database, load: Workload, hooks: int | None = None) -> float:
    """Events a second of the last run, from when each processor has acknowledged some to the last acknowledgement.

    Ends the benchmark when an event or a run is missing, or one is there twice.
    """
    hooks = load.hooks if hooks is None else hooks
    events, runs, failed, rate = database.one(_DRAINED)
    assert events == load.events, f"{events} events of {load.events} were processed"
    assert runs == events * hooks, f"{runs} executions of {events} events"
    assert failed == 0, f"{failed} runs failed"
    return float(rate)
