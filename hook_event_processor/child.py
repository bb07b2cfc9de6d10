"""A program that a hook or a watcher runs: fed, listened to, and ended with all that it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from time import perf_counter

from hook_event_processor.strays import kill_strays

MAX_OUTPUT = 1024 * 1024  # bytes that are kept of each of the two streams
CUT = b"\n[output cut]"
GRACE_SECONDS = 2.0  # between being asked to end and being killed
_MARK = "HEP_RUN"  # in its environment: what it starts is known by it
_BLOCK = 64 * 1024
_MAX_LEFT_BEHIND = 2 * MAX_OUTPUT  # bytes that can stand in a pipe when its program has ended
_TICK_SECONDS = 0.25  # between two looks at whether the run was given up
_TICK_WITHOUT_PIDFD = 0.02
_BURIAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the program's file, or its name by the PATH that it is given; its arguments (the first is
    what it is called), where, and with what.
    """

    program: str
    arguments: Sequence[bytes]
    directory: bytes | None
    environment: Mapping[bytes, bytes]
    stdin: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went; a program that signal N killed has the exit code 128 + N, as in a shell."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    duration_ms: int
    timed_out: bool


def run(
    command: Command,
    ends_at: float,
    run_ends_at: float,
    cancelled: threading.Event,
    hold: Callable[[int], bool] = lambda _: True,
) -> Ended:
    """Run the program in a session of its own, until it ends or must.

    At `ends_at` (by perf_counter) it is asked to end and killed after a grace,
    at `run_ends_at` and when `cancelled` is set it is killed at once. Whatever
    of its process group it leaves behind is killed then, too; when it had to
    be killed, so is all else that it started. `hold` says whether there is
    room for so many more bytes of output. Raises OSError when it cannot be
    started.
    """
    child = _Child(command, hold)
    timed_out = False
    try:
        child.listen(min(ends_at, run_ends_at), cancelled)
        if not child.has_ended():
            timed_out = True
            if not cancelled.is_set() and perf_counter() < run_ends_at:
                child.signal_group(signal.SIGTERM)
                child.listen(min(perf_counter() + GRACE_SECONDS, run_ends_at), cancelled)
    finally:
        child.end(with_strays=timed_out or not child.has_ended())
    return child.ended(timed_out)


class _Child:
    """The process, its three pipes, and what came out of two of them. Used by one thread."""

    def __init__(self, command: Command, hold: Callable[[int], bool]) -> None:
        self._hold = hold
        mark = f"{_MARK}={uuid.uuid4().hex}".encode()
        name, _, value = mark.partition(b"=")
        self._mark = mark
        self._started = perf_counter()
        with no_signal_blocked():
            self._process = subprocess.Popen(
                command.arguments,
                executable=command.program,
                cwd=command.directory,
                env={**command.environment, name: value},
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        self._kept = (bytearray(), bytearray())
        self._cut = [False, False]
        self._unsent = memoryview(command.stdin)
        self._poll = select.poll()  # needs no descriptor: nothing fails from here on
        self._outputs = [stream.fileno() for stream in (self._process.stdout, self._process.stderr) if stream]
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
        if self._process.stdin:
            os.set_blocking(self._process.stdin.fileno(), False)
            self._poll.register(self._process.stdin, select.POLLOUT)
        self._end_signal = self._watch_end()

    def _watch_end(self) -> int | None:
        """A descriptor that is readable when the process has ended; None on a kernel before 5.3."""
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except OSError:
            return None
        self._poll.register(descriptor, select.POLLIN)
        return descriptor

    def listen(self, until: float, cancelled: threading.Event) -> None:
        """Pass on what comes and goes until the process has ended, it is `until`, or the run was given up."""
        tick = _TICK_SECONDS if self._end_signal is not None else _TICK_WITHOUT_PIDFD
        while not cancelled.is_set() and (left := until - perf_counter()) > 0:
            for descriptor, _ in self._poll.poll(ceil(min(tick, left) * 1000)):
                self._serve(descriptor)
            if self.has_ended():
                return

    def _serve(self, descriptor: int) -> None:
        if descriptor in self._outputs:
            self._take(descriptor)
        elif descriptor != self._end_signal:
            self._feed()

    def _take(self, descriptor: int) -> int:
        """Read once what is there; returns the number of bytes, 0 when nothing is or ever will be."""
        try:
            block = os.read(descriptor, _BLOCK)
        except BlockingIOError:
            return 0
        if not block:
            with suppress(KeyError):
                self._poll.unregister(descriptor)
            return 0
        which = self._outputs.index(descriptor)
        kept = self._kept[which]
        room = MAX_OUTPUT - len(kept)
        if not self._cut[which] and self._hold(min(room, len(block))):
            kept += block[:room]
        else:
            room = 0
        self._cut[which] = self._cut[which] or len(block) > room
        return len(block)

    def _feed(self) -> None:
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            return
        try:
            self._unsent = self._unsent[os.write(stdin.fileno(), self._unsent[:_BLOCK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = self._unsent[:0]  # it does not want to read it all
        if not self._unsent:
            self._poll.unregister(stdin)
            stdin.close()

    def has_ended(self) -> bool:
        # It stays a zombie until the end: nobody else can get its number, or its group's.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return self._process.returncode is not None or os.waitid(os.P_PID, self._process.pid, options) is not None
        except ChildProcessError:
            return True  # whoever started the processor ignored SIGCHLD: the kernel keeps no zombies

    def signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def end(self, with_strays: bool) -> None:
        """Kill what is left of it, take what it last wrote, and give everything back."""
        self.signal_group(signal.SIGKILL)
        if with_strays:
            kill_strays(self._process.pid, self._mark)
        # Not for ever: a process that the kernel holds ends when the kernel lets it.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_BURIAL_SECONDS)
        for descriptor in self._outputs:
            left = _MAX_LEFT_BEHIND
            while left > 0 and (taken := self._take(descriptor)):
                left -= taken
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        if self._end_signal is not None:
            os.close(self._end_signal)

    def ended(self, timed_out: bool) -> Ended:
        returned = self._process.returncode
        code = 128 + signal.SIGKILL if returned is None else returned if returned >= 0 else 128 - returned
        stdout, stderr = (bytes(kept) + (CUT if cut else b"") for kept, cut in zip(self._kept, self._cut, strict=True))
        return Ended(code, stdout, stderr, round((perf_counter() - self._started) * 1000), timed_out)


@contextmanager
def no_signal_blocked() -> Iterator[None]:
    """A process begins with the signal mask of the thread that starts it."""
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
