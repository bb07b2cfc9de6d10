"""Resident memory of a processor: idle, and while it drains a full table."""

from __future__ import annotations

import time

import processor
import report
import table
from options import Size, parse, parser
from report import number
from resident import Watched, resident_mb
from server import databases
from table import Workload

_SETTLE_SECONDS = 3.0


def main() -> None:
    options = parser(__doc__, events=Size(100_000, 1_000_000, "events to drain"))
    options.add_argument("--hooks", type=int, default=1, help="hooks that run for each event (default 1)")
    arguments = parse(options)
    load = Workload(arguments.events, arguments.hooks)
    with databases("bench") as (database,):
        table.add_hooks(database.connection, load.hooks)
        with processor.running(database) as process:
            time.sleep(_SETTLE_SECONDS)
            idle = resident_mb(process)
            with Watched(process) as watched:
                table.insert(database.connection, load)
                processor.wait_for(lambda: processor.all_processed(database), 900)
            time.sleep(_SETTLE_SECONDS)
            after = resident_mb(process)
        table.drained(database, load)
        report.show(
            f"memory: MB resident, {load.events:,} events",
            ("when", "MB"),
            [
                ("idle, after the start", number(idle)),
                ("highest while it drains", number(watched.highest_mb)),
                ("idle, afterwards", number(after)),
            ],
            database=database,
            idle=idle,
            highest=watched.highest_mb,
            after=after,
        )


if __name__ == "__main__":
    main()
