"""One Lua runtime: runs hooks within their limits. Used by one thread at a time."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from lupa.lua54 import LuaError, LuaMemoryError, LuaRuntime, lua_type

from hook_event_processor.errors import HookRefused
from hook_event_processor.event import MAX_DEPTH, Outcome
from hook_event_processor.lua.bridge import Bridge
from hook_event_processor.lua.described import described
from hook_event_processor.lua.door import Library
from hook_event_processor.lua.masking import mask, masked
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.lua.program import Program
from hook_event_processor.run import ChunkResult, Dispatched, storable

MAX_DISPATCHED = 1000  # events that one run may dispatch
_MAX_COMPILED_BYTES = 128 * 1024  # of hooks' text that a runtime keeps compiled
_GARBAGE_BYTES = 2 * 1024 * 1024
_LEFT_BYTES = 4 * 1024 * 1024  # that runs may leave behind
_COMPILED_SIZE = 10  # bytes that a byte of text may take when it is compiled
FIELDS = 10  # values of an event that hooks see
_PAYLOAD, _METADATA = 6, 7  # their places among these


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
        self._bridge = Bridge(budget or MemoryBudget(2 * memory, memory), library)
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
        # Whether runs have left so much behind that a new runtime is better: Lua never makes a table smaller.
        self.is_spent = False

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
        except LuaError as fault:  # of the runner itself; what it says may come from the hook
            raise RuntimeError(mask(str(fault).encode(), self._bridge.secrets).decode()) from None
        finally:
            self._bridge.end(self._tidied())

    def _tidied(self) -> int:
        """Bytes held after a run; its garbage is collected first when there may be much of it."""
        if self.memory_used > _GARBAGE_BYTES:
            self._lua.gccollect()
            self.is_spent = self.memory_used > _LEFT_BYTES + _COMPILED_SIZE * self._compiled_bytes
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
            return ChunkResult.refused(Outcome.MEMORY, self._out_of_memory(), 1)
        except HookRefused as refusal:
            return ChunkResult.refused(Outcome.REFUSED, str(refusal), len(events))
        result = ChunkResult(
            codes,
            results[0::3],
            [text or None for text in results[1::3]],
            [storable(text) if text else None for text in results[2::3]],
        )
        if result.out_of_memory:
            result.errors[-1] = self._out_of_memory().encode()
        if dispatched:
            for index, events_of_run in map(_pair, dispatched.values()):
                result.dispatched[index - 1] = [dispatched_event(item) for item in events_of_run.values()]
        return result

    def _out_of_memory(self) -> str:
        """What Lua has no room to say."""
        megabytes = f"{self._memory / 2**20:g} MB (HOOK_MEMORY_MB)"
        return f"not enough memory: one run may take {megabytes}, all together HOOK_MEMORY_TOTAL_MB"

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
        same, null = self._lua.globals()[b"rawequal"], self._runner[b"null"]
        try:
            return described(answer, lambda value: same(value, null))
        except HookRefused as refusal:
            raise HookRefused(f"{program.name}: {refusal}") from None

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
