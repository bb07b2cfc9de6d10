"""PgBouncer between the processors and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hook_event_processor.store.embedded.account import server_account

_START_SECONDS = 10.0
_PORT = 6432
_SETTINGS = """\
[databases]
{database} = host={host} port={port} dbname={database} user={user}
[pgbouncer]
pool_mode = {mode}
unix_socket_dir = {sockets}
unix_socket_mode = 0700
listen_port = {listen_port}
; The socket's directory is its user's and root's alone; the user towards PostgreSQL stands above.
auth_type = any
max_client_conn = 200
default_pool_size = 20
logfile = {log}
pidfile =
"""


def program() -> str | None:
    """PgBouncer's program, if it is installed."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Pooler:
    """A PgBouncer in front of `server` (a connection string with a socket), in `mode`: session or transaction."""

    def __init__(self, place: Path, server: str, mode: str) -> None:
        """Files go below `place`, which its user can enter."""
        # It does not run as root, nor would PostgreSQL's socket let anybody else in.
        self._account = server_account()
        sockets = place / "pooler"
        self._account.make_directory(sockets)
        self.conninfo = make_conninfo(server, host=str(sockets), port=_PORT)
        given = conninfo_to_dict(server)
        upstream = {name: given[name] for name in ("host", "port", "user")}
        self._settings = place / "pgbouncer.ini"
        self._settings.write_text(
            _SETTINGS.format(
                database=given["dbname"], mode=mode, sockets=sockets, listen_port=_PORT, log=sockets / "log", **upstream
            )
        )
        self._settings.chmod(0o644)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        executable = program()
        assert executable is not None, "PgBouncer is not installed"
        self._process = self._account.start([executable, "-q", self._settings], subprocess.DEVNULL)
        ends = time.monotonic() + _START_SECONDS
        while not self._takes_connections():
            assert self._process.poll() is None, "PgBouncer has ended"
            assert time.monotonic() < ends, "PgBouncer takes no connections"
            time.sleep(0.05)

    def _takes_connections(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.conninfo):
            return True
        return False

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self._process.kill()
        self._process.wait(10)


@contextmanager
def pooler(place: Path, server: str, mode: str) -> Iterator[Pooler]:
    """A PgBouncer that runs."""
    running = Pooler(place, server, mode)
    running.start()
    try:
        yield running
    finally:
        running.kill()
