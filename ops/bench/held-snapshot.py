"""Whether the rate stays level while a transaction that has written holds a snapshot: no dead row can be removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import psycopg

import processor
import raw
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases
from table import Workload

CLIENTS = 2
# Events by the order of their acknowledgement, in tenths; a tenth lasts from the end of the one before to its own.
_TENTHS = """
WITH tenths AS (
    SELECT tenth, count(*) AS events, max(processed_at) AS ended
    FROM (SELECT processed_at, ntile(10) OVER (ORDER BY processed_at) AS tenth FROM hook_events) AS placed
    GROUP BY tenth)
SELECT (events / extract(epoch FROM ended - coalesce(
    lag(ended) OVER (ORDER BY tenth), (SELECT min(processed_at) FROM hook_events))))::float8
FROM tenths ORDER BY tenth
"""


def main() -> None:
    options = parser(
        __doc__,
        events=Size(200_000, 1_000_000, "events a run (a multiple of 2000)"),
        rounds=Size(3, 5, "interleaved rounds"),
    )
    arguments = parse(options)
    load = Workload(arguments.events)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        runs = [
            Run("raw SQL", database, load, lambda: raw.run(database.conninfo, load.events, CLIENTS), hooks=1),
            Run("processor", database, load, lambda: processor.drain(database), hooks=load.hooks),
        ]
        rounds = interleaved(arguments.rounds, {run.name: run.last_to_first for run in runs})
        report.show(
            f"held-snapshot: thousands of events/s in each tenth of {load.events:,} events",
            ("what", *(str(tenth) for tenth in range(1, 11)), "last / first"),
            [(run.name, *run.medians(), number(rounds.median(run.name))) for run in runs],
            database=database,
            notes=[
                f"{run.name}: last / first in each round {', '.join(map(number, rounds.values[run.name]))};"
                f" the snapshot was {run.age:,} transactions old at the end."
                for run in runs
            ],
            tenths={run.name: run.tenths for run in runs},
            last_to_first=rounds.values,
        )


@dataclass(slots=True)
class Run:
    """One way to drain the table, again and again; `age` is the snapshot's, in transactions."""

    name: str
    database: Database
    load: Workload
    drain: Callable[[], None]
    hooks: int
    tenths: list[list[float]] = field(default_factory=list)
    age: int = 0

    def last_to_first(self) -> float:
        """Of one run."""
        rates, self.age = _held(self.database, self.load, self.drain, self.hooks)
        self.tenths.append(rates)
        return rates[-1] / rates[0]

    def medians(self) -> Iterator[str]:
        """Of each tenth over the rounds, in thousands."""
        return (number(median(rates) / 1000) for rates in zip(*self.tenths, strict=True))


def _held(database: Database, load: Workload, drain: Callable[[], None], hooks: int) -> tuple[list[float], int]:
    table.fill(database.connection, load)
    with psycopg.connect(database.conninfo) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT count(*), pg_current_xact_id() FROM hook_events")
        drain()
        age = database.one("SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = %s", holder.info.backend_pid)[0]
    table.drained(database, load, hooks)
    return [row[0] for row in database.connection.execute(_TENTHS)], int(age)


if __name__ == "__main__":
    main()
