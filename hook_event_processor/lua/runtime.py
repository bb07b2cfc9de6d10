"""One Lua runtime: runs hooks within their limits. Used by one thread at a time."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from lupa.lua54 import LuaError, LuaMemoryError, LuaRuntime, lua_type

from hook_event_processor.errors import HookRefused
from hook_event_processor.event import MAX_DEPTH, Outcome
from hook_event_processor.lua.door import Call, Failed, Library, Misused, cross
from hook_event_processor.lua.masking import mask, masked
from hook_event_processor.lua.memory import MemoryBudget, Share
from hook_event_processor.run import ChunkResult, Dispatched, storable

MAX_DISPATCHED = 1000  # events that one run may dispatch
_MAX_COMPILED_BYTES = 128 * 1024  # of hooks' text that a runtime keeps compiled
_NEVER = float("inf")
_DONE, _FAILED, _MISUSED = 0, 1, 2  # as in lua/door.lua
_GARBAGE_BYTES = 2 * 1024 * 1024
FIELDS = 10  # values of an event that hooks see
_PAYLOAD, _METADATA = 6, 7  # their places among these
_MAX_DESCRIBED, _MAX_DESCRIBED_DEPTH = 1000, 4  # values in a hook's table, and tables in each other


@dataclass(frozen=True, slots=True)
class Program:
    """A hook's text and what belongs to it; `name` stands in tracebacks.

    `params` is JSON text, empty when nothing was set; `libraries` are names
    (without lib.) and texts of the shared code that it may require.
    """

    name: str
    text: str
    modules: tuple[str, ...] = ()
    effectful: bool = False
    hook: str = ""
    stack: str | None = None
    params: bytes = b""
    libraries: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Characters of Lua text."""
        return len(self.text) + sum(len(text) for _, text in self.libraries)


