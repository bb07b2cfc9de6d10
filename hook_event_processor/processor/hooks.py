"""One thread's way of running hooks: Lua in a runtime of its own, Python handlers as they are."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any
from uuid import UUID

import orjson

from hook_event_processor.event import Outcome, code_of
from hook_event_processor.event_handlers import HandlerResult
from hook_event_processor.lua.door import Library
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.lua.program import Program
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult, storable
from hook_event_processor.store.claim import Row

_GOOD, _FAILED = code_of(Outcome.CONTINUE), code_of(Outcome.FAILED)
_MAX_MESSAGE = 64 * 1024  # characters
_TOO_LARGE = "the payload or the metadata is larger than HOOK_MAX_PAYLOAD_SIZE, {} bytes"


class HookRunner:
    """Runs hooks for claimed rows on one thread. Limits are in bytes; others use `budget` and `library`, too."""

    def __init__(self, memory: int, max_payload: int, budget: MemoryBudget, library: Library) -> None:
        self._library = library
        self._memory = memory
        self._max_payload = max_payload
        self._budget = budget
        self._runtime: Runtime | None = None

    def __call__(self, hook: Hook, rows: Sequence[Row], cancelled: threading.Event) -> ChunkResult:
        """Run the hook for each row; a row whose payload was too large to be claimed fails without running."""
        if all(row.payload is not None for row in rows):
            return self._run(hook, rows, cancelled)
        results = []
        for row in rows:
            if row.payload is None:
                results.append(ChunkResult.refused(Outcome.REFUSED, _TOO_LARGE.format(self._max_payload), 1))
            else:
                results.append(self._run(hook, [row], cancelled))
        return ChunkResult.joined(results)

    def _run(self, hook: Hook, rows: Sequence[Row], cancelled: threading.Event) -> ChunkResult:
        if isinstance(hook.code, Program):
            return self._run_lua(hook.code, hook.timeout, rows, cancelled)
        assert callable(hook.code)  # noqa: S101 - a hook's code is one or the other
        return _run_handler(hook.code, rows)

    def _run_lua(self, lua: Program, timeout: float, rows: Sequence[Row], cancelled: threading.Event) -> ChunkResult:
        results: list[ChunkResult] = []
        count = 0
        while count < len(rows):
            if self._runtime is None:
                self._runtime = Runtime(self._memory, self._max_payload, self._budget, self._library)
            runtime, self._runtime = self._runtime, None  # one that failed by itself is used no more
            result = runtime.run(lua, timeout, rows[count:], cancelled)
            if not (result.out_of_memory or runtime.is_spent):
                self._runtime = runtime
            results.append(result)
            count += len(result.codes)
        return results[0] if len(results) == 1 else ChunkResult.joined(results)


def _run_handler(handler: Callable[..., object], rows: Sequence[Row]) -> ChunkResult:
    result = ChunkResult(b"", [], [], [])
    codes = bytearray()
    for row in rows:
        started = perf_counter()
        good, output, error = _outcome_of(handler, row)
        codes.append(_GOOD if good else _FAILED)
        result.durations.append(perf_counter() - started)
        result.outputs.append(output)
        result.errors.append(error)
    result.codes = bytes(codes)
    return result


def _outcome_of(handler: Callable[..., object], row: Row) -> tuple[bool, bytes | None, bytes | None]:
    """Whether it succeeded, its output, and its error."""
    try:
        return _judged(handler(_as_dict(row)))
    except BaseException:  # sys.exit() and a cancelled coroutine are no more than that run's failure
        return False, None, storable(traceback.format_exc(limit=-20).encode(errors="replace"))


def _judged(returned: object) -> tuple[bool, bytes | None, bytes | None]:
    if not isinstance(returned, HandlerResult):
        return False, None, f"the handler returned a {type(returned).__name__}, not a HandlerResult".encode()
    if returned.success:
        message = str(returned.message)[:_MAX_MESSAGE].encode(errors="replace").replace(b"\0", b"")
        return True, message or None, None
    return False, None, storable(str(returned.error or returned.message or "no reason given").encode(errors="replace"))


def _as_dict(row: Row) -> dict[str, Any]:
    """The event as Python handlers get it: the columns of hook_events."""
    return {
        "id": UUID(bytes=row.id),
        "source": row.source.decode(),
        "action": row.action.decode(),
        "resource": row.resource.decode(),
        "resource_id": row.resource_id.decode(),
        "payload": orjson.loads(row.payload or b"{}"),
        "metadata": orjson.loads(row.metadata),
        "retry_count": row.attempt - 1,
        "priority": row.priority,
    }
