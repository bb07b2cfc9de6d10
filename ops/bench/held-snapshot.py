"""Whether the rate stays level while a transaction that has written holds a snapshot: no dead row can be removed."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

import processor
import raw
import report
import table
from options import Size, parse, parser
from report import number
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
    arguments = parse(parser(__doc__, events=Size(200_000, 1_000_000, "events a run (a multiple of 2000)")))
    load = Workload(arguments.events)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        limit = _held(database, load, lambda: raw.run(database.conninfo, load.events, CLIENTS), hooks=1)
        product = _held(database, load, lambda: processor.drain(database), hooks=load.hooks)
        report.show(
            f"held-snapshot: events/s of each tenth of {load.events:,} events",
            ("what", *(str(tenth) for tenth in range(1, 11)), "last / first"),
            [_row("raw SQL", limit[0]), _row("processor", product[0])],
            database=database,
            notes=[f"The snapshot was {limit[1]:,} and {product[1]:,} transactions old at the end."],
            raw=limit[0],
            product=product[0],
            last_to_first=product[0][-1] / product[0][0],
            xmin_age=product[1],
        )


def _held(database: Database, load: Workload, drain: Callable[[], None], hooks: int) -> tuple[list[float], int]:
    """The rate of each tenth, and how old the snapshot was in the end, in transactions."""
    table.fill(database.connection, load)
    with psycopg.connect(database.conninfo) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("SELECT count(*), pg_current_xact_id() FROM hook_events")
        drain()
        age = database.one("SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = %s", holder.info.backend_pid)[0]
    table.drained(database, load, hooks)
    return [row[0] for row in database.connection.execute(_TENTHS)], int(age)


def _row(name: str, tenths: list[float]) -> report.Row:
    return (name, *(number(rate) for rate in tenths), number(tenths[-1] / tenths[0]))


if __name__ == "__main__":
    main()
