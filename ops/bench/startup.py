"""Milliseconds until a command answers, beside the interpreter alone; and until a processor has run its first event."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import processor
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases

HEP = Path(sys.executable).with_name("hep")
EVENTS = 1000


def main() -> None:
    arguments = parse(parser(__doc__, rounds=Size(10, 30, "interleaved rounds")))
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "hep --help": [str(HEP), "--help"],
            "hep events list": [str(HEP), "events", "list"],
        }
        table.insert(database.connection, table.Workload(EVENTS))
        measures = {name: partial(_milliseconds, database, command) for name, command in commands.items()}
        measures["hep run, to the first event done"] = partial(_first_event, database)
        rounds = interleaved(arguments.rounds, measures)
        report.show(
            "startup: ms until it answers",
            ("command", "median", "lowest", "highest"),
            [
                (name, *(number(value) for value in (rounds.median(name), min(values), max(values))))
                for name, values in rounds.values.items()
            ],
            database=database,
            notes=[f"'hep events list' reads a table of at least {EVENTS:,} events."],
            medians={name: rounds.median(name) for name in measures},
        )


def _milliseconds(database: Database, command: list[str]) -> float:
    began = time.perf_counter()
    environment = processor.environment(database)
    subprocess.run(command, env=environment, cwd=database.home, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def _first_event(database: Database) -> float:
    database.connection.execute("TRUNCATE event_hook_executions")
    database.connection.execute(
        "INSERT INTO hook_events (source, action, payload) VALUES ('bench', 'tool', '{\"tool_name\": \"Bash\"}')"
    )
    began = time.time()
    processor.drain(database)
    first = database.one("SELECT min(extract(epoch FROM executed_at))::float8 FROM event_hook_executions")[0]
    return (float(first) - began) * 1000


if __name__ == "__main__":
    main()
