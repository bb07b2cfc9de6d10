"""Processes forked from one that has imported everything, up in a blink: processors, and whatever else a test runs."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Connection
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.service import HookEventProcessor
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database


@dataclass(eq=False)
class Running:
    """A processor that runs; `log` is what it has said so far, a line each."""

    pid: int
    log_path: Path
    status: int | None = None

    @property
    def log(self) -> list[str]:
        return self.log_path.read_text().splitlines()

    def said(self, words: str) -> list[str]:
        """The lines of the log that hold these words."""
        return [line for line in self.log if words in line]

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """The exit status, negative for a signal; fails when it does not end in time."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                break
            assert time.monotonic() < deadline, f"it did not end within {seconds:g} seconds:\n" + "\n".join(self.log)
            time.sleep(0.01)
        return self.status

    def kill(self) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGCONT)
            self.wait(10)


def fork(name: str, folder: Path, run: Callable[[], int]) -> Running:
    """Fork a process that ends with the status of `run`; what it writes is in a log in `folder`."""
    log_path = folder / f"{name}-{time.monotonic_ns()}.log"
    log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        status = 70
        try:
            status = run()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(log)
    return Running(pid, log_path)


def start(
    database: Database,
    folder: Path,
    register: Callable[[EventHandlerRegistry], None] = lambda _: None,
    **settings: Any,
) -> Running:
    """Fork a processor; `register` may add handlers, `settings` are fields of Settings."""
    values = {"home": folder, "conninfo": database.conninfo, **settings}
    return fork("processor", folder, lambda: _run(database, register, values))


def _run(database: Database, register: Callable[[EventHandlerRegistry], None], settings: dict[str, Any]) -> int:
    processor = HookEventProcessor(Settings(**settings), database)
    register(processor.handler_registry)
    return processor.run(lambda: print("ready", file=sys.stderr, flush=True))


@contextmanager
def ends_well(process: Running, ready: str, seconds: float = 30) -> Iterator[Running]:
    """A process that says these words when it is ready; at the end it is told to stop, and must end well."""
    try:
        wait_for(lambda: bool(process.said(ready)), 10)
        yield process
        process.signal(signal.SIGCONT)
        process.signal(signal.SIGTERM)
        assert process.wait(seconds) == 0, "\n".join(process.log)
    except BaseException:
        print("\n".join(process.log[-60:]))
        raise
    finally:
        process.kill()


def running(database: Database, folder: Path, **settings: Any) -> AbstractContextManager[Running]:
    """A processor that is ready, and drains at the end; it must end well."""
    return ends_well(start(database, folder, **settings), "ready")


@contextmanager
def doomed(
    database: Database,
    folder: Path,
    register: Callable[[EventHandlerRegistry], None] = lambda _: None,
    **settings: Any,
) -> Iterator[Running]:
    """A processor that is to die; at the end it is killed if it has not."""
    process = start(database, folder, register, **settings)
    try:
        yield process
    finally:
        process.kill()


def add_hook(connection: Connection, name: str, event_type: str, text: str, **columns: Any) -> int:
    """Store a Lua hook as it is, unchecked; returns its id. `columns` are those of hooks."""
    names = ["name", "event_types", *columns]
    values = [name, [event_type], *columns.values()]
    with connection.transaction():
        row = connection.execute(
            f"INSERT INTO hooks ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))}) RETURNING id", values
        ).fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES (%s, 1, %s, '')", (row[0], text)
        )
    return int(row[0])


def insert(connection: Connection, event_type: str, payload: str = "{}", count: int = 1, **columns: Any) -> list[UUID]:
    """Insert fresh events with `payload` as their JSON text; returns their ids."""
    source, _, action = event_type.partition(".")
    names = ["source", "action", "payload", *columns]
    rows = connection.execute(
        f"INSERT INTO hook_events ({', '.join(names)})"
        f" SELECT {', '.join(['%s'] * len(names))} FROM generate_series(1, %s) RETURNING id",
        [source, action, payload, *columns.values(), count],
    ).fetchall()
    return [row[0] for row in rows]


def count(connection: Connection, condition: str, *parameters: Any) -> int:
    """How many events meet a condition."""
    row = connection.execute(f"SELECT count(*) FROM hook_events WHERE {condition}", parameters).fetchone()
    assert row is not None
    return int(row[0])


def state(connection: Connection, event_id: UUID) -> str:
    """The state of an event, as the view says it."""
    row = connection.execute("SELECT state FROM events WHERE id = %s", (event_id,)).fetchone()
    assert row is not None
    return str(row[0])


def all_processed(connection: Connection) -> bool:
    return count(connection, "NOT processed") == 0
