"""Events a second of processors that drain a full table, beside the raw SQL limit."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass

import processor
import raw
import report
import table
from cgroup import Group
from options import Size, parse, parser
from report import number
from rounds import Rounds, interleaved
from server import Database, databases
from table import Workload

CLIENTS = (1, 2, 4)
UNIT_CORES, UNIT_BYTES = 0.5, 512 * 1024 * 1024  # as systemd/hook-event-processor.service has it


@dataclass(frozen=True, slots=True)
class Bench:
    """One workload in one database."""

    database: Database
    load: Workload
    processes: int = 1
    group: Group | None = None

    def raw(self, clients: int) -> float:
        """The claim and record statements in pgbench; one run of one hook for each event."""
        table.fill(self.database.connection, self.load)
        raw.run(self.database.conninfo, self.load.events, clients)
        return table.drained(self.database, self.load, hooks=1)

    def product(self) -> float:
        """The processor, started as its users start it."""
        table.fill(self.database.connection, self.load)
        processor.drain(self.database, self.processes, group=self.group)
        return table.drained(self.database, self.load)

    def prepare(self) -> None:
        """Store the hooks."""
        table.add_hooks(self.database.connection, self.load.hooks, effectful=self.load.effectful)

    def best_clients(self) -> dict[int, float]:
        """What one run with each number of clients came to."""
        return {clients: self.raw(clients) for clients in CLIENTS}

    def compare(self, count: int, clients: int) -> Rounds:
        """Interleaved rounds of both."""
        return interleaved(count, {"raw": lambda: self.raw(clients), "product": self.product})


def main() -> None:
    options = parser(
        __doc__,
        events=Size(100_000, 200_000, "events a run (a multiple of 4000)"),
        rounds=Size(5, 7, "interleaved rounds of raw and product"),
    )
    options.add_argument("--hooks", type=int, default=1, help="hooks that run for each event (default 1)")
    options.add_argument("--payload", type=int, default=0, help="bytes of each payload (default: a short one)")
    options.add_argument("--uuid4", action="store_true", help="the client makes the ids, without an order")
    options.add_argument(
        "--effectful", action="store_true", help="hooks that could act outside: under leases, in slots"
    )
    options.add_argument("--processes", type=int, default=1, help="processors that run at once (default 1)")
    options.add_argument("--unit", action="store_true", help="processors with the CPU and memory of the shipped unit")
    options.add_argument("--show-sql", action="store_true", help="print the raw transaction and end")
    arguments = parse(options)
    if arguments.show_sql:
        print(raw.script())
        return
    with databases("bench") as (database,), ExitStack() as stack:
        _measure(database, arguments, _as_the_unit(stack) if arguments.unit else None)


def _as_the_unit(stack: ExitStack) -> Group:
    group = Group(stack)
    if not group.limit(UNIT_CORES, UNIT_BYTES):
        sys.exit("no cgroup can be made here, or none with these limits")
    return group


def _measure(database: Database, arguments: Namespace, group: Group | None) -> None:
    load = Workload(arguments.events, arguments.hooks, arguments.payload, arguments.uuid4, arguments.effectful)
    bench = Bench(database, load, arguments.processes, group)
    bench.prepare()
    best = bench.best_clients()
    clients = max(best, key=lambda count: best[count])
    rounds = bench.compare(arguments.rounds, clients)
    name = f"throughput: {load.events:,} events, {load.hooks} hooks each"
    name += f", payload of {load.payload:,} bytes" if load.payload else ""
    name += ", ids of version 4" if load.uuid4 else ""
    name += ", effectful" if load.effectful else ""
    name += f", {UNIT_CORES:g} of a core" if group else ""
    ratio = rounds.ratio("product", "raw")
    report.show(
        name,
        ("what", "events/s", "of raw"),
        [
            *((f"raw SQL, {count} clients, one run", number(rate), "") for count, rate in best.items()),
            (f"raw SQL, {clients} clients", number(rounds.median("raw")), "1"),
            (f"{arguments.processes} processors", number(rounds.median("product")), number(ratio)),
        ],
        database=database,
        notes=[f"Medians of {arguments.rounds} interleaved rounds; executions were counted after each."],
        raw=rounds.values["raw"],
        product=rounds.values["product"],
        ratio=ratio,
    )


if __name__ == "__main__":
    main()
