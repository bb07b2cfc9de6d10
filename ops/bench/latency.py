"""Milliseconds from the client's INSERT to the hook's first line: at a steady rate, and past a deep backlog."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from hook_event_processor.event import DEFAULT_PRIORITY

import processor
import raw
import report
import table
from options import Size, parse, parser
from report import number
from server import Database, databases
from table import Workload

CLIENTS = 8
URGENT_RATE = 50
WARM_UP_SECONDS = 2
BUCKETS = (0.5, 1, 2, 3, 5, 10, 15, 25, 50, 100, 250, 1000)  # upper ends, ms

# The hook says when its first line ran; the INSERT carries when it began.
HOOK = """\
local time = require("time")

return {
  name = "latency",
  event_type = "latency.probe",
  execute = function(event)
    local began = time.now()
    return true, string.format("%.6f %.6f", event.data.sent, began)
  end,
}
"""
# To read the clock takes the interpreter's lock, which another lane may hold by then: what only counts, for about as
# long, shows what of the time that is.
TIMED = """\
local events, time = require("event"), require("time")

return {{
  name = "{name}",
  event_type = "dispatch.probe",
  execute = function(event)
    local began = time.now()
    {work}
    return true, string.format("%.6f", (time.now() - began) / 10)
  end,
}}
"""
WORK = {
    "dispatching": 'for number = 1, 10 do events.dispatch("dispatched.nowhere", { number = number }) end',
    "counting": "local sum = 0 for number = 1, 2500 do sum = sum + number end",
}
# clock_timestamp() is read as the statement begins: before the trigger, the row and the commit.
_INSERT = """
INSERT INTO hook_events (source, action, priority, payload)
VALUES ('latency', 'probe', {priority}, jsonb_build_object('sent', extract(epoch FROM clock_timestamp())));
"""


def main() -> None:
    options = parser(
        __doc__,
        rate=Size(500, 500, "events a second"),
        seconds=Size(20, 120, "seconds at that rate"),
        backlog=Size(200_000, 1_000_000, "events that wait when the urgent ones come"),
    )
    arguments = parse(options)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        table.add_hook(database.connection, "latency", "latency.probe", HOOK)
        for name, work in WORK.items():
            text = TIMED.format(name=name, work=work)
            table.add_hook(database.connection, name, "dispatch.probe", text)
        steady = _steady(database, arguments.rate, arguments.seconds)
        dispatch, counting = _dispatch(database)
        urgent = _past_a_backlog(database, arguments.backlog)
        rows = [*_rows(steady), *_rows(urgent)]
        rows.append(_row("event.dispatch, ten in a row, each", dispatch))
        rows.append(_row("a tenth of what only counts, beside it", counting))
        report.show(
            "latency: ms from INSERT to the hook's first line",
            ("what", "events", "median", "p90", "p99", "p99.9", "highest"),
            rows,
            database=database,
            notes=[
                _histogram(steady.all),
                f"{steady.of_late()}; {urgent.of_late()}.",
                "event.dispatch is timed inside the hook; its insert belongs to the commit.",
            ],
            steady=_summary(steady.all),
            urgent=_summary(urgent.all),
            steady_without_stalls=_summary(steady.smooth),
            urgent_without_stalls=_summary(urgent.smooth),
            dispatch=_summary(dispatch),
            counting=_summary(counting),
        )


@dataclass(frozen=True, slots=True)
class Waits:
    """How long events of one kind waited, sorted, in ms: all, and those that met no stall of the disk."""

    name: str
    all: list[float]
    smooth: list[float]
    late: float

    def of_late(self) -> str:
        """How many were late, and how many of these while the disk stood still."""
        late, smooth = (len(waits) - bisect_left(waits, self.late) for waits in (self.all, self.smooth))
        return f"{self.name}: {late:,} over {self.late:g} ms, of which {late - smooth:,} while the disk stood still"


def _steady(database: Database, rate: int, seconds: int) -> Waits:
    table.empty(database.connection)
    with processor.running(database):
        _send(database, rate, WARM_UP_SECONDS)
        processor.wait_for(lambda: processor.all_processed(database), 60)
        table.empty_events(database.connection)
        sent = _send(database, rate, seconds)
        processor.wait_for(lambda: processor.all_processed(database), 60)
    return _waits(database, f"{rate} events/s", sent, late=15)


def _past_a_backlog(database: Database, backlog: int) -> Waits:
    """Urgent events that come while the backlog is worked off; they end with it."""
    table.fill(database.connection, Workload(backlog))
    with processor.running(database):
        script = _INSERT.format(priority=1)
        with raw.pgbench_meanwhile(database.conninfo, script, CLIENTS, f"--rate={URGENT_RATE}"):
            processor.wait_for(lambda: processor.all_processed(database), 600)
        processor.wait_for(lambda: processor.all_processed(database), 60)
    (sent,) = database.one("SELECT count(*) FROM hook_events WHERE source = 'latency'")
    return _waits(database, f"priority 1, {backlog:,} waiting", sent, late=100)


def _dispatch(database: Database) -> list[list[float]]:
    table.empty(database.connection)
    database.connection.execute(
        "INSERT INTO hook_events (source, action) SELECT 'dispatch', 'probe' FROM generate_series(1, 2000)"
    )
    processor.drain(database)
    return [sorted(float(output) * 1000 for output in _outputs(database, name, 2000)) for name in WORK]


def _send(database: Database, rate: int, seconds: int) -> int:
    """Insert one by one from several clients, at random moments of that rate; returns how many."""
    each = rate * seconds // CLIENTS
    script = _INSERT.format(priority=DEFAULT_PRIORITY)
    raw.pgbench(database.conninfo, script, CLIENTS, f"--rate={rate}", f"--transactions={each}")
    return each * CLIENTS


def _waits(database: Database, name: str, sent: int, late: float) -> Waits:
    times = [tuple(map(float, output.split())) for output in _outputs(database, "latency", sent)]
    smooth = [(sent, began) for sent, began in times if not database.disk.stood_still(sent, began)]
    both = (sorted((began - sent) * 1000 for sent, began in of_these) for of_these in (times, smooth))
    return Waits(name, *both, late)


def _outputs(database: Database, hook: str, runs: int) -> list[str]:
    """What the hook said; ends the benchmark when a run is missing, or one is there twice."""
    rows = database.connection.execute(
        "SELECT output FROM event_hook_executions WHERE hook_name = %s AND success", (hook,)
    ).fetchall()
    assert len(rows) == runs, f"{len(rows)} executions of {runs} events"
    return [row[0] for row in rows]


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values: the one that so large a share does not exceed."""
    return values[min(int(len(values) * share), len(values) - 1)]


def _rows(waits: Waits) -> list[report.Row]:
    return [_row(waits.name, waits.all), _row("  those that met no stall of the disk", waits.smooth)]


def _row(name: str, values: Sequence[float]) -> report.Row:
    shown = [median(values), *(percentile(values, share) for share in (0.9, 0.99, 0.999)), values[-1]]
    return (name, f"{len(values):,}", *(number(value) for value in shown))


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "p99": percentile(values, 0.99), "mean": mean(values), "highest": values[-1]}


def _histogram(values: Sequence[float]) -> str:
    counts = [0] * (len(BUCKETS) + 1)
    for value in values:
        counts[bisect_left(BUCKETS, value)] += 1
    names = [f"<= {end:g} ms" for end in BUCKETS] + [f"> {BUCKETS[-1]:g} ms"]
    longest = max(counts)
    lines = [
        f"{name:>10} {count:7,} {'#' * round(50 * count / longest)}"
        for name, count in zip(names, counts, strict=True)
        if count
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
