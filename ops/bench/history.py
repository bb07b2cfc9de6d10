"""Whether what lies in the table slows the processor down: processed events, failed ones, events for tomorrow."""

from __future__ import annotations

from functools import partial

import processor
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases
from table import Workload

BACKLOG = 50_000

_HISTORY = """
INSERT INTO hook_events (source, action, resource, resource_id, payload, created_at, processed, processed_at)
SELECT 'bench', 'tool', 'tool', 'Bash', '{"tool_name": "Bash", "n": 1}', made, TRUE, made
FROM (SELECT now() - interval '10 days' + n * interval '50 milliseconds' AS made FROM generate_series(1, %s) n) AS m
"""
_FAILED = """
INSERT INTO hook_events (source, action, retry_count, processing_errors, failed_at)
SELECT 'bench', 'tool', 3, '{first,second,third}', now() FROM generate_series(1, %s)
"""
_SCHEDULED = """
INSERT INTO hook_events (source, action, available_at)
SELECT 'bench', 'tool', now() + interval '1 day' FROM generate_series(1, %s)
"""


def main() -> None:
    options = parser(
        __doc__,
        history=Size(500_000, 10_000_000, "processed events"),
        parked=Size(100_000, 100_000, "failed events, and as many for tomorrow"),
        deep=Size(500_000, 5_000_000, "events of a deep backlog"),
        rounds=Size(3, 5, "interleaved rounds"),
    )
    arguments = parse(options)
    with databases("empty", "history", "parked", "deep") as (empty, history, parked, deep):
        for database in (empty, history, parked, deep):
            table.add_hooks(database.connection)
        _insert(history, _HISTORY, arguments.history)
        table.pass_history(history.connection)
        _insert(parked, _FAILED, arguments.parked)
        _insert(parked, _SCHEDULED, arguments.parked)
        table.insert(deep.connection, Workload(arguments.deep))
        measures = {
            "an empty table": partial(_rate, empty),
            f"{arguments.history:,} processed events": partial(_rate, history),
            f"{arguments.parked:,} failed, {arguments.parked:,} for tomorrow": partial(_rate, parked),
            f"a backlog of {arguments.deep:,}": partial(_rate_at_first, deep),
        }
        rounds = interleaved(arguments.rounds, measures)
        ratios = {name: rounds.ratio(name, "an empty table") for name in measures}
        report.show(
            f"history: events/s of a backlog of {BACKLOG:,}",
            ("behind it", "events/s", "of an empty table"),
            [(name, number(rounds.median(name)), number(ratios[name])) for name in measures],
            database=empty,
            notes=[f"Of the deep backlog each round works off its first {BACKLOG:,} and some more."],
            ratios=ratios,
        )


def _insert(database: Database, statement: str, count: int) -> None:
    database.connection.execute(statement, (count,))
    table.settle(database.connection)


# By the order of processing.
_SECONDS = """
SELECT extract(epoch FROM max(processed_at) - min(processed_at))::float8
FROM (SELECT processed_at FROM hook_events WHERE seq > %s AND processed_at > %s ORDER BY processed_at LIMIT %s) AS first
"""


def _rate(database: Database) -> float:
    """Events a second of a backlog that is put behind what is there."""
    connection = database.connection
    connection.execute("TRUNCATE event_hook_executions, hook_processors")
    before, began = database.one("SELECT coalesce(max(seq), 0), clock_timestamp() FROM hook_events")
    table.insert(connection, Workload(BACKLOG))
    processor.drain(database)
    table.drained(database, Workload(BACKLOG))
    seconds = database.one(_SECONDS, before, began, BACKLOG)[0]
    # For the next round the backlog must not have become history.
    connection.execute("DELETE FROM hook_events WHERE seq > %s", (before,))
    table.settle(connection)
    return float(BACKLOG / seconds)


def _rate_at_first(database: Database) -> float:
    """Events a second of the first of what is there."""
    connection = database.connection
    connection.execute("TRUNCATE event_hook_executions, hook_processors")
    began = database.one("SELECT clock_timestamp()")[0]
    with processor.running(database):
        processor.wait_for(
            lambda: database.one("SELECT count(*) >= %s FROM event_hook_executions", BACKLOG)[0], 60, pause=0.25
        )
    seconds = database.one(_SECONDS, 0, began, BACKLOG)[0]
    table.settle(connection)
    return float(BACKLOG / seconds)


if __name__ == "__main__":
    main()
