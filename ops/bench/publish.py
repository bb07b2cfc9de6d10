"""Events a second that are published: in bulk beside a bare COPY, one by one beside a bare INSERT."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from psycopg import Connection

from hook_event_processor.event import NewEvent
from hook_event_processor.store.insert import Publisher

import raw
import report
import table
from options import Size, parse, parser
from report import number
from rounds import Rounds, interleaved
from server import Database, databases

PAYLOAD = {"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}
_BLOCK = 1 << 17  # bytes that the bare COPY sends at a time
_COLUMNS = "id, source, action, resource, resource_id, payload, metadata, priority, available_at, occurred_at"
# The same row by both ways, and the client makes neither.
_VALUES = """'bench', 'tool', '{"tool_name": "Bash", "input": {"command": "ls -la /tmp"}, "n": 1}'"""
INSERT = f"INSERT INTO hook_events (source, action, payload) VALUES ({_VALUES});\n"
FUNCTION = f"SELECT hook_publish({_VALUES.replace(chr(39) + ', ' + chr(39), '.', 1)});\n"


def main() -> None:
    options = parser(
        __doc__,
        events=Size(100_000, 300_000, "events in bulk a run"),
        rounds=Size(5, 7, "interleaved rounds"),
        seconds=Size(3, 5, "seconds of single calls a run"),
    )
    arguments = parse(options)
    with databases("bench") as (database,):
        bulk = _bulk(database, arguments.events, arguments.rounds)
        rows = [
            ("COPY of ready lines", number(bulk.median("copy")), "1"),
            _row("Publisher.publish_many", bulk, "publish_many", "copy"),
            _row("Publisher.publish_many, ids by the client", bulk, "with ids", "copy"),
        ]
        ratios = {}
        for clients in (1, 16):
            single = _single(database, clients, arguments.seconds, arguments.rounds)
            rows.append((f"INSERT, {clients} clients", number(single.median("insert")), "1"))
            rows.append(_row(f"hook_publish(), {clients} clients", single, "hook_publish", "insert"))
            ratios[f"hook_publish_{clients}"] = single.ratio("hook_publish", "insert")
        report.show(
            "publish: events a second",
            ("what", "events/s", "ratio"),
            rows,
            database=database,
            notes=["Events are made while they are published. Single calls commit one by one."],
            publish_many=bulk.values["publish_many"],
            publish_many_ratio=bulk.ratio("publish_many", "copy"),
            single_ratios=ratios,
        )


def _row(name: str, rounds: Rounds, measure: str, to: str) -> report.Row:
    return (name, number(rounds.median(measure)), number(rounds.ratio(measure, to)))


def _bulk(database: Database, events: int, count: int) -> Rounds:
    connection = database.connection
    _copied(connection, events)
    lines = b"".join(_lines(connection))
    publisher = Publisher(connection)
    ids = [row[0] for row in connection.execute("SELECT gen_random_uuid() FROM generate_series(1, %s)", (events,))]
    measures = {
        "copy": partial(_rate, connection, events, partial(_copy, connection, lines)),
        "publish_many": partial(_rate, connection, events, lambda: publisher.publish_many(_events(events))),
        "with ids": partial(
            _rate,
            connection,
            events,
            lambda: publisher.publish_many(NewEvent("bench", "tool", PAYLOAD, "tool", "Bash", id=id_) for id_ in ids),
        ),
    }
    return interleaved(count, measures)


def _events(events: int) -> Iterator[NewEvent]:
    for _ in range(events):
        yield NewEvent("bench", "tool", PAYLOAD, "tool", "Bash")


def _copied(connection: Connection, events: int) -> None:
    table.empty(connection)
    Publisher(connection).publish_many(_events(events))


def _lines(connection: Connection) -> Iterator[bytes]:
    """The published rows as COPY writes them: what the bare COPY reads."""
    with connection.cursor().copy(f"COPY hook_events ({_COLUMNS}) TO STDOUT") as copy:
        yield from map(bytes, copy)


def _copy(connection: Connection, lines: bytes) -> None:
    with connection.cursor().copy(f"COPY hook_events ({_COLUMNS}) FROM STDIN") as copy:
        for at in range(0, len(lines), _BLOCK):
            copy.write(lines[at : at + _BLOCK])


def _rate(connection: Connection, events: int, publish: Callable[[], object]) -> float:
    table.empty(connection)
    connection.execute("CHECKPOINT")
    began = time.perf_counter()
    publish()
    seconds = time.perf_counter() - began
    row = connection.execute("SELECT count(*) FROM hook_events").fetchone()
    assert row == (events,), f"{row} events of {events} were published"
    return events / seconds


def _single(database: Database, clients: int, seconds: int, count: int) -> Rounds:
    def rate(script: str) -> float:
        table.empty(database.connection)
        raw.pgbench(database.conninfo, script, clients, f"--time={seconds}")
        return float(database.one("SELECT count(*) FROM hook_events")[0]) / seconds

    return interleaved(count, {"insert": lambda: rate(INSERT), "hook_publish": lambda: rate(FUNCTION)})


if __name__ == "__main__":
    main()
