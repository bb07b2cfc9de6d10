"""Running a hook in a cell, and what came of it: the end of the cell is the failure of the run that it was at."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import UUID

from hook_event_processor.event import Outcome
from hook_event_processor.lua.program import Program
from hook_event_processor.policy import Policy
from hook_event_processor.processor.quarantine import wire
from hook_event_processor.processor.quarantine.cells import KILL, STATUS
from hook_event_processor.processor.quarantine.keeper import Keeper
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult
from hook_event_processor.store import suspects
from hook_event_processor.store.claim import Row

logger = logging.getLogger("Quarantine")

_DIED = suspects.DIED
# What a run may take beyond its timeout before its cell is killed, and before its thread is given up, too: a cell may
# have to be started for it, and the keeper before.
_KILL_SECONDS, GRACE_SECONDS = 1.0, 60.0
_TICK_SECONDS = 0.05
_START_SECONDS = 5.0
_BURIAL_SECONDS = 5.0
_TRIES = 3  # to find a cell that lives
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY_BESIDE = 256 * 1024 * 1024  # what a cell may come to hold beside its Lua runtime


class Died(Exception):
    """The cell is no more; the text says of what."""


class Overran(Exception):
    """The run took what it may not, and its cell was killed; `outcome` says what."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class ConfinedRunner:
    """Runs hooks in a cell, for one thread; the cell lives as long as the thread and the runs let it."""

    def __init__(self, keeper: Keeper, memory: int, policy: Callable[[], Policy], spent: Callable[[Row], bool]) -> None:
        """`memory` in bytes is a runtime's; `spent` says that no attempt is left for what has killed before."""
        self._keeper = keeper
        self._memory = memory + _MEMORY_BESIDE
        self._policy = policy
        self._spent = spent
        self._held: _Held | None = None

    def __call__(self, hook: Hook, rows: Sequence[Row], cancelled: threading.Event) -> ChunkResult:
        """Run the hook for each row, one at a time."""
        with self._keeper.used():
            return ChunkResult.joined([self._run(hook, row, cancelled) for row in rows])

    def _run(self, hook: Hook, row: Row, cancelled: threading.Event) -> ChunkResult:
        if self._spent(row):
            return ChunkResult.refused(Outcome.DIED, f"{_DIED}, and has died of it before: no attempt is left", 1)
        program = hook.code if isinstance(hook.code, Program) else None
        request = wire.Request(hook.id, hook.name, hook.version, hook.timeout, program, tuple(row), self._policy())
        try:
            cell = self._begin(wire.pack_request(request))
        except OSError as fault:
            logger.error("%s, event %s: %s: %s", hook.name, UUID(bytes=row.id), suspects.NO_CELL, fault)
            return ChunkResult.refused(Outcome.FAILED, f"{suspects.NO_CELL}: {fault}", 1)
        began = monotonic()  # a run does not pay for the start of its cell
        try:
            result = cell.result(began + hook.timeout + _KILL_SECONDS, self._memory, cancelled)
        except Died as death:
            self._held = None
            logger.error("%s, event %s: %s", hook.name, UUID(bytes=row.id), death)
            result = ChunkResult.refused(Outcome.DIED, str(death), 1)
        except Overran as overrun:
            self._held = None
            result = ChunkResult.refused(overrun.outcome, str(overrun), 1)
        if not result.durations[0]:
            result.durations[0] = monotonic() - began
        return result

    def _begin(self, request: bytes) -> _Held:
        """A cell that is at the request. One that was dead before it read it has died of something else.

        Raises OSError when there is none.
        """
        for _ in range(_TRIES):
            if self._held is None:
                self._held = _Held(self._keeper)
            if self._held.begin(request):
                return self._held
            self._held.close()
            self._held = None
        raise OSError(f"{_TRIES} of them died before they had read what to run")


class _Held:
    """A cell as the processor's thread holds it. Dropped, it is ended."""

    def __init__(self, keeper: Keeper) -> None:
        self._stream, self._told = keeper.cell()
        self._told.settimeout(_START_SECONDS)
        message = self._told.recv(16)
        if not message:
            raise OSError("the keeper of the cells is gone, or could fork none")
        self._number = STATUS.unpack(message)[0]
        # The processor's own memory as the keeper was forked from it: a cell's share of that says nothing of its run.
        self._born_with = self._private_bytes()

    def begin(self, request: bytes) -> bool:
        """Hand the request over; whether the cell has read it."""
        try:
            self._stream.settimeout(_START_SECONDS)
            wire.send(self._stream, request)
            return self._stream.recv(1) == wire.BEGUN
        except OSError:
            return False

    def result(self, ends_at: float, memory: int, cancelled: threading.Event) -> ChunkResult:
        """Wait for what comes of it. Raises Died and Overran."""
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        while not poll.poll(_TICK_SECONDS * 1000):
            if monotonic() > ends_at:
                self._kill()
                raise Overran(Outcome.STUCK, f"stuck: the run did not end in its time; {suspects.KILLED}")
            if cancelled.is_set():
                self._kill()
                raise Overran(Outcome.TIMEOUT, "the run was given up, and its process with it")
            if self._private_bytes() - self._born_with > memory:
                self._kill()
                raise Overran(Outcome.MEMORY, f"it took more than {memory >> 20} MB; {suspects.KILLED}")
        self._stream.settimeout(_BURIAL_SECONDS)
        try:
            answer = wire.receive(self._stream)
            if answer is not None:
                return wire.unpack_result(answer)
        except (OSError, ValueError):
            self._kill()
        raise Died(f"{_DIED}: {self._end()}")

    def _private_bytes(self) -> int:
        """What it holds in memory, but for files."""
        try:
            resident, shared = Path(f"/proc/{self._number}/statm").read_text().split()[1:3]
        except OSError:
            return 0
        return (int(resident) - int(shared)) * _PAGE_BYTES

    def _kill(self) -> None:
        with suppress(OSError):
            self._told.send(KILL)

    def _end(self) -> str:
        """How it ended, in words."""
        try:
            self._told.settimeout(_BURIAL_SECONDS)
            message = self._told.recv(16)
            status = os.waitstatus_to_exitcode(STATUS.unpack(message)[0]) if message else None
        except OSError:
            status = None
        finally:
            self.close()
        if status is None:
            return "how is not known"
        if status >= 0:
            return f"it left with exit status {status}"
        return ("killed from outside, perhaps for want of memory: " if -status == signal.SIGKILL else "") + _name(
            -status
        )

    def __del__(self) -> None:
        with suppress(AttributeError):  # it never began
            self.close()

    def close(self) -> None:
        self._stream.close()
        self._told.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
