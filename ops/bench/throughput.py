"""Events a second of one processor, beside the raw SQL limit; a table, then JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table

from hook_event_processor.store import embedded
from hook_event_processor.store.embedded.program import installed
from hook_event_processor.store.migrate import migrate

import raw
import table

CLIENTS = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="events a run (a multiple of 4000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of raw and product")
    parser.add_argument("--show-sql", action="store_true", help="print the raw transaction and end")
    arguments = parser.parse_args()
    if arguments.show_sql:
        print(raw.script())
        return
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hep-bench-", dir="/var/tmp")))
        home.chmod(0o755)
        server = stack.enter_context(embedded.start(home / "home"))
        with psycopg.connect(server.conninfo, autocommit=True) as owner:
            migrate(owner)
            database = make_conninfo(server.administration, dbname=owner.info.dbname)
        # CHECKPOINT is the administrator's.
        connection = stack.enter_context(psycopg.connect(database, autocommit=True))
        _measure(connection, server.conninfo, arguments.events, arguments.pairs)


def _measure(connection: Connection, conninfo: str, events: int, pairs: int) -> None:
    table.add_hooks(connection)
    best = {clients: _raw(connection, conninfo, events, clients) for clients in CLIENTS}
    clients = max(best, key=lambda count: best[count])
    rows = [(_raw(connection, conninfo, events, clients), _product(connection, conninfo, events)) for _ in range(pairs)]
    raw_rate, rate = median(pair[0] for pair in rows), median(pair[1] for pair in rows)
    ratio = median(product / limit for limit, product in rows)
    _print(connection, best, clients, raw_rate, rate, ratio, events, pairs)


def _raw(connection: Connection, conninfo: str, events: int, clients: int) -> float:
    table.fill(connection, events)
    raw.run(installed() / "bin" / "pgbench", conninfo, events, clients)
    return table.drained(connection).per_second


def _product(connection: Connection, conninfo: str, events: int) -> float:
    table.fill(connection, events)
    environment = {**os.environ, "DATABASE_URL": conninfo, "LOG_LEVEL": "WARNING"}
    processor = subprocess.Popen([sys.executable, "-m", "hook_event_processor", "run"], env=environment)
    try:
        while connection.execute("SELECT EXISTS (SELECT FROM hook_events WHERE NOT processed)").fetchone() != (False,):
            time.sleep(0.25)
    finally:
        processor.send_signal(signal.SIGTERM)
        processor.wait()
    return table.drained(connection).per_second


def _print(
    connection: Connection,
    best: dict[int, float],
    clients: int,
    raw_rate: float,
    rate: float,
    ratio: float,
    events: int,
    pairs: int,
) -> None:
    row = connection.execute("SELECT version()").fetchone()
    assert row is not None
    shown = Table(
        title=f"{events:,} events a run, median of {pairs} pairs, {os.cpu_count()} cores; {row[0].split(' on ')[0]}"
    )
    shown.add_column("what")
    shown.add_column("events/s", justify="right")
    for count, per_second in best.items():
        shown.add_row(f"raw SQL, {count} clients, one run", f"{per_second:,.0f}")
    shown.add_row(f"raw SQL, {clients} clients", f"{raw_rate:,.0f}")
    shown.add_row("processor, one Lua hook an event", f"{rate:,.0f}")
    shown.add_row("processor / raw SQL", f"{ratio:.2f}")
    Console().print(shown)
    print(json.dumps({"events": events, "pairs": pairs, "raw": raw_rate, "product": rate, "ratio": ratio}))


if __name__ == "__main__":
    main()
