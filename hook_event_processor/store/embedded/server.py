"""Start the embedded server or attach to it, and stop it.

Who owns it holds a lock on a file in the home for as long as it lives, and
stops the server at its end. The kernel drops the lock of an owner that was
killed, and stops the server; one that goes on is adopted by the next start.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType

from psycopg import OperationalError
from psycopg.conninfo import make_conninfo

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store.embedded import cluster, postmaster
from hook_event_processor.store.embedded.account import Account, name_of, server_account
from hook_event_processor.store.embedded.places import Places, clear, make_home, make_socket_directory
from hook_event_processor.store.embedded.program import MAJOR, copied, installed

_Launch = Callable[[Path], "subprocess.Popen[bytes]"]

_LOOK_SECONDS = 1.0  # between two looks whether an adopted server is there
_AGAIN_SECONDS = 2.0  # before a server that has ended is started again: what ends it may end this process, too


class EmbeddedServer:
    """A running embedded server; leaving the context stops it, unless another process owns it."""

    def __init__(
        self,
        places: Places,
        directory: str,
        lock: FileIO | None,
        process: subprocess.Popen[bytes] | None,
        launch: _Launch,
    ) -> None:
        """`launch` starts it in a directory for its socket. `process` is None for one that was adopted."""
        self._places = places
        self._directory = directory
        self._lock = lock
        self._process = process
        self._launch = launch
        self._stopping = threading.Event()
        self._changing = threading.Lock()  # held while it is started again or stopped

    @property
    def owned(self) -> bool:
        """Whether this process started the server, or adopted it from a starter that died."""
        return self._lock is not None

    @property
    def conninfo(self) -> str:
        """The connection string of the product's own role, which is no superuser and owns its database."""
        return _conninfo(self._directory, cluster.ROLE, cluster.DATABASE)

    @property
    def administration(self) -> str:
        """The connection string of the superuser."""
        return _conninfo(self._directory, cluster.SUPERUSER, "postgres")

    def stop(self) -> None:
        """Stop the server that this process owns, and wait for that; the second call does nothing.

        Raises EmbeddedServerError when the server does not end.
        """
        self._stopping.set()
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with lock, self._changing:
            # The number of a process that has ended may be another's by now.
            alive = self._process is not None and self._process.poll() is None
            postmaster.stop(self._places, self._process if alive else None)
            _remove(Path(self._directory))

    def keep(self, say: Callable[[str], None]) -> None:
        """Start the server again whenever it ends before it is stopped, in a thread of its own, and `say` so.

        Does nothing where another process owns it.
        """
        if self.owned:
            threading.Thread(target=self._keep, args=(say,), name="postgresql", daemon=True).start()

    def _keep(self, say: Callable[[str], None]) -> None:
        # The kernel stops the server when the thread that has started it ends: this one outlives it.
        fault = ""
        while not self._stopping.is_set():
            self._await_end()
            self._stopping.wait(_AGAIN_SECONDS)
            with self._changing:
                if self._stopping.is_set():
                    return
                if not fault:
                    say(f"PostgreSQL{self._status()} has ended: starting it again")
                before, fault = fault, self._start_again()
            if not fault:
                say("PostgreSQL runs again")
            elif fault != before:
                say(f"{fault}; trying again")

    def _await_end(self) -> None:
        if self._process is not None:
            self._process.wait()
        else:
            while postmaster.running(self._places) is not None and not self._stopping.wait(_LOOK_SECONDS):
                pass

    def _status(self) -> str:
        return f" (status {self._process.returncode})" if self._process is not None else ""

    def _start_again(self) -> str:
        """Why it cannot be started; empty when it runs."""
        try:
            clear(Path(self._directory))
            self._process = self._launch(Path(self._directory))
        except (EmbeddedServerError, OSError) as fault:
            return str(fault)
        return ""

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(home: Path, major: int = MAJOR) -> EmbeddedServer:
    """Start the server of `home`, or attach to it when a living process owns it.

    The first start makes the data directory; a server whose starter was
    killed is adopted. Raises EmbeddedServerError in one line.
    """
    try:
        return _start(home, major)
    except OSError as fault:
        raise EmbeddedServerError(f"the embedded PostgreSQL cannot be started: {fault}") from fault


