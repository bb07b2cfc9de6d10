"""In the keeper: the cells that it has forked, and their burial with all that they started."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hook_event_processor.processor.quarantine.departure import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NAME,
    PR_SET_PDEATHSIG,
    be_alone,
    be_first_to_go,
    children,
    limit_processes,
    prctl,
)
from hook_event_processor.strays import kill_strays

KILL = b"k"  # from the processor: end the cell
STATUS = struct.Struct("<i")  # the cell's number first, and its wait status when it has ended
_ROUNDS = 20  # a process may start another one while it is killed
_PAUSE_SECONDS = 0.002  # what the kernel needs for the killed


class Cells:
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
        try:
            number = os.fork()
        except OSError:  # too many processes, or too little memory: the others live on
            os.close(stream)
            os.close(tells)
            return
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
        be_alone([stream, *self._descriptors])
        prctl(PR_SET_NAME, b"hep-cell")
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end it
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what it starts becomes the keeper's when it ends, and not before
        be_first_to_go()
        limit_processes()
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
                # Its session; what left that is an orphan, and ours.
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
            orphans = [number for number in children() if number not in self._tells]
            if not orphans:
                return
            for number in orphans:
                # It is our child: its number is nobody else's until we have buried it.
                _kill(number)
            time.sleep(_PAUSE_SECONDS)
            for number in orphans:
                with suppress(ChildProcessError):
                    os.waitpid(number, os.WNOHANG)


def _kill(number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(number, signal.SIGKILL)
