"""Whether hooks that wait hold up the fast ones, how many wait at once, and what memory that takes."""

from __future__ import annotations

from functools import partial

import processor
import report
import table
from options import Size, parse, parser
from report import number
from resident import Watched
from rounds import interleaved
from server import Database, databases

SLOW = """\
local time = require("time")

return {
  name = "slow",
  event_type = "slow.wait",
  execute = function(event)
    time.sleep(1)
    return true
  end,
}
"""
# One in ten is slow, evenly spread.
_MIXED = """
INSERT INTO hook_events (source, action, resource, resource_id, payload)
SELECT CASE WHEN slow THEN 'slow' ELSE 'bench' END, CASE WHEN slow THEN 'wait' ELSE 'tool' END, '', '',
       '{"tool_name": "Bash"}'
FROM (SELECT n %% 10 = 0 AS slow FROM generate_series(1, %s) n) AS e WHERE %s OR NOT slow
"""
_FAST = """
SELECT (count(*) / extract(epoch FROM max(processed_at) - min(processed_at)))::float8
FROM hook_events WHERE source = 'bench' AND processed
"""
_AT_ONCE = """
SELECT max(running) FROM (
    SELECT sum(change) OVER (ORDER BY at, change) AS running FROM (
        SELECT executed_at AS at, 1 AS change FROM event_hook_executions WHERE hook_name = 'slow'
        UNION ALL
        SELECT executed_at + duration_ms * interval '1 millisecond', -1
        FROM event_hook_executions WHERE hook_name = 'slow') AS changes) AS counted
"""
MANY = 1000


def main() -> None:
    options = parser(
        __doc__,
        events=Size(10_000, 10_000, "events, one in ten of them slow"),
        rounds=Size(3, 7, "interleaved rounds"),
    )
    arguments = parse(options)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        table.add_hook(database.connection, "slow", "slow.wait", SLOW)
        measures = {name: partial(_rate, database, arguments.events, name == "mixed") for name in ("alone", "mixed")}
        rounds = interleaved(arguments.rounds, measures)
        _rate(database, arguments.events, True)
        at_once = database.one(_AT_ONCE)[0]
        # Each waiting run has a Lua runtime of its own.
        settings = {"WORKERS": MANY, "MAX_IN_FLIGHT": MANY, "HOOK_MEMORY_TOTAL_MB": 448}
        many, failed, memory = _many(database, settings)
        report.show(
            f"slow-hooks: {arguments.events:,} events, one in ten waits a second",
            ("what", "value"),
            [
                ("fast events alone, events/s", number(rounds.median("alone"))),
                ("fast events among slow ones, events/s", number(rounds.median("mixed"))),
                ("ratio", number(rounds.ratio("mixed", "alone"))),
                ("slow ones that ran at once, of 100 WORKERS", str(at_once)),
                (f"... with WORKERS={MANY}", str(many)),
                ("... of which failed, short of memory", str(failed)),
                ("highest memory with them, MB", number(memory)),
            ],
            database=database,
            settings={"the last three rows alone": settings},
            ratio=rounds.ratio("mixed", "alone"),
            at_once=int(at_once),
            many=many,
            many_failed=failed,
            memory_mb=memory,
        )


def _rate(database: Database, events: int, mixed: bool) -> float:
    """Fast events a second, by a processor that has all its threads already."""
    table.empty(database.connection)
    with processor.running(database):
        _work_off(database, events // 10, True)
        table.empty_events(database.connection)
        _work_off(database, events, mixed)
    runs = database.one("SELECT count(*) FROM event_hook_executions WHERE success")[0]
    expected = events if mixed else events * 9 // 10
    assert runs == expected, f"{runs} executions of {expected} events"
    return float(database.one(_FAST)[0])


def _work_off(database: Database, events: int, mixed: bool) -> None:
    database.connection.execute(_MIXED, (events, mixed))
    processor.wait_for(lambda: processor.all_processed(database), 120)


def _many(database: Database, settings: dict[str, int]) -> tuple[int, int, float]:
    """How many slow hooks ran at once, how many runs failed, and the highest memory of the process, in MB."""
    table.empty(database.connection)
    with processor.running(database, **settings) as process, Watched(process) as watched:
        database.connection.execute(
            "INSERT INTO hook_events (source, action) SELECT 'slow', 'wait' FROM generate_series(1, %s)", (4 * MANY,)
        )
        processor.wait_for(lambda: processor.all_processed(database), 120)
    failed = database.one("SELECT count(*) FROM event_hook_executions WHERE NOT success")[0]
    return int(database.one(_AT_ONCE)[0]), int(failed), watched.highest_mb


if __name__ == "__main__":
    main()