def conninfo(home: Path) -> str | None:
    """The connection string of the product's role on the running server of `home`; None when it is not running.

    Raises EmbeddedServerError when the server belongs to somebody else.
    """
    try:
        found = postmaster.running(Places(home.resolve()))
    except PermissionError as fault:
        raise EmbeddedServerError(f"the embedded PostgreSQL belongs to another user: {fault}") from None
    if found is None or not found.ready:
        return None
    return _conninfo(found.socket_directory, cluster.ROLE, cluster.DATABASE)


def _conninfo(directory: str, role: str, database: str) -> str:
    # The port is part of the socket's name: PGPORT must not decide it.
    return make_conninfo(host=directory, port=5432, user=role, dbname=database)


def _start(home: Path, major: int) -> EmbeddedServer:
    program = installed(major)
    account = server_account()
    places = make_home(home, account)
    cluster.check_version(places, major)
    launch = partial(_run, places, account, program, major)
    deadline = time.monotonic() + postmaster.START_SECONDS
    while (lock := _own(places)) is None:
        found = postmaster.running(places)
        if found is not None and found.ready:
            return EmbeddedServer(places, found.socket_directory, None, None, launch)
        _wait_until(deadline, places)
    try:
        server = _adopt(places, lock, launch)
        if server is None:
            cluster.initialise(places, account, _binaries(places, account, program, major), major)
            cluster.write_access(places, [name_of(os.geteuid()), account.name])
            server = _begin(places, lock, make_socket_directory(places, account), launch)
    except BaseException:
        lock.close()
        raise
    return _ready(server)


def _own(places: Places) -> FileIO | None:
    """The owner's lock; None when another process holds it."""
    # 0600: a stranger who could open it could take the lock.
    lock = FileIO(os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _adopt(places: Places, lock: FileIO, launch: _Launch) -> EmbeddedServer | None:
    """The server that a dead starter left, once it is ready; None when there is none, or it ends."""
    deadline = time.monotonic() + postmaster.START_SECONDS
    while (found := postmaster.running(places)) is not None:
        if found.ready:
            return EmbeddedServer(places, found.socket_directory, lock, None, launch)
        _wait_until(deadline, places)
    return None


def _wait_until(deadline: float, places: Places) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedServerError(f"the server on {places.data} has been starting or stopping for too long")
    time.sleep(postmaster.POLL_SECONDS)


def _binaries(places: Places, account: Account, program: Path, major: int) -> Path:
    return (program if account.is_caller else copied(places.programs, major)) / "bin"


def _run(places: Places, account: Account, program: Path, major: int, directory: Path) -> subprocess.Popen[bytes]:
    return postmaster.launch(places, account, _binaries(places, account, program, major), directory)


def _begin(places: Places, lock: FileIO, directory: Path, launch: _Launch) -> EmbeddedServer:
    try:
        process = launch(directory)
    except BaseException:
        _remove(directory)
        raise
    return EmbeddedServer(places, str(directory), lock, process, launch)


def _remove(socket_directory: Path) -> None:
    with suppress(OSError):  # not empty: what else lies there is not ours to remove
        socket_directory.rmdir()


def _ready(server: EmbeddedServer) -> EmbeddedServer:
    """The same server, once it has the product's role and database; stopped again when it refuses them."""
    try:
        cluster.create_database(server.administration)
    except OperationalError as fault:
        server.stop()
        raise EmbeddedServerError(f"the embedded PostgreSQL refuses: {' '.join(str(fault).split())}") from None
    except BaseException:
        server.stop()
        raise
    return server
