"""What a hook's text says about itself, and which modules it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from hook_event_processor.errors import HookRefused, PatternRefused
from hook_event_processor.hook_limits import LONGEST_DELAY, STACK_CHARACTERS, TEXT_BYTES, TIMEOUT_SECONDS
from hook_event_processor.lua.described import FUNCTION
from hook_event_processor.lua.names import LIBRARY_PREFIX, Named, closure, cycle_through, names_in
from hook_event_processor.lua.params import defaults_of
from hook_event_processor.lua.program import Program
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.registry import parse_pattern

# What these do outside the database cannot be undone: hooks that name them run under a lease.
EFFECTFUL = frozenset({"exec", "file", "http", "notify", "state"})
MODULES = EFFECTFUL | {"crypto", "env", "event", "json", "log", "regex", "secret", "slog", "template", "time", "yaml"}
_KEYS = frozenset(
    {"name", "description", "event_type", "source", "action", "stack", "priority", "timeout", "retry"}
    | {"params", "requires", "execute", "filter"}
)
_PLACE = re.compile(r"[^\n:]+\.lua:\d+: ")  # of an error in a library, say
_MAX_WORD = 200  # characters that are looked for in the text, or shown
_MAX_VALUE = 10_000  # characters of a name or description
_RETRY_KEYS = frozenset({"attempts", "delay", "max_delay"})
_DESCRIBE_SECONDS = 2.0
_DESCRIBE_MEMORY = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Definition:
    """A hook as its file defines it. Times in seconds; None and () stand for what the file leaves open."""

    name: str | None
    description: str
    event_types: tuple[str, ...]
    stack: str | None
    priority: int
    timeout_seconds: float | None
    retry: Mapping[str, float]
    modules: tuple[str, ...]
    effectful: bool
    params: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()


def program(
    text: str,
    name: str,
    stack: str | None = None,
    params: bytes = b"",
    libraries: Mapping[str, str] | None = None,
) -> Program:
    """The text of the hook `name` as a program, with the modules and the libraries that it names.

    `libraries` are names and texts. Cheap: nothing is run.
    """
    shared = libraries or {}
    named = closure(text, shared)
    texts = tuple((library, shared[library]) for library in named.libraries if library in shared)
    modules = tuple(module for module in named.modules if module in MODULES)
    return Program(f"{name}.lua", text, modules, is_effectful(named), name, stack, params, texts)


def is_effectful(named: Named) -> bool:
    """Whether what is named can act or wait outside the database."""
    return not EFFECTFUL.isdisjoint(named.modules) or ("time" in named.modules and named.sleeps)


def read_definition(text: str, file_path: str, libraries: Mapping[str, str] | None = None) -> Definition:
    """Run the top level of a hook's text in the sandbox and read the table that it returns.

    `libraries` are the names and texts of the libraries that there are.
    Raises HookRefused, with file and line where they are known, when the text
    does not compile, has no execute function, an unknown key, a bad pattern,
    or names a module or library that there is not.
    """
    reader = _Reader(text, file_path)
    reader.check_text()
    reader.check_names(libraries or {})
    described = program(text, PurePath(file_path).stem or "hook", libraries=libraries)
    table = reader.describe(described)
    reader.check_keys(table)
    reader.check_requires(table)
    return Definition(
        name=reader.text_of(table, "name"),
        description=reader.text_of(table, "description") or "",
        event_types=reader.event_types(table),
        stack=reader.text_of(table, "stack"),
        priority=reader.priority(table),
        timeout_seconds=reader.seconds(table, "timeout", *TIMEOUT_SECONDS),
        retry=reader.retry(table),
        modules=described.modules,
        effectful=described.effectful,
        params=reader.params(table),
        libraries=tuple(name for name, _ in described.libraries),
    )


def check_library(name: str, text: str, file_path: str, libraries: Mapping[str, str]) -> Named:
    """Load a library once, as a hook that requires it would; returns what it names.

    `libraries` are the names and texts of the others. Raises
    HookRefused, with file and line where they are known, when the text does
    not compile or fails, or names a module or library that there is not, or itself.
    """
    reader = _Reader(text, file_path)
    reader.check_text()
    there = {**libraries, name: text}
    reader.check_names(there)
    if way := cycle_through(name, there):
        shown = " -> ".join(LIBRARY_PREFIX + step for step in way)
        raise reader.refuse(f"a library cannot require itself: {shown}", word=LIBRARY_PREFIX + way[1])
    reader.describe(program(f'require("{LIBRARY_PREFIX}{name}") return {{}}', name, libraries=there))
    return closure(text, there)


class _Reader:
    """Reads and checks the fields of a hook's table; knows the text, to say where a fault stands."""

    def __init__(self, text: str, file_path: str) -> None:
        self._text = text
        self._file = file_path

    def refuse(self, reason: str, word: str | None = None) -> HookRefused:
        line = self._line_of(word) if word else None
        return HookRefused(f"{self._file}{f':{line}' if line else ''}: {reason}")

    def _line_of(self, word: str) -> int | None:
        if len(word) > _MAX_WORD:
            return None
        for number, line in enumerate(self._text.splitlines(), 1):
            if re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", line.split("--")[0]):
                return number
        return None

    def describe(self, described: Program) -> Mapping[str, Any]:
        """The table that the text makes. What is wrong is told with the file's path, for editors to find it."""
        runtime = Runtime(_DESCRIBE_MEMORY, max_payload=TEXT_BYTES)
        try:
            return runtime.describe(described, _DESCRIBE_SECONDS)
        except HookRefused as refusal:
            reason = str(refusal)
        if reason.startswith(f"{described.name}:"):
            reason = self._file + reason[len(described.name) :]
        elif not _PLACE.match(reason):
            reason = f"{self._file}: {reason}"
        raise HookRefused(reason)

    def check_text(self) -> None:
        size = len(self._text.encode())
        if size > TEXT_BYTES:
            raise self.refuse(f"the text has {size} bytes: at most {TEXT_BYTES}")

    def check_names(self, libraries: Mapping[str, str]) -> None:
        for name in names_in(self._text)[0]:
            library = name.removeprefix(LIBRARY_PREFIX) if name.startswith(LIBRARY_PREFIX) else None
            if library is None and name not in MODULES:
                known = ", ".join(sorted(MODULES))
                raise self.refuse(f"there is no module {_shown(name)}; there are {known}", word=name)
            if library is not None and library not in libraries:
                add = f"'hep hook lib add {library}.lua' adds it"
                known = f"; there are {', '.join(sorted(libraries))}" if libraries else ""
                raise self.refuse(f"there is no library {_shown(library)}: {add}{known}", word=name)

    def check_requires(self, table: Mapping[str, Any]) -> None:
        """A list that is put together while the text runs would not be found where it is only read."""
        value = table.get("requires", {})
        listed = list(value.values()) if isinstance(value, dict) else [value]
        written = names_in(self._text)[0]
        for name in listed:
            if name not in written:
                takes = 'it takes a list of names that are written out: requires = { "json", "lib.slack" }'
                raise self.refuse(f"requires holds {_shown(name)}: {takes}", word="requires")

    def params(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return defaults_of(table.get("params", {}))
        except HookRefused as refusal:
            raise self.refuse(str(refusal), word="params") from None

    def check_keys(self, table: Mapping[Any, Any]) -> None:
        for key in table:
            if key not in _KEYS:
                known = ", ".join(sorted(_KEYS))
                raise self.refuse(f"unknown key {_shown(key)} in the hook's table; known are {known}", word=str(key))
        for key in ("execute", "filter"):
            if key in table and table[key] != FUNCTION:
                raise self.refuse(f"{key} is not a function", word=key)
        if "execute" not in table:
            raise self.refuse("the hook has no execute function: write function hook.execute(event) ... end")

    def text_of(self, table: Mapping[str, Any], key: str) -> str | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value and fits(key, value):
            return value
        raise self.refuse(
            f"{key} is {_shown(value)}: it takes a string, without NUL, of at most {longest(key)}", word=key
        )

    def event_types(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        if "source" in table or "action" in table:
            if "event_type" in table:
                raise self.refuse("event_type stands beside source or action: one of both says it", word="event_type")
            pair = (self.text_of(table, "source") or "*", self.text_of(table, "action") or "*")
            return self._checked((f"{pair[0]}/{pair[1]}",), "source" if "source" in table else "action")
        value = table.get("event_type")
        if value is None:
            return ()
        listed = list(value.values()) if isinstance(value, dict) else [value]
        if not listed or not all(isinstance(item, str) for item in listed):
            raise self.refuse(
                f"event_type is {_shown(value)}: it takes a pattern or a list of patterns", word="event_type"
            )
        return self._checked(tuple(listed), "event_type")

    def _checked(self, patterns: tuple[str, ...], word: str) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                parse_pattern(pattern)
            except PatternRefused as refusal:
                raise self.refuse(str(refusal), word=word) from None
        return patterns

    def priority(self, table: Mapping[str, Any]) -> int:
        value = table.get("priority", 0)
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise self.refuse(
                f"priority is {_shown(value)}: it takes a whole number; lower runs first", word="priority"
            )
        return value

    def seconds(self, table: Mapping[str, Any], key: str, low: float, high: float) -> float | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refuse(f"{key} is {_shown(value)}: it takes {low:g} to {high:g} seconds", word=key)
        return float(value)

    def retry(self, table: Mapping[str, Any]) -> Mapping[str, float]:
        value = table.get("retry", {})
        if not isinstance(value, dict) or not _RETRY_KEYS.issuperset(value):
            known = ", ".join(sorted(_RETRY_KEYS))
            raise self.refuse(f"retry is {_shown(value)}: it takes a table with {known}", word="retry")
        attempts = value.get("attempts", 1)
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= 10:
            raise self.refuse(f"retry.attempts is {_shown(attempts)}: it takes 1 to 10", word="attempts")
        for key in ("delay", "max_delay"):
            self.seconds(value, key, 0, LONGEST_DELAY)
        return dict(value)


def longest(key: str) -> int:
    """How many characters the text of a key in a hook's table may have."""
    return STACK_CHARACTERS if key == "stack" else _MAX_VALUE


def fits(key: str, value: str) -> bool:
    """Whether a hook may have the text for that key."""
    return len(value) <= longest(key) and "\0" not in value


def _shown(value: object) -> str:
    """What stands there, as far as a message has room for it."""
    return repr(value)[:_MAX_WORD]
