"""The prompt: Lua that is typed, with the library at hand, evaluated within a hook's limits."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lupa.lua54 import LuaError, LuaMemoryError

from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.loader import MODULES
from hook_event_processor.lua.masking import Unmaskable, mask, masked_events
from hook_event_processor.lua.program import Program
from hook_event_processor.lua.runtime import Runtime, dispatched_event
from hook_event_processor.run import Dispatched
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database
from hook_event_processor.workshop.apart import run_apart
from hook_event_processor.workshop.trial_event import made_up

NAME = "prompt"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of an input: its values as text (None: it has none) or why it failed, and what it did."""

    values: str | None
    reason: str | None
    output: str = ""
    dispatched: Sequence[Dispatched] = ()
    shown: Sequence[str] = ()


class Prompt:
    """Evaluates inputs one after the other, in one environment. Dry unless `live`."""

    def __init__(self, settings: Settings, database: Database | None = None, *, live: bool = False) -> None:
        self._shown: list[str] = []
        self._seconds = settings.hook_timeout
        library = Library(Services(settings, database), show=None if live else self._shown.append)
        self._runtime = _PromptRuntime(settings.hook_memory, settings.max_payload_size, library=library)
        self._runtime.open()

    def evaluate(self, text: str) -> Evaluated | None:
        """What comes of the text; None when it is not complete. Ctrl-C ends it."""
        self._shown.clear()
        try:
            evaluated = run_apart(
                lambda cancelled: self._runtime.evaluate(text, self._seconds, cancelled), self._seconds
            )
        except TimeoutError:
            return Evaluated(None, "it does not end, and cannot be interrupted")
        return replace(evaluated, shown=tuple(self._shown)) if evaluated else None


class _PromptRuntime(Runtime):
    """A runtime whose runner has lua/prompt.lua."""

    _extension = b"../workshop/lua/prompt"
    _program = Program(NAME, "return {}", tuple(sorted(MODULES)), effectful=True, hook=NAME)

    def open(self) -> None:
        event = made_up(f"custom.{NAME}", {})
        self._runner[b"open"](self._unit(self._program), *event.row())
        # What is pretended, and which secrets are known, lasts as long as the prompt.
        self._scratch: dict[Any, Any] = {}
        self._secrets: set[bytes] = set()

    def _begin(self, cancelled: threading.Event) -> None:
        self._bridge.begin(self._program, cancelled)
        if (call := self._bridge.current) is not None:
            call.scratch, call.secrets = self._scratch, self._secrets

    def evaluate(self, text: str, seconds: float, cancelled: threading.Event) -> Evaluated | None:
        self._begin(cancelled)
        try:
            answer = self._runner[b"evaluate"](text.encode(), seconds)
        except LuaMemoryError:
            return Evaluated(None, "not enough memory")
        except LuaError as fault:
            return Evaluated(None, _text(str(fault).encode(), self._secrets))
        finally:
            self.confine(False)
            self._bridge.end(self.memory_used)
        if answer is None:
            return None
        done, result, output, dispatched = answer
        said, printed = _text(result, self._secrets), _text(output, self._secrets) or ""
        try:
            events = masked_events(map(dispatched_event, dispatched.values() if dispatched else ()), self._secrets)
        except Unmaskable as fault:
            return Evaluated(None, str(fault), printed)
        return Evaluated(
            said if done else None, None if done else said or "an error without a message", printed, events
        )


def _text(value: bytes | bool, secrets: Collection[bytes]) -> str | None:
    """What Lua wrote, without secrets; None where it wrote nothing (False)."""
    return mask(value, secrets).decode(errors="replace") if isinstance(value, bytes) else None
