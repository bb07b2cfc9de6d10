"""The writer: it inserts events at an even rate, and tells the ledger what it was told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import Connection

from ops.chaos.events import Numbering
from ops.chaos.ledger import Ledger
from ops.chaos.postgres import connect

_TICK_SECONDS = 0.05
_AGAIN_SECONDS = 0.2
_INSERT = """
INSERT INTO hook_events (id, source, action, payload)
SELECT id, 'chaos', action, jsonb_build_object('n', n)
FROM unnest(%s::uuid[], %s::text[], %s::bigint[]) AS event (id, action, n)
"""


class Load:
    """Inserts `rate` events a second, a transaction every 50 ms, until stop().

    What it could not insert while the database was away is not made up for.
    """

    def __init__(self, conninfo: Callable[[], str], ledger: Ledger, numbering: Numbering, rate: float) -> None:
        """`conninfo` is asked before each new connection."""
        self._conninfo = conninfo
        self._ledger = ledger
        self._numbering = numbering
        self.rate = rate  # may be changed at any time; 0 pauses
        self._stopping = threading.Event()
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Insert nothing more; returns when the last batch is acknowledged or doubtful."""
        self._stopping.set()
        self._thread.join(60)
        if self._thread.is_alive():
            raise TimeoutError("the writer's last insert did not end within 60 s")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is inserted inside, and nothing is under way."""
        with self._sending:
            yield

    def burst(self, count: int, batch: int = 5000) -> None:
        """Insert so many events as fast as it goes, from the caller's thread and on a connection of its own."""
        with connect(self._conninfo()) as connection:
            while count > 0:
                numbers = self._ledger.reserve(min(batch, count))
                self._insert(connection, numbers)
                count -= len(numbers)

    def _run(self) -> None:
        at, owed = time.monotonic(), 0.0
        while not self._stopping.is_set():
            at = max(at + _TICK_SECONDS, time.monotonic() - 1.0)
            with self._sending:
                owed += self.rate * _TICK_SECONDS
                count = int(owed)
                owed -= count
                if count:
                    self._send(self._ledger.reserve(count))
            self._stopping.wait(max(0.0, at - time.monotonic()))
        self._close()

    def _send(self, numbers: range) -> None:
        try:
            if self._connection is None:
                self._connection = connect(self._conninfo(), "chaos-writer")
            self._insert(self._connection, numbers)
        except psycopg.Error:
            self._close()
            self._stopping.wait(_AGAIN_SECONDS)

    def _insert(self, connection: Connection, numbers: range) -> None:
        try:
            connection.execute(
                _INSERT,
                (
                    [self._numbering.id(number) for number in numbers],
                    [self._numbering.kind(number).name for number in numbers],
                    list(numbers),
                ),
            )
        except BaseException:
            self._ledger.doubtful(numbers)
            raise
        self._ledger.acknowledged(numbers)

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
