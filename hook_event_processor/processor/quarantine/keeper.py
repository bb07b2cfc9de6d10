"""The keeper: a process of one thread that cells are forked from, and that buries them with all they started.

Forked from the processor itself, since Python handlers may be anything that a
program has registered. One thread: a fork of a process of many may find locks
that nobody is left to open.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hook_event_processor.strays import kill_strays

logger = logging.getLogger("Quarantine")

KILL = b"k"  # from the processor: end the cell
STATUS = struct.Struct("<i")  # the cell's number first, and its wait status when it has ended
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # prctl(2)
_READY_SECONDS = 15.0
_ROUNDS = 20  # a process may start another one while it is killed
_PAUSE_SECONDS = 0.002  # what the kernel needs for the killed
_FIRST_TO_GO = b"1000"  # oom_score_adj(5)


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
            number = os.fork()
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
        _be_alone([control.fileno(), *kept])
        _prctl(_PR_SET_NAME, b"hep-keeper")
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._prepare()
        gc.freeze()  # what is there stays, shared by all
        control.send(b"r")
        _Cells(control, self._serve, kept).keep()
        os._exit(0)


class _Cells:
    """In the keeper: who is alive, and who is told of the end."""

    def __init__(
        self, control: socket.socket, serve: Callable[[socket.socket], None], descriptors: Sequence[int]
    ) -> None:
        self._control = control
        self._serve = serve
        self._descriptors = descriptors
        self._tells: dict[int, socket.socket] = {}
        self._doomed: set[int] = set()
        self._bell, ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def keep(self) -> None:
        while self._step():
            self._bury()
        for number in list(self._tells):
            _kill(number)
        self._end_orphans()

    def _step(self) -> bool:
        """Wait for a wish or a death; False when the processor is no more."""
        poll = select.poll()
        alive = {tells.fileno(): number for number, tells in self._tells.items() if number not in self._doomed}
        for descriptor in (self._control.fileno(), self._bell, *alive):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._bell in ready:
            os.read(self._bell, 4096)
        for descriptor in ready & alive.keys():
            # Either it is to be killed, or nobody is there any more who would use it.
            self._doomed.add(alive[descriptor])
            _kill(alive[descriptor])
        if self._control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(self._control, 16, 2)
            if not message:
                return False
            self._fork(*descriptors)
        return True

    def _fork(self, stream: int, tells: int) -> None:
        number = os.fork()
        if number == 0:
            try:
                self._be_cell(stream)
            finally:
                os._exit(70)
        os.close(stream)
        self._tells[number] = socket.socket(fileno=tells)
        self._tell(number, number)

    def _be_cell(self, stream: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _be_alone([stream, *self._descriptors])
        _prctl(_PR_SET_NAME, b"hep-cell")
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end it
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(_FIRST_TO_GO)
        self._serve(socket.socket(fileno=stream))
        os._exit(0)

    def _bury(self) -> None:
        while True:
            try:
                number, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if number == 0:
                return
            if number in self._tells:
                # Its session and its descendants; what left both is an orphan, and ours.
                kill_strays(number, b"\0")
                self._end_orphans()
                self._tell(number, status)
                self._tells.pop(number).close()
                self._doomed.discard(number)

    def _tell(self, number: int, status: int) -> None:
        with suppress(OSError):
            self._tells[number].send(STATUS.pack(status))

    def _end_orphans(self) -> None:
        for _ in range(_ROUNDS):
            orphans = [number for number in _children() if number not in self._tells]
            if not orphans:
                return
            for number in orphans:
                # It is our child: its number is nobody else's until we have buried it.
                _kill(number)
            time.sleep(_PAUSE_SECONDS)
            for number in orphans:
                with suppress(ChildProcessError):
                    os.waitpid(number, os.WNOHANG)


def _children() -> list[int]:
    try:
        return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _kill(number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(number, signal.SIGKILL)


def _bury(number: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(number, 0)


def _be_alone(kept: Sequence[int]) -> None:
    """Leave the other's session, signals and descriptors, in a fork."""
    faulthandler.disable()
    gc.disable()  # nothing of the other process is ours to finalize
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers, not SIG_IGN: programs that are started from here begin with the default.
        signal.signal(number, lambda *_: None)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor != nothing and descriptor not in kept:
            # Its number stays taken: an object that still has it cannot close another's.
            with suppress(OSError):
                os.dup2(nothing, descriptor, inheritable=False)


def _prctl(option: int, value: int | bytes) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
