"""Fail when the processor has become a third slower than recorded, beside the raw SQL limit of the same run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import report
from report import number
from server import databases
from table import Workload
from throughput import Bench

# How the figure came about is said in the file, beside it.
RECORDED = Path(__file__).with_name("guard.json")
EVENTS, ROUNDS, CLIENTS = 40_000, 3, 2
TOLERATED = 2 / 3


def main() -> None:
    recorded = json.loads(RECORDED.read_text())
    lowest = recorded["ratio"] * TOLERATED
    with databases("bench") as (database,):
        bench = Bench(database, Workload(EVENTS))
        bench.prepare()
        rounds = bench.compare(ROUNDS, CLIENTS)
        # The best round: what else the machine does makes rounds worse, and never better.
        ratio = max(a / b for a, b in zip(rounds.values["product"], rounds.values["raw"], strict=True))
        report.show(
            f"guard: {EVENTS:,} events",
            ("what", "value"),
            [
                ("raw SQL, events/s", number(rounds.median("raw"))),
                ("processor, events/s", number(rounds.median("product"))),
                ("best ratio", number(ratio)),
                ("recorded", number(recorded["ratio"])),
                ("lowest that passes", number(lowest)),
            ],
            database=database,
            ratio=ratio,
            recorded=recorded,
        )
    if ratio < lowest:
        sys.exit(
            f"the processor reached {ratio:.2f} of raw SQL: below {lowest:.2f}, two thirds of what {RECORDED} records"
        )


if __name__ == "__main__":
    main()
