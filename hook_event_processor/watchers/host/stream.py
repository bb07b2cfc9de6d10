"""A program that is kept running, and the lines that it prints meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import IO, NamedTuple

from hook_event_processor.child import no_signal_blocked
from hook_event_processor.lua.host.privacy import lend_no_capabilities, shut_to_programs
from hook_event_processor.strays import kill_strays
from hook_event_processor.watchers import leaving
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import programs

MAX_LINE = 64 * 1024
_BLOCK = 64 * 1024
_MAX_TAKEN = 4 * 1024 * 1024  # bytes of each pipe at one time: a program may print faster than it is read
_KEPT_ERRORS = 2048  # bytes
_GRACE_SECONDS = 0.5
_PAUSE_SECONDS = 0.01
_MARK = "HEP_RUN"  # in its environment: what it starts is known by it


class Exit(NamedTuple):
    """How the program ended: its exit code, 128 + N when signal N killed it, and what it said last on stderr."""

    code: int
    error: str


class Stream:
    """A program in a session of its own, whose output waits in a pipe until it is taken; on one thread at a time.

    A program that prints more than is taken waits, too. It and what it
    started end with this object, at the latest with the daemon.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Raises CheckFailed when it cannot be started."""
        mark = uuid.uuid4().hex
        programs.check_granted(words[0])
        program = programs.find(words[0])
        try:
            shut_to_programs()
            lend_no_capabilities()
            with no_signal_blocked():
                self._process = subprocess.Popen(
                    list(words),
                    executable=program,
                    cwd="/",
                    env=programs.environment({_MARK: mark}),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
        except OSError as fault:
            raise CheckFailed(f"{program} cannot be run: {(fault.strerror or '').lower()}") from None
        for pipe in (self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr] # both are pipes
        self._rest = b""
        self._is_cut = False
        self._is_at_end = False  # its output: everybody who could print has closed it
        self._errors = b""
        self._mark = f"{_MARK}={mark}".encode()
        self._ends_at = 0.0
        self.close = weakref.finalize(self, _end, self._process, self._mark)
        _all.add(self)

    def take(self, most: int) -> tuple[list[bytes], int]:
        """Up to so many lines that it has printed, and how many were too long and are left out."""
        self._hear_errors()
        too_long = 0
        left = _MAX_TAKEN
        while left > 0 and self._rest.count(b"\n") < most and (block := self._read(self._process.stdout)):
            left -= len(block)
            too_long += self._add(block)
        *lines, self._rest = self._rest.split(b"\n", most)
        return lines, too_long

    def ask_to_end(self) -> None:
        """Have it end; what it still prints is for take_last()."""
        _signal_group(self._process, signal.SIGTERM)
        self._ends_at = monotonic() + _GRACE_SECONDS

    def take_last(self, most: int) -> tuple[list[bytes], int]:
        """What it prints until its end, as take() has it; when it does not end soon it is killed.

        It is, too, when it has printed so many lines, or 4 MiB: it may never stop.
        """
        if not self.close.alive:
            return [], 0
        too_long = 0
        left = _MAX_TAKEN
        is_over = False
        while not is_over:
            has_ended = self._is_at_end and _exit_code(self._process) is not None
            is_enough = left <= 0 or self._rest.count(b"\n") >= most
            is_over = has_ended or is_enough or monotonic() >= self._ends_at
            if is_over and self.close.detach():
                _kill(self._process, self._mark)
            self._hear_errors()
            while left > 0 and (block := self._read(self._process.stdout)):
                left -= len(block)
                too_long += self._add(block)
            if not is_over:
                sleep(_PAUSE_SECONDS)
        _close_pipes(self._process)
        lines = self._rest.split(b"\n")
        # Of one that was killed, what is not a whole line is half of one.
        return (lines if has_ended else lines[:-1])[:most], too_long

    def _add(self, block: bytes) -> bool:
        """Keep what was read; returns whether it makes a line too long, of which the rest will be left out, too."""
        if self._is_cut:
            _, newline, block = block.partition(b"\n")
            self._is_cut = not newline
        self._rest += block
        begin = self._rest.rfind(b"\n") + 1
        if len(self._rest) - begin <= MAX_LINE:
            return False
        self._rest = self._rest[:begin]
        self._is_cut = True
        return True

    def ended(self) -> Exit | None:
        """How it ended, once all that it printed has been taken; None as long as it has not."""
        code = _exit_code(self._process)
        if code is None or b"\n" in self._rest:
            return None
        if more := self._read(self._process.stdout) or (self._rest and b"\n"):
            self._add(more)
            return None
        self._hear_errors()
        return Exit(code, programs.text(self._errors).strip())

    def _hear_errors(self) -> None:
        left = _MAX_TAKEN
        while left > 0 and (block := self._read(self._process.stderr)):
            left -= len(block)
            self._errors = (self._errors + block)[-_KEPT_ERRORS:]

    def _read(self, pipe: IO[bytes] | None) -> bytes:
        assert pipe is not None  # noqa: S101 - both are
        try:
            block = os.read(pipe.fileno(), _BLOCK)
        except BlockingIOError:
            return b""
        self._is_at_end = self._is_at_end or (not block and pipe is self._process.stdout)
        return block


_all: weakref.WeakSet[Stream] = weakref.WeakSet()


@leaving.at_end
def _end_all() -> None:
    for stream in list(_all):
        stream.close()


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    # It stays a zombie until the end: nobody else can get its number, or its group's.
    try:
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0  # whoever started the daemon ignored SIGCHLD: the kernel keeps no zombies
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _end(process: subprocess.Popen[bytes], mark: bytes) -> None:
    """Ask it to end, then kill it and all that it started."""
    _signal_group(process, signal.SIGTERM)
    until = monotonic() + _GRACE_SECONDS
    while _exit_code(process) is None and monotonic() < until:
        sleep(_PAUSE_SECONDS)
    _kill(process, mark)
    _close_pipes(process)


def _kill(process: subprocess.Popen[bytes], mark: bytes) -> None:
    _signal_group(process, signal.SIGKILL)
    kill_strays(process.pid, mark)
    # Not for ever: a process that the kernel holds ends when the kernel lets it.
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
