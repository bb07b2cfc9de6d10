"""The embedded server's process: find it, start it, stop it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store.embedded.account import Account
from hook_event_processor.store.embedded.cluster import log_tail
from hook_event_processor.store.embedded.places import Places

START_SECONDS = 120  # also the time for recovery after a crash
STOP_SECONDS = 120  # a fast shutdown writes a checkpoint
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says of a server whose process is there (PostgreSQL, pidfile.h)."""

    pid: int
    socket_directory: str
    ready: bool


def running(places: Places) -> Postmaster | None:
    """The server on this data directory; None when there is none, whatever a stale postmaster.pid says.

    Raises PermissionError when the data directory belongs to somebody else.
    """
    try:
        lines = (places.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 6 or not lines[0].isdigit():
        return None  # it is being written
    pid = int(lines[0])
    if os.fsencode(places.data) not in _command_line(pid):
        return None
    return Postmaster(pid, lines[4], ready=len(lines) > 7 and lines[7].strip() == "ready")


def launch(places: Places, account: Account, binaries: Path, socket_directory: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it takes connections.

    To be called in a thread that lasts as long as the server is needed.
    Raises EmbeddedServerError with the end of its log when it does not start.
    """
    _clear_the_way(places)
    settings = {
        # On the command line, where no configuration file and no ALTER SYSTEM can loosen them,
        # and where all paths are those of this start: a home may have been moved.
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": socket_directory,
        "unix_socket_permissions": "0700",
        "hba_file": places.hba,
        "ident_file": places.ident,
        "log_directory": places.log,
        "cluster_name": places.cluster_name,
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    command: list[str | Path] = [*_ending_with_its_starter(), binaries / "postgres", "-D", places.data, *options]
    with places.start_log.open("wb") as log:
        process = account.start(command, log.fileno())
    try:
        _await_ready(places, process)
    except BaseException:
        stop(places, process)
        raise
    return process


def _ending_with_its_starter() -> list[str]:
    """The kernel stops the server when its starter is killed; without setpriv, it goes on until the next start."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "INT", "--"] if program else []


def _await_ready(places: Places, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        found = running(places)
        if found is not None and found.ready:
            return
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"PostgreSQL was not ready after {START_SECONDS} seconds: {log_tail(places)}")
        time.sleep(POLL_SECONDS)
    raise EmbeddedServerError(f"PostgreSQL did not start: {log_tail(places)}")


def stop(places: Places, process: subprocess.Popen[bytes] | None) -> None:
    """End the server's sessions and the server, and wait for that. `process` is None for one that was adopted.

    Raises EmbeddedServerError when it is still there after STOP_SECONDS.
    """
    found = running(places)
    pid = process.pid if process is not None else found.pid if found is not None else None
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # "fast shutdown" (PostgreSQL manual, "Shutting Down the Server")
    deadline = time.monotonic() + STOP_SECONDS
    while running(places) is not None or (process is not None and process.poll() is None):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"PostgreSQL, process {pid}, did not stop in {STOP_SECONDS} seconds")
        time.sleep(POLL_SECONDS)


def _clear_the_way(places: Places) -> None:
    """End a server that was starting when its starter was killed, wait for what there is of others, drop the lock file.

    The file may name a process number that something else has by now;
    PostgreSQL would then refuse to start. Without the file nothing in
    PostgreSQL keeps a second server off the data directory.
    """
    ours = os.fsencode(f"cluster_name={places.cluster_name}")
    deadline = time.monotonic() + START_SECONDS
    while left := _processes(places):
        if time.monotonic() > deadline:
            numbers = ", ".join(map(str, sorted(left)))
            raise EmbeddedServerError(
                f"processes of an earlier server on {places.data} do not end: see ps -p {numbers}"
            )
        for pid, arguments in left.items():
            if ours in arguments:  # not what an administrator does there, as with postgres --single
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGINT)
        time.sleep(POLL_SECONDS)
    (places.data / "postmaster.pid").unlink(missing_ok=True)


def _processes(places: Places) -> dict[int, list[bytes]]:
    """The arguments of each process on the data directory: a server has its path there, its children have titles."""
    title = f"postgres: {places.cluster_name}: ".encode()
    data = os.fsencode(places.data)
    found = {int(path.name): _command_line(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return {
        pid: arguments
        for pid, arguments in found.items()
        if arguments[0].startswith(title) or (b"-D", data) in pairwise(arguments)
    }


def _command_line(pid: int | str) -> list[bytes]:
    """The arguments of a process, which every user may read; one empty argument when it is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]
