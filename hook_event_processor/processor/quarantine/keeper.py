"""The keeper: a process of one thread that cells are forked from, and that buries them with all they started.

Forked from the processor itself, since Python handlers may be anything that a
program has registered. One thread: a fork of a process of many may find locks
that nobody is left to open.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from hook_event_processor.processor.quarantine.between_imports import fork_between_imports
from hook_event_processor.processor.quarantine.cells import Cells
from hook_event_processor.processor.quarantine.departure import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NAME,
    be_alone,
    prctl,
)

logger = logging.getLogger("Quarantine")

_READY_SECONDS = 15.0


class Keeper:
    """The processor's side. `serve` is what a cell does with its stream; it does not return to the caller."""

    def __init__(
        self, prepare: Callable[[], None], serve: Callable[[socket.socket], None], keep: Callable[[], Sequence[int]]
    ) -> None:
        """`prepare` is called once in the keeper; the descriptors that `keep` gives stay open there, no others do."""
        self._prepare = prepare
        self._serve = serve
        self._keep = keep
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._uses = 0

    @property
    def running(self) -> bool:
        return self._control is not None

    def cell(self) -> tuple[socket.socket, socket.socket]:
        """A new cell: the stream to it, and where the keeper tells of it. Raises OSError."""
        with self._lock:
            try:
                return self._ask(self._control or self._start())
            except BrokenPipeError:  # somebody has killed the keeper
                self._end()
                return self._ask(self._start())

    def _ask(self, control: socket.socket) -> tuple[socket.socket, socket.socket]:
        self._control = control
        ours, theirs = socket.socketpair()
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tells:
            try:
                socket.send_fds(control, [b"c"], [theirs.fileno(), tells.fileno()])
            except OSError:
                ours.close()
                told.close()
                raise
        return ours, told

    def start(self) -> None:
        """Fork it now: best while the process has one thread only. Raises OSError."""
        with self._lock:
            if self._control is None:
                self._control = self._start()

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a run is in a cell: the keeper is not ended for idleness."""
        with self._lock:
            self._uses += 1
        try:
            yield
        finally:
            with self._lock:
                self._uses -= 1

    def rest(self) -> None:
        """End it if no run is in a cell: what it holds of the processor's memory is more by the hour."""
        with self._lock:
            if not self._uses:
                self._end()

    def close(self) -> None:
        """End it, and with it every cell."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with warnings.catch_warnings():
            # That there may be other threads is known: whether it can work without them is tried.
            warnings.simplefilter("ignore", DeprecationWarning)
            number = fork_between_imports()
        if number == 0:
            try:
                self._keep_cells(theirs)
            finally:
                os._exit(70)
        theirs.close()
        threading.Thread(target=_bury, args=(number,), name="keeper", daemon=True).start()
        ours.settimeout(_READY_SECONDS)
        try:
            if not ours.recv(1):
                raise OSError("the keeper of the cells did not start")
        except OSError:
            ours.close()
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            raise
        ours.settimeout(None)
        return ours

    def _keep_cells(self, control: socket.socket) -> None:
        """The keeper itself, until the processor is no more."""
        kept = self._keep()
        be_alone([control.fileno(), *kept])
        prctl(PR_SET_NAME, b"hep-keeper")
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._prepare()
        gc.freeze()  # what is there stays, shared by all
        control.send(b"r")
        Cells(control, self._serve, kept).keep()
        os._exit(0)


def _bury(number: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(number, 0)