class Runtime:
    """A Lua state with the sandbox in it.

    `memory` and `max_payload` are in bytes; `budget` is what it shares with
    others, if it does. No Python object is within a
    hook's reach: Lua code holds the few functions of the bridge as locals,
    and they return nothing but strings, numbers and booleans.
    """

    # The Lua file, seen from here, that a subclass adds to the runner: for what is no processor's work.
    _extension: bytes | None = None

    def __init__(
        self, memory: int, max_payload: int, budget: MemoryBudget | None = None, library: Library | None = None
    ) -> None:
        """Without a library nothing can be called that Python does."""
        # Alone, it has what it needs while it computes and while it waits.
        self._bridge = _Bridge(budget or MemoryBudget(2 * memory, memory), library)
        self._memory = memory
        self._lua = LuaRuntime(
            encoding=None,  # what hooks handle are bytes
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_no_attributes,
            max_memory=memory,
        )
        # A runtime that is dropped gives back what it held.
        weakref.finalize(self, self._bridge.end, 0)
        self._runner = self._load(max_payload)
        self._run = self._runner[b"run"]
        self._compiled: OrderedDict[Program, Any] = OrderedDict()
        self._compiled_bytes = 0

    def _load(self, max_payload: int) -> Any:
        self._bridge.memory_used = _memory_of(weakref.ref(self))
        self._bridge.confine = _limit_of(weakref.ref(self))
        # The limit is for hooks. Lua calls that Python makes itself cannot fail:
        # what does not fit would end the process.
        self.confine(False)
        bridge = {
            b"now": self._bridge.now,
            b"sleep": self._bridge.sleep,
            b"unix_time": time.time,
            b"confine": self._bridge.confine,
            b"call": self._bridge.call,
        }
        limits = {
            b"payload": max_payload,
            b"depth": MAX_DEPTH,
            b"dispatched": MAX_DISPATCHED,
            b"results": self._memory // 4,
        }
        table = self._lua.table_from
        return self._lua.execute(_text("boot"), _source, table(bridge), table(limits), self._extension)

    @property
    def memory_used(self) -> int:
        """Bytes that the runtime holds."""
        return int(self._lua.get_memory_used())

    def run(
        self, program: Program, timeout: float, events: Sequence[Sequence[Any]], cancelled: threading.Event
    ) -> ChunkResult:
        """Run the hook for each event, in order; one event's failure is no other's.

        The result is shorter than the chunk when memory ran out, or the rest is too many bytes at once.
        An event begins with the ten values that lua/current.lua names, texts
        as bytes. Setting `cancelled` ends the run as if its time were up.
        """
        self._bridge.begin(program, cancelled, events[0] if len(events) == 1 else None)
        try:
            result = masked(self._run_chunk(program, timeout, events), self._bridge.secrets)
            result.accessed = self._bridge.accessed
            return result
        finally:
            self._bridge.end(self._tidied())

    def _tidied(self) -> int:
        """Bytes held after a run; its garbage is collected first when there may be much of it."""
        if self.memory_used > _GARBAGE_BYTES:
            self._lua.gccollect()
        return self.memory_used

    def _run_chunk(self, program: Program, timeout: float, events: Sequence[Sequence[Any]]) -> ChunkResult:
        arguments, count = self._fitting(events)
        if count == 0:
            return ChunkResult.refused(Outcome.MEMORY, "not enough memory: the event is larger than half of it", 1)
        try:
            codes, dispatched, *results = self._run(self._unit(program), timeout, count, *arguments)
        except LuaMemoryError:
            self.confine(False)
            # Whose fault it was is not known while there are several.
            if count > 1:
                return self._run_chunk(program, timeout, events[:1])
            return ChunkResult.refused(Outcome.MEMORY, "not enough memory", 1)
        except HookRefused as refusal:
            return ChunkResult.refused(Outcome.REFUSED, str(refusal), len(events))
        result = ChunkResult(
            codes,
            results[0::3],
            [text or None for text in results[1::3]],
            [storable(text) if text else None for text in results[2::3]],
        )
        if dispatched:
            for index, events_of_run in map(_pair, dispatched.values()):
                result.dispatched[index - 1] = [dispatched_event(item) for item in events_of_run.values()]
        return result

    def _fitting(self, events: Sequence[Sequence[Any]]) -> tuple[list[Any], int]:
        """The values of the first events, and of how many: as many as leave the hook half of the memory."""
        sizes = accumulate([len(event[_PAYLOAD]) + len(event[_METADATA]) for event in events])
        count = bisect_right(list(sizes), self._memory // 2)
        return list(chain.from_iterable([event[:FIELDS] for event in events[:count]])), count

    def confine(self, confined: bool) -> None:
        """Put the limit on the memory into force, or lift it."""
        self._lua.set_max_memory(self._memory if confined else 0)

    def describe(self, program: Program, timeout: float) -> dict[str, Any]:
        """The table that the text returns, its strings and numbers as Python's; what has no form there is an Opaque.

        Raises HookRefused when the text does not compile, does not run, or returns something else.
        """
        try:
            answer = self._runner[b"describe"](self._unit(program), timeout)
        except LuaError as fault:
            raise HookRefused(_reason(str(fault))) from None
        if isinstance(answer, tuple):
            raise HookRefused(_reason(answer[1]))
        if lua_type(answer) != "table":
            raise HookRefused(f"{program.name}: a hook's file returns a table with an execute function")
        plain = _Plain()
        described = plain.table(answer)
        if plain.left <= 0:
            raise HookRefused(f"{program.name}: the hook's table holds itself, or is too large")
        return described

    def _unit(self, program: Program) -> Any:
        unit = self._compiled.get(program)
        if unit is None:
            unit = self._compiled[program] = self._compile(program)
            self._compiled_bytes += program.size
            while self._compiled_bytes > _MAX_COMPILED_BYTES and len(self._compiled) > 1:
                self._compiled_bytes -= self._compiled.popitem(last=False)[0].size
        else:
            self._compiled.move_to_end(program)
        return unit

    def _compile(self, program: Program) -> Any:
        libraries = [part.encode() for library in program.libraries for part in library]
        unit = self._runner[b"compile"](
            program.text.encode(),
            program.name.encode(),
            program.effectful,
            " ".join(program.modules).encode(),
            program.params or None,
            *libraries,
        )
        if isinstance(unit, tuple):
            raise HookRefused(_reason(unit[1]))
        return unit


class _Bridge:
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


def _memory_of(runtime: weakref.ref[Runtime]) -> Callable[[], int]:
    def memory_used() -> int:
        alive = runtime()
        return alive.memory_used if alive is not None else 0

    return memory_used


def _limit_of(runtime: weakref.ref[Runtime]) -> Callable[[bool], None]:
    def confine(confined: bool) -> None:
        alive = runtime()
        if alive is not None:
            alive.confine(confined)

    return confine


def _source(name: bytes) -> bytes:
    return _text(name.decode())


def _no_attributes(*_: object) -> str:
    raise AttributeError("Python objects are closed to hooks")


@cache
def _text(name: str) -> bytes:
    return (Path(__file__).parent / f"{name}.lua").read_bytes()


def _pair(item: Any) -> tuple[int, Any]:
    return item[1], item[2]


def dispatched_event(item: Any) -> Dispatched:
    """An event as lua/modules/event.lua hands it over."""
    event_type, data, stack, priority, delay, event_id = (item[n] for n in range(1, 7))
    return Dispatched(
        event_type.decode(),
        data,
        stack.decode() if stack is not None else None,
        priority,
        delay,
        event_id.decode() if event_id is not None else None,
    )


def _reason(message: bytes | str) -> str:
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    return text.split("\nstack traceback:")[0]


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a hook's table holds that has no form in Python: of what kind it is."""

    kind: str

    def __repr__(self) -> str:
        return f"a {self.kind}"


FUNCTION = Opaque("function")


class _Plain:
    """Turns a hook's table into Python's values, up to a number and a depth; `left` is 0 when that was too little."""

    def __init__(self) -> None:
        self.left = _MAX_DESCRIBED

    def table(self, lua_table: Any, depth: int = 1) -> dict[Any, Any]:
        described: dict[Any, Any] = {}
        for key, value in lua_table.items():
            if self.left <= 0 or depth > _MAX_DESCRIBED_DEPTH:
                self.left = 0
                break
            self.left -= 1
            described[self._key(key)] = self._value(value, depth)
        return described

    def _key(self, key: Any) -> Any:
        if isinstance(key, bytes):
            return key.decode(errors="replace")
        kind = lua_type(key)
        return Opaque(kind) if kind else key

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        kind = lua_type(value)
        if kind == "table":
            return self.table(value, depth + 1)
        return Opaque(kind) if kind else value
