"""Specs: the tests of a hook, in the file beside it, run in the same sandbox as the hook itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from lupa.lua54 import LuaError, LuaMemoryError

from hook_event_processor.errors import HookEventProcessorError, HookRefused
from hook_event_processor.lua.door import Call, Function, Library, Services
from hook_event_processor.lua.loader import program, read_definition
from hook_event_processor.lua.masking import mask
from hook_event_processor.lua.program import Program
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.registry import Pattern, parse_pattern
from hook_event_processor.settings import Settings
from hook_event_processor.workshop.apart import run_apart
from hook_event_processor.workshop.shared import shared_beside
from hook_event_processor.workshop.texts import is_hidden, read_text

SUFFIX = "_spec"
_RUNS_FOR = b"spec.runs_for"


@dataclass(frozen=True, slots=True)
class SpecTest:
    """One `it` of a spec: the names of the describes around it, its own last, and its line."""

    names: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of one test; `reason` is None when it passed. The duration is in seconds."""

    test: SpecTest
    reason: str | None
    output: str
    duration: float


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec file with the hook beside it; the hook's time is in seconds, None for what the settings say."""

    path: Path
    spec: Program
    hook: Program
    patterns: tuple[Pattern, ...]
    hook_seconds: float | None


def spec_files(paths: Sequence[str]) -> Iterator[Path]:
    """The specs that are named: by themselves, by the hook beside them, or by a directory above them.

    Raises HookEventProcessorError for a file that is not there, and for a hook without a spec.
    """
    for name in paths:
        path = Path(name)
        if path.is_dir():
            specs = sorted(path.rglob(f"*{SUFFIX}.lua"))
            yield from (file for file in specs if not is_hidden(file.relative_to(path)))
        elif not path.exists():
            raise HookEventProcessorError(f"{name} cannot be read: there is no such file or directory")
        elif path.stem.endswith(SUFFIX):
            yield path
        else:
            beside = path.with_name(f"{path.stem}{SUFFIX}.lua")
            if not beside.exists():
                raise HookEventProcessorError(f"{name} has no spec beside it: write {beside.name}")
            yield beside


def read_spec(path: Path) -> Spec:
    """Read a spec and its hook. Raises HookRefused when one of them is missing or no text, or the hook is refused."""
    hook_path = path.with_name(f"{path.stem.removesuffix(SUFFIX)}.lua")
    if not hook_path.exists():
        raise HookRefused(f"{path}: the hook that it tests is missing: {hook_path.name} beside it")
    libraries = shared_beside(hook_path)
    text = read_text(hook_path)
    definition = read_definition(text, str(hook_path), libraries)
    spec = program(read_text(path), path.stem, libraries=libraries)
    hook = program(text, hook_path.stem, libraries=libraries)
    # What either of them names may be called while they run.
    named = tuple(sorted({*spec.modules, *hook.modules}))
    patterns = tuple(parse_pattern(pattern) for pattern in definition.event_types)
    return Spec(path, replace(spec, modules=named, hook=hook.hook), hook, patterns, definition.timeout_seconds)


