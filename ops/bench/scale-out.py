"""Events a second of more and more processors that have one core together, while the database has another."""

from __future__ import annotations

import os
import sys
from functools import partial

import psutil

import processor
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases
from table import Workload

COUNTS = (1, 2, 4)


def main() -> None:
    options = parser(
        __doc__,
        events=Size(100_000, 400_000, "events a run"),
        rounds=Size(3, 5, "interleaved rounds"),
    )
    arguments = parse(options)
    load = Workload(arguments.events)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        _part(database)
        rounds = interleaved(arguments.rounds, {str(count): partial(_rate, database, load, count) for count in COUNTS})
        report.show(
            f"scale-out: {load.events:,} events, a core for the database and one for all processors",
            ("processors", "events/s", "of one"),
            [(str(n), number(rounds.median(str(n))), number(rounds.ratio(str(n), "1"))) for n in COUNTS],
            database=database,
            notes=["Executions were counted after each run."],
            rates=rounds.values,
        )


def _part(database: Database) -> None:
    """The server gets the first core that we may use, and what is started from here the second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("there is but one core")
    server = psutil.Process(database.connection.info.backend_pid).parent()
    assert server is not None
    for process in (server, *server.children()):
        process.cpu_affinity(cores[:1])
    os.sched_setaffinity(0, cores[1:2])


def _rate(database: Database, load: Workload, count: int) -> float:
    table.fill(database.connection, load)
    processor.drain(database, count)
    return table.drained(database, load)


if __name__ == "__main__":
    main()
