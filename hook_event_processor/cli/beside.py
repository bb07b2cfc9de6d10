"""The watcher daemon beside the processor of `hep up`: a process of its own, once there is something to watch."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from hook_event_processor.errors import HookEventProcessorError

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.database import Database

logger = logging.getLogger("Watchers")

_PARENT = "HEP_PARENT"  # in the daemon's environment: the process that it must not outlive
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOOK_SECONDS = 10.0  # between two looks for watchers, where no notification comes through
_AGAIN_SECONDS = 5.0
_END_SECONDS = 15.0


class Beside:
    """Starts the daemon when this host has its first watcher, and again if it ends.

    Until then there is one session that waits to be notified, and no process.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._stopping = threading.Event()
        self._wake, self._waker = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watchers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the daemon, if there is one."""
        self._stopping.set()
        os.write(self._waker, b"x")
        with self._lock:
            if self._process is not None:
                self._process.terminate()
        self._thread.join(_END_SECONDS)
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()

    def _run(self) -> None:
        from psycopg import Error

        while not self._stopping.is_set():
            try:
                if self._await_watchers() and not self._watch():
                    return
            except (HookEventProcessorError, Error, OSError) as fault:
                # The processor beside it says the same, and more of it.
                logger.debug("looking for watchers: %s", fault)
            self._stopping.wait(_AGAIN_SECONDS)

    def _await_watchers(self) -> bool:
        """Wait until this host has a watcher that is enabled; False when told to stop before that."""
        from hook_event_processor.store import watchers

        with self._database.session("watchers") as connection:
            watchers.listen(connection)
            while not self._stopping.is_set():
                if watchers.has_any(connection, self._settings.host):
                    return True
                self._await_change(connection)
        return False

    def _await_change(self, connection: Connection) -> None:
        select.select([connection.fileno(), self._wake], [], [], _LOOK_SECONDS)
        for _ in connection.notifies(timeout=0):
            pass

    def _watch(self) -> bool:
        """Run the daemon until it ends; whether to run it again."""
        command = [sys.executable, "-P", "-m", "hook_event_processor"]
        command += ["--log-level", self._settings.log_level, "watcher", "run"]
        with self._lock:
            if self._stopping.is_set():
                return False
            # A group of its own: Ctrl-C in the terminal is for the processor, which ends the daemon at its own end.
            self._process = subprocess.Popen(
                command, env={**os.environ, _PARENT: str(os.getpid())}, stdin=subprocess.DEVNULL, process_group=0
            )
        status = self._process.wait()
        if self._stopping.is_set() or status == os.EX_CONFIG:
            return False
        logger.warning("the watcher daemon has ended with status %d: starting it again", status)
        return True


def end_with_parent() -> bool:
    """Have the kernel end this process when the one that runs it beside itself ends; False when that has ended already.

    prctl(2), PR_SET_PDEATHSIG. Does nothing for a daemon that stands alone.
    """
    parent = os.environ.pop(_PARENT, "")
    if not parent:
        return True
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == int(parent)
