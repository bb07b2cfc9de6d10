"""Microseconds of CPU that one event takes, in the server and in each part of the processor; and what nobody takes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil

import processor
import raw
import report
import table
from options import Size, parse, parser
from report import number
from server import Database, databases
from table import Workload

CLIENTS = 2  # of raw SQL: as many as there are cores
GOAL, GOAL_OF_LARGE = 0.9, 0.6  # of raw SQL, which selects the payload, too
_DRAINING = """
SELECT extract(epoch FROM min(processed_at))::float8, extract(epoch FROM max(processed_at))::float8
FROM hook_events WHERE processed
"""
_TIMED = Path(__file__).with_name("timed.py")
_NAMES = {
    "hooks": "hooks: into Lua, a fresh environment, the payload, the text, and back",
    "claim": "claim: sent, received, made rows",
    "sort": "routes found, rows sorted",
    "record": "record: put together, sent, committed",
    "rest of the round": "the rest of a round: chunks, verdicts, reports",
    "rest": "the rest: threads that wake each other, the interpreter's lock",
    "processor": "the processor, all",
    "server": "the server, all",
}


def main() -> None:
    options = parser(
        __doc__,
        events=Size(100_000, 200_000, "events a run (a multiple of 2000)"),
        rounds=Size(3, 7, "runs of the processor and of raw SQL in turn"),
    )
    options.add_argument("--hooks", type=int, default=1, help="hooks that run for each event (default 1)")
    options.add_argument("--payload", type=int, default=0, help="bytes of each payload (default: a short one)")
    arguments = parse(options)
    load = Workload(arguments.events, arguments.hooks, arguments.payload)
    with databases("bench") as (database,), tempfile.TemporaryDirectory() as folder:
        table.add_hooks(database.connection, load.hooks)
        rates: list[float] = []
        spent: list[dict[str, float]] = []
        idle: list[float] = []
        for _ in range(arguments.rounds):
            table.fill(database.connection, load)
            raw.run(database.conninfo, load.events, CLIENTS)
            rates.append(table.drained(database, load, hooks=1))
            cores = Cores()
            spent.append(_drain(database, load, Path(folder) / "times", cores))
            idle.append(cores.idle(*database.one(_DRAINING)))
        costs = {part: median(each[part] for each in spent) for part in _NAMES}
        count = len(os.sched_getaffinity(0))
        goal = GOAL_OF_LARGE if load.payload else GOAL
        left = count * 1e6 / (goal * median(rates)) - costs["server"]
        said = (
            f"Raw SQL, {CLIENTS} clients, in turn with it: {number(median(rates))} events/s. At {goal:g} of that"
            f" {count} cores would have {number(left)} µs an event for the processor, the server's taken off."
        )
        unused = f"While the processor drained the table, {median(idle):.0%} of the cores' time was idle."
        name = f"parts: µs of CPU for one event, {load.events:,} events, {load.hooks} hooks each"
        name += f", payload of {load.payload:,} bytes" if load.payload else ""
        report.show(
            name,
            ("what", "µs"),
            [(_NAMES[part], number(costs[part])) for part in _NAMES],
            database=database,
            notes=[unused, said] if load.hooks == 1 else [unused],
            costs=costs,
            left=left,
            idle=idle,
            raw=rates,
        )


class Cores:
    """What the machine's cores have done, looked at again and again."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, float, float]] = []

    def look(self) -> None:
        """Note how long they have been idle until now, and how long they have been there."""
        times = psutil.cpu_times()
        self._looks.append((time.time(), times.idle + times.iowait, sum(times[:8])))

    def idle(self, begin: float, end: float) -> float:
        """The share of their time that they were idle between two moments, in seconds since the epoch."""
        first, last = (min(self._looks, key=lambda look: abs(look[0] - moment)) for moment in (begin, end))
        return (last[1] - first[1]) / (last[2] - first[2])


def _drain(database: Database, load: Workload, times: Path, cores: Cores) -> dict[str, float]:
    """Microseconds an event, of one run, while which the cores are looked at."""

    def is_done() -> bool:
        cores.look()
        return processor.all_processed(database)

    table.fill(database.connection, load)
    before = _server_seconds(database)
    with processor.started(database, {}, program=(str(_TIMED), str(times))):
        processor.wait_for(is_done, 900.0)
        server = _server_seconds(database) - before
    table.drained(database, load)
    seconds = json.loads(times.read_text())
    seconds["rest"] = seconds["process"] - seconds["round"] - seconds["hooks"]
    seconds["rest of the round"] = seconds["round"] - sum(seconds[part] for part in ("claim", "sort", "record"))
    seconds |= {"processor": seconds["process"], "server": server}
    return {part: seconds[part] * 1e6 / load.events for part in _NAMES}


def _server_seconds(database: Database) -> float:
    """Of a core, by the server and all that it has started; those that are gone are in its own account."""
    server = psutil.Process(database.connection.info.backend_pid).parent()
    assert server is not None
    seconds = sum(server.cpu_times()[:4])
    for process in server.children():
        with suppress(psutil.NoSuchProcess):  # autovacuum's come and go
            seconds += sum(process.cpu_times()[:2])
    return float(seconds)


if __name__ == "__main__":
    main()
