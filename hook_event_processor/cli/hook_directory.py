"""A directory of hooks: *.lua are hooks, lib/*.lua libraries, hooks.toml says what is to be said over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hook_event_processor.cli.hook_file import PRIORITIES, LuaFile, Said, read_file
from hook_event_processor.cli.hook_lib import checked_name
from hook_event_processor.errors import HookEventProcessorError, HookRefused, PatternRefused
from hook_event_processor.lua.loader import fits, longest
from hook_event_processor.registry import parse_pattern
from hook_event_processor.toml_file import read_toml

TABLE_FILE = "hooks.toml"
SPEC = "_spec.lua"
_KEYS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "file": (str, "the name of a file in the directory"),
    "event_type": ((str, list), "a pattern or a list of patterns"),
    "stack": (str, "a string"),
    "priority": (int, "a number of 32 bits; lower runs first"),
    "description": (str, "a string"),
    "enabled": (bool, "true or false"),
    "params": (dict, "a table of parameters"),
}


@dataclass(slots=True)
class Contents:
    """What a directory holds: its hooks, and its libraries by name, and every fault met on the way."""

    hooks: list[tuple[LuaFile, Said]] = field(default_factory=list)
    libraries: dict[str, LuaFile] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Add a refusal in the block to the faults, and go on behind it."""
        try:
            yield
        except HookEventProcessorError as refusal:
            self.faults.append(str(refusal))


def hook_files(directory: Path) -> list[Path]:
    """The files that hold hooks, by name. Specs are none."""
    return _lua_files(directory)


def library_files(directory: Path) -> list[Path]:
    """The files that hold libraries, by name."""
    return _lua_files(directory / "lib")


def _lua_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.lua") if not path.name.endswith(SPEC) and path.is_file())


def read_directory(directory: Path) -> Contents:
    """Read all of it. Raises HookRefused when there is nothing to read."""
    if not directory.is_dir():
        raise HookRefused(f"{directory} is no directory")
    contents = Contents()
    files = {}
    for path in library_files(directory):
        with contents.collecting():
            contents.libraries[checked_name(path.stem)] = read_file(str(path))
    for path in hook_files(directory):
        with contents.collecting():
            files[path.name] = read_file(str(path))
    with contents.collecting():
        _add_hooks(contents, directory, files)
    if not contents.hooks and not contents.libraries and not contents.faults:
        raise HookRefused(
            f"{directory} holds no hook: hooks are its *.lua files, libraries are lib/*.lua;"
            " 'hep hook remove' and 'hep hook lib remove' take away what came from here"
        )
    return contents


def _add_hooks(contents: Contents, directory: Path, files: Mapping[str, LuaFile]) -> None:
    """The hooks that hooks.toml names, and each file that it does not name as a hook of its own."""
    entries = _entries(directory / TABLE_FILE)
    for name, entry in entries.items():
        with contents.collecting():
            contents.hooks.append(_entry(directory, files, name, entry))
    named = {entry.get("file", f"{name}.lua") for name, entry in entries.items()}
    contents.hooks += [(file, Said()) for name, file in files.items() if name not in named]


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of hooks.toml by the names of their hooks; none without the file."""
    if not path.is_file():
        return {}
    entries = read_toml(path, HookRefused)
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise HookRefused(f"{path}: {name} stands outside of a table: write [NAME] for each hook")
        for key, value in entry.items():
            check_key(f"{path}: [{name}]", key, value)
    return entries


def check_key(where: str, key: str, value: object) -> None:
    """Raise HookRefused where nothing of that kind can be said over a hook's text."""
    if key not in _KEYS:
        raise HookRefused(f"{where}: unknown key {key!r}; known are {', '.join(_KEYS)}")
    kind, takes = _KEYS[key]
    good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not good or (isinstance(value, int) and value not in PRIORITIES):
        raise HookRefused(f"{where}: {key} is {value!r}: it takes {takes}")
    if isinstance(value, str) and not fits(key, value):
        raise HookRefused(f"{where}: {key} is {value[:80]!r}: it takes {takes}, without NUL, of at most {longest(key)}")
    if key == "event_type":
        _check_patterns(where, value, takes)


def _check_patterns(where: str, value: object, takes: str) -> None:
    patterns = value if isinstance(value, list) else [value]
    try:
        if not patterns:
            raise HookRefused("event_type is an empty list: it takes a pattern at the least; left out, the file's hold")
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise HookRefused(f"event_type is {value!r}: it takes {takes}")
            parse_pattern(pattern)
    except (HookRefused, PatternRefused) as refusal:
        raise HookRefused(f"{where}: {refusal}") from None


def _entry(directory: Path, files: Mapping[str, LuaFile], name: str, entry: Mapping[str, Any]) -> tuple[LuaFile, Said]:
    file = entry.get("file", f"{name}.lua")
    if file not in files:
        raise HookRefused(f"{directory / TABLE_FILE}: [{name}]: there is no {file} in {directory}")
    patterns = entry.get("event_type")
    overrides = {key: entry[key] for key in ("stack", "priority", "description") if key in entry}
    if patterns is not None:
        overrides["event_types"] = [patterns] if isinstance(patterns, str) else patterns
    disabled = None if "enabled" not in entry else not entry["enabled"]
    return files[file], Said(name, {"name": name, **overrides}, params=entry.get("params", {}), disabled=disabled)
