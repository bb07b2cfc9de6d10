"""Whether a cleanup slows claims down, and how long it takes to remove a history."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import processor
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases
from table import Workload

_HISTORY = """
INSERT INTO hook_events (source, action, resource, resource_id, payload, created_at, processed, processed_at)
SELECT 'bench', 'tool', 'tool', 'Bash', '{"tool_name": "Bash", "n": 1}', made, TRUE, made
FROM (SELECT now() - interval '60 days' + n * interval '1 millisecond' AS made FROM generate_series(1, %s) n) AS m
"""
_EXECUTIONS = """
INSERT INTO event_hook_executions (event_id, hook_id, hook_name, success, duration_ms, executed_at)
SELECT id, 1, 'bench_1', TRUE, 0.1, processed_at FROM hook_events WHERE processed
"""
_OLD = "SELECT count(*) FROM hook_events WHERE processed AND processed_at < now() - interval '30 days'"


def main() -> None:
    options = parser(
        __doc__,
        history=Size(300_000, 10_000_000, "processed events, each with an execution"),
        backlog=Size(50_000, 50_000, "events that are drained"),
        rounds=Size(3, 5, "interleaved rounds"),
    )
    arguments = parse(options)
    load = Workload(arguments.backlog)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        database.connection.execute(_HISTORY, (arguments.history,))
        database.connection.execute(_EXECUTIONS)
        table.settle(database.connection)
        table.pass_history(database.connection)
        measures = {"alone": lambda: _drained(database, load), "beside": lambda: _beside(database, load)}
        rounds = interleaved(arguments.rounds, measures)
        left, began = database.one(_OLD)[0], time.monotonic()
        with _cleanup(database) as cleanup:
            cleanup.wait()
        seconds = time.monotonic() - began
        assert database.one(_OLD)[0] == 0, "old events are left"
        ratio = rounds.ratio("beside", "alone")
        report.show(
            f"cleanup: {arguments.history:,} old events",
            ("what", "value", "ratio"),
            [
                ("a backlog alone, events/s", number(rounds.median("alone")), "1"),
                ("beside a cleanup, events/s", number(rounds.median("beside")), number(ratio)),
                (f"the cleanup, then, of {left:,}: events/s", number(left / seconds), ""),
            ],
            database=database,
            ratio=ratio,
            cleaned_per_second=left / seconds,
        )


def _drained(database: Database, load: Workload) -> float:
    """Events a second of a backlog, which leaves nothing behind."""
    before = database.one("SELECT coalesce(max(seq), 0) FROM hook_events")[0]
    newest = database.one("SELECT coalesce(max(id), 0) FROM event_hook_executions")[0]
    table.insert(database.connection, load)
    processor.drain(database)
    rate = database.one(
        "SELECT count(*) / extract(epoch FROM max(processed_at) - min(processed_at))::float8"
        " FROM hook_events WHERE seq > %s AND processed",
        before,
    )[0]
    runs = database.one("SELECT count(*) FROM event_hook_executions WHERE id > %s", newest)[0]
    assert runs == load.events, f"{runs} executions of {load.events} events"
    return float(rate)


def _beside(database: Database, load: Workload) -> float:
    with _cleanup(database) as cleanup:
        time.sleep(1.0)
        rate = _drained(database, load)
        assert cleanup.poll() is None, "the cleanup was over before the backlog: take a longer history"
        cleanup.terminate()
    return rate


@contextmanager
def _cleanup(database: Database) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "hook_event_processor", "events", "cleanup", "--older-than", "30d"]
    environment = processor.environment(database)
    with subprocess.Popen(command, env=environment, cwd=database.home, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


if __name__ == "__main__":
    main()
