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
        deep=Size(200_000, 5_000_000, "events of a deep backlog"),
        rounds=Size(3, 5, "interleaved rounds"),
    )
    arguments = parse(options)
    with databases("empty", "history", "parked") as (empty, history, parked):
        for database in (empty, history, parked):
            table.add_hooks(database.connection)
        _insert(history, _HISTORY, arguments.history)
        _insert(parked, _FAILED, arguments.parked)
        _insert(parked, _SCHEDULED, arguments.parked)
        measures = {
            "an empty table": partial(_rate, empty, BACKLOG),
            f"{arguments.history:,} processed events": partial(_rate, history, BACKLOG),
            f"{arguments.parked:,} failed, {arguments.parked:,} for tomorrow": partial(_rate, parked, BACKLOG),
            f"a backlog of {arguments.deep:,}": partial(_rate, empty, arguments.deep),
        }
        rounds = interleaved(arguments.rounds, measures)
        ratios = {name: rounds.ratio(name, "an empty table") for name in measures}
        report.show(
            f"history: events/s of a backlog of {BACKLOG:,}",
            ("behind it", "events/s", "of an empty table"),
            [(name, number(rounds.median(name)), number(ratios[name])) for name in measures],
            database=empty,
            notes=["Of the deep backlog too, the first events are timed."],
            ratios=ratios,
        )


def _insert(database: Database, statement: str, count: int) -> None:
    database.connection.execute(statement, (count,))
    table.settle(database.connection)


# By the order of processing: what former rounds have left behind came before.
_FIRST = """
SELECT extract(epoch FROM max(processed_at) - min(processed_at))::float8
FROM (SELECT processed_at FROM hook_events WHERE seq > %s AND processed ORDER BY processed_at LIMIT %s) AS first
"""


def _rate(database: Database, backlog: int) -> float:
    """Events a second of the first BACKLOG of a backlog that is put behind what is there."""
    connection = database.connection
    connection.execute("TRUNCATE event_hook_executions, hook_processors")
    before = database.one("SELECT coalesce(max(seq), 0) FROM hook_events")[0]
    table.insert(connection, Workload(backlog))
    processor.drain(database)
    table.drained(database, Workload(backlog))
    seconds = database.one(_FIRST, before, BACKLOG)[0]
    # For the next round the backlog must not have become history.
    connection.execute("DELETE FROM hook_events WHERE seq > %s", (before,))
    table.settle(connection)
    return float(BACKLOG / seconds)


if __name__ == "__main__":
    main()
