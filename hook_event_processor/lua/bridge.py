"""What a runtime's Lua code reaches of Python: the clock, and the library's functions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hook_event_processor.lua.door import Call, Failed, Library, Misused, cross
from hook_event_processor.lua.masking import mask
from hook_event_processor.lua.memory import MemoryBudget, Share
from hook_event_processor.lua.program import Program

_NEVER = float("inf")
_DONE, _FAILED, _MISUSED = 0, 1, 2  # as in lua/door.lua


class Bridge:
    """The functions that a runtime's Lua code calls.

    It must not refer to the runtime: Lua's references to Python objects are
    out of the garbage collector's sight, and a dropped runtime would stay.
    """

    def __init__(self, budget: MemoryBudget, library: Library | None) -> None:
        self._budget = budget
        self._library = library
        self._call: Call | None = None
        self._share = Share()
        self._cancelled = threading.Event()
        self.memory_used: Callable[[], int] = int
        self.confine: Callable[[bool], None] = lambda _: None

    def begin(self, program: Program, cancelled: threading.Event, event: Sequence[Any] | None = None) -> None:
        self._cancelled = cancelled
        if self._library is not None and program.modules:
            grants = self._library.policy.grants(program.hook, program.stack)
            self._call = Call(program.hook, program.stack, grants, cancelled, self._show, room=self._library.room)
            self._call.event = event
        self._budget.begin(self._share, cancelled)

    def end(self, used: int) -> None:
        self._call = None
        self._budget.end(self._share, used)

    @property
    def current(self) -> Call | None:
        """What the library's functions know of the current chunk."""
        return self._call

    @property
    def secrets(self) -> Collection[bytes]:
        """Values of secrets that were handed out to the current chunk."""
        return self._call.secrets if self._call is not None else ()

    @property
    def accessed(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._call.accessed) if self._call is not None else frozenset()

    def _show(self, line: str) -> None:
        if self._library is not None:
            self._library.show(mask(line.encode(errors="replace"), self.secrets).decode())

    def call(self, name: bytes, ends_at: float, *arguments: Any) -> tuple[Any, ...]:
        """A function of the library for the current run: a status and its values, or a status and why not."""
        try:
            return _DONE, *self._ask(name, ends_at, arguments)
        except Failed as fault:
            return _FAILED, str(fault).encode(errors="replace")
        except Misused as fault:
            return _MISUSED, str(fault).encode(errors="replace")
        finally:
            if self._call is not None:
                self._call.give_back()
            # What comes back must fit while it is handed over; lua/door.lua puts the limit into force again.
            self.confine(False)

    def _ask(self, name: bytes, ends_at: float, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        call, library = self._call, self._library
        if call is None or library is None:
            raise Misused(f"{name.decode()} can be called when the hook runs, not while its file is read")
        call.ends_at = ends_at
        if call.left <= 0:
            raise Failed("the run took longer than it may")
        function = library.function(name)
        if not function.waits:
            return cross(function, call, library.dry, arguments)
        if not self._budget.pause(self._share, self.memory_used()):
            raise Failed("not enough memory to wait")
        try:
            return cross(function, call, library.dry, arguments)
        finally:
            self._budget.begin(self._share, self._cancelled)

    def now(self) -> float:
        """Monotonic seconds; infinity when the run is cancelled."""
        if self._budget.queue:
            self._budget.breathe(self._share, self.memory_used())
        return _NEVER if self._cancelled.is_set() else time.perf_counter()

    def sleep(self, seconds: float) -> bool | None:
        """Whether it slept so long without being cancelled; None when the run holds too much to wait."""
        if not self._budget.pause(self._share, self.memory_used()):
            return None
        try:
            return not self._cancelled.wait(seconds)
        finally:
            self._budget.begin(self._share, self._cancelled)
