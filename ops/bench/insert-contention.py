"""What the wake trigger costs concurrent inserts; and, with --soak, whether it ever fails to wake."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from functools import partial

import psycopg

import processor
import raw
import report
import table
from options import Size, parse, parser
from report import number
from rounds import interleaved
from server import Database, databases

CLIENTS = 16
_INSERT = "INSERT INTO hook_events (source, action) VALUES ('bench', 'tool');\n"
# For comparison: the least that a trigger can do, and what other queues do, a notification with each statement.
_OTHERS = """
CREATE FUNCTION bench_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER bench_nothing BEFORE INSERT ON hook_events FOR EACH STATEMENT EXECUTE FUNCTION bench_nothing();
CREATE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('bench', 'insert'); RETURN NULL; END $$;
CREATE TRIGGER bench_notify BEFORE INSERT ON hook_events FOR EACH STATEMENT EXECUTE FUNCTION bench_notify();
"""
_CASES = {
    "no trigger": None,
    "a trigger that does nothing": "bench_nothing",
    "the wake trigger": "hook_events_wake",
    "NOTIFY with each": "bench_notify",
}
SOAK_CLIENTS = 4
SOAK_SETTINGS = {"POLL_INTERVAL": 30}  # a poll would hide what was not notified
_SOAKED = "SELECT count(*), coalesce(max(extract(epoch FROM processed_at - created_at)), 0)::float8 FROM hook_events"


def main() -> None:
    options = parser(
        __doc__,
        seconds=Size(2, 2, "seconds a run"),
        rounds=Size(7, 21, "interleaved rounds"),
        soak=Size(0, 600, "soak"),
    )
    arguments = parse(options)
    with databases("bench") as (database,):
        table.add_hooks(database.connection)
        database.connection.execute(_OTHERS)
        measures = {name: partial(_rate, database, trigger, arguments.seconds) for name, trigger in _CASES.items()}
        rounds = interleaved(arguments.rounds, measures)
        rows = [(name, number(rounds.median(name)), number(rounds.ratio(name, "no trigger"))) for name in _CASES]
        _enable(database, "hook_events_wake")
        soaked = _soak(database, arguments.soak) if arguments.soak else None
        if soaked:
            rows.append((f"soak of {arguments.soak} s: events, longest wait in s", f"{soaked[0]:,}", number(soaked[1])))
        report.show(
            f"insert-contention: single inserts a second, {CLIENTS} clients",
            ("trigger", "inserts/s", "ratio"),
            rows,
            database=database,
            settings=SOAK_SETTINGS if soaked else None,
            rounds=rounds.values,
            soak=soaked,
        )


def _enable(database: Database, trigger: str | None) -> None:
    for name in filter(None, _CASES.values()):
        word = "ENABLE" if name == trigger else "DISABLE"
        database.connection.execute(f"ALTER TABLE hook_events {word} TRIGGER {name}")


def _rate(database: Database, trigger: str | None, seconds: int) -> float:
    _enable(database, trigger)
    table.empty(database.connection)
    raw.pgbench(database.conninfo, _INSERT, CLIENTS, f"--time={seconds}")
    return float(database.one("SELECT count(*) FROM hook_events")[0]) / seconds


def _soak(database: Database, seconds: int) -> tuple[int, float]:
    """Events that came one by one with transactions of random length, and the longest wait for one of them.

    Two processors; created_at is when its transaction began, so its length is part of the wait.
    """
    table.empty(database.connection)
    ends = time.monotonic() + seconds
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(processor.running(database, **SOAK_SETTINGS))
        clients = [threading.Thread(target=_insert_slowly, args=(database, ends)) for _ in range(SOAK_CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        processor.wait_for(lambda: processor.all_processed(database), 60)
        events, longest = database.one(_SOAKED)
    return int(events), float(longest)


def _insert_slowly(database: Database, ends: float) -> None:
    chance = random.Random()
    with psycopg.connect(database.conninfo) as connection:
        while time.monotonic() < ends:
            connection.execute("INSERT INTO hook_events (source, action) VALUES ('bench', 'nothing')")
            time.sleep(chance.choice((0, 0, 0.001, 0.01, 0.05)))
            connection.commit()
            time.sleep(chance.expovariate(20))


if __name__ == "__main__":
    main()