class SpecRunner:
    """Runs the tests of one spec, each in a runtime of its own. Nothing outside is touched: see mocks.lua."""

    def __init__(self, spec: Spec, settings: Settings, seconds: float) -> None:
        """`seconds` is the time of each test, and of the hook in it."""
        self._spec = spec
        self._settings = settings
        self._seconds = seconds

    def tests(self) -> list[SpecTest]:
        """What the spec declares. Raises HookRefused: its top level fails or sticks, or the hook does not compile."""
        try:
            answer = run_apart(
                lambda cancelled: self._runtime().tests(self._spec, self._seconds, cancelled), self._seconds
            )
        except TimeoutError:
            raise HookRefused(f"{self._spec.path}: its top level does not end, and cannot be interrupted") from None
        if isinstance(answer, str):
            reason = answer.split("\nstack traceback:")[0]
            # Lua names the file, not the way to it.
            at_line = reason.removeprefix(f"{self._spec.path.name}:")
            raise HookRefused(f"{self._spec.path}:{'' if at_line != reason else ' '}{at_line}")
        return answer

    def run(self, tests: Sequence[SpecTest], only: str | None = None) -> Iterator[Tested]:
        """What comes of each test, in order; of those whose full name holds `only`, if it is given."""
        for index, test in enumerate(tests, 1):
            if only is None or only in " ".join(test.names):
                yield self._run(index, test)

    def _run(self, index: int, test: SpecTest) -> Tested:
        started = perf_counter()
        try:
            reason, output = run_apart(
                lambda cancelled: self._runtime().run_test(self._spec, self._seconds, index, cancelled), self._seconds
            )
        except TimeoutError:
            reason, output = "the test does not end, and cannot be interrupted", ""
        return Tested(test, reason, output, perf_counter() - started)

    def _runtime(self) -> _SpecRuntime:
        library = _SpecLibrary(self._settings, self._spec.patterns)
        return _SpecRuntime(self._settings.hook_memory, self._settings.max_payload_size, library=library)


class _SpecLibrary(Library):
    """The library, dry and without a database; and what lua/spec.lua asks of the hook's patterns."""

    def __init__(self, settings: Settings, patterns: Sequence[Pattern]) -> None:
        super().__init__(Services(settings), show=lambda _: None)
        self._patterns = patterns

    def function(self, name: bytes) -> Function:
        return Function(self._runs_for) if name == _RUNS_FOR else super().function(name)

    def _runs_for(self, _: Call, source: bytes, action: bytes) -> bytes | None:
        """None when the hook runs for such events, or does not say for which; else its patterns."""
        found = [
            pattern.matches(source.decode(errors="replace"), action.decode(errors="replace"))
            for pattern in self._patterns
        ]
        if any(found) or not found:
            return None
        return ", ".join(pattern.text for pattern in self._patterns).encode()


class _SpecRuntime(Runtime):
    """A runtime whose runner has lua/spec.lua."""

    _extension = b"../workshop/lua/spec"

    def tests(self, spec: Spec, seconds: float, cancelled: threading.Event) -> list[SpecTest] | str:
        """The tests, or why they cannot be told."""
        answer = self._call(b"list_tests", spec, seconds, cancelled)
        if isinstance(answer, tuple):
            return _text(answer[1])
        return [
            SpecTest(tuple(_text(name) for name in reversed(list(item[b"names"].values()))), item[b"line"])
            for item in answer.values()
        ]

    def run_test(self, spec: Spec, seconds: float, index: int, cancelled: threading.Event) -> tuple[str | None, str]:
        """Why the test failed, if it did, and what it printed."""
        passed, reason, output = self._call(b"run_test", spec, seconds, cancelled, index)
        return None if passed else _text(reason), _text(output or b"")

    def _call(self, name: bytes, spec: Spec, seconds: float, cancelled: threading.Event, *more: int) -> Any:
        """Call lua/spec.lua; a text that does not compile, or too much memory, is a failure of that test."""
        # With a module at least: the library is asked for the hook's patterns, too.
        self._bridge.begin(replace(spec.spec, modules=(*spec.spec.modules, "json")), cancelled)
        try:
            units = self._unit(spec.spec), self._unit(spec.hook)
            answer = self._runner[name](*units, spec.hook_seconds or seconds, seconds, *more)
            return self._masked(answer) if isinstance(answer, tuple) else answer
        except HookRefused as refusal:
            return None, str(refusal).encode(), b""
        except LuaMemoryError:
            return None, b"not enough memory", b""
        except LuaError as fault:
            return None, str(fault).encode(), b""
        finally:
            self.confine(False)
            self._bridge.end(self.memory_used)

    def _masked(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        secrets = self._bridge.secrets
        return tuple(mask(item, secrets) if isinstance(item, bytes) else item for item in answer)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
