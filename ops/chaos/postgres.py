"""The PostgreSQL that is struck: the embedded server, which can be stopped in any way and started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from hook_event_processor.store import embedded
from hook_event_processor.store.embedded.cluster import DATABASE
from hook_event_processor.store.embedded.places import Places

# How pg_ctl's shutdown modes are asked for (PostgreSQL manual, "Shutting Down the Server").
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
_STOP_SECONDS = 60.0


class Server(Protocol):
    """What a scenario's PostgreSQL offers; the strings may change while it runs (promotion, a proxy in between)."""

    @property
    def for_auditor(self) -> str:
        """The product's role, connected straight to where the data is."""

    @property
    def for_writer(self) -> str:
        """What the load inserts through."""

    @property
    def for_processors(self) -> str:
        """DATABASE_URL of the processors."""

    @property
    def for_administrator(self) -> str:
        """The superuser, on the product's database."""

    def stop(self, mode: str = "fast") -> None:
        """Stop it (smart, fast, immediate or kill) and wait for its end."""

    def start(self) -> None:
        """Start it again, and wait until it takes connections."""


class Embedded:
    """The embedded server of a home directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._server = embedded.start(home)
        # Its socket lies in the same place after every start.
        self._conninfo, self._administration = self._server.conninfo, self._server.administration

    @property
    def for_auditor(self) -> str:
        return self._conninfo

    @property
    def for_writer(self) -> str:
        return self._conninfo

    @property
    def for_processors(self) -> str:
        return self._conninfo

    @property
    def for_administrator(self) -> str:
        return make_conninfo(self._administration, dbname=DATABASE)

    @property
    def pid(self) -> int:
        """The postmaster's process."""
        return int((Places(self._home.resolve()).data / "postmaster.pid").read_text().split()[0])

    def stop(self, mode: str = "fast") -> None:
        pid = self.pid
        os.kill(pid, _SIGNALS[mode])
        deadline = time.monotonic() + _STOP_SECONDS
        while not _ended(pid):
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL did not end within {_STOP_SECONDS:g} s of its {mode} shutdown")
            time.sleep(0.01)
        self._server.stop()

    def start(self) -> None:
        self._server = embedded.start(self._home)

    def close(self) -> None:
        self._server.stop()


def _ended(pid: int) -> bool:
    """Whether the process is gone, or a zombie that its starter has not asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def running(home: Path) -> Iterator[Embedded]:
    """An embedded server that runs with the product's own settings."""
    server = Embedded(home)
    try:
        yield server
    finally:
        server.close()


def connect(conninfo: str, application_name: str = "chaos") -> Connection:
    """A session in autocommit that does not wait long for a server that is away."""
    return psycopg.connect(
        make_conninfo(conninfo, connect_timeout=3, application_name=application_name), autocommit=True
    )
