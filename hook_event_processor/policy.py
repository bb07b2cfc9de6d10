"""What hooks may use of the host they run on: one default, refined by stack and by hook in a file of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hook_event_processor.egress import parse_rule
from hook_event_processor.errors import SettingsError
from hook_event_processor.toml_file import read_toml

_PERMISSIONS = ("exec", "http_allow", "http_deny", "file_roots", "env", "secrets")
_KEYS = {"stack": _PERMISSIONS, "hook": ("stack", *_PERMISSIONS)}


@dataclass(frozen=True, slots=True)
class Grants:
    """What one hook may use.

    `exec`: no program, all, or these (names or absolute paths). Hosts are
    names with * globs or networks in CIDR, each with :port if need be; `*`
    alone stands for every public address. Names of variables and secrets may hold * globs.
    """

    exec: bool | tuple[str, ...] = False
    http_allow: tuple[str, ...] = ("*",)
    http_deny: tuple[str, ...] = ()
    file_roots: tuple[Path, ...] = ()
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The grants of every hook: `default`, then what the stack's and last what the hook's own entry says otherwise.

    `hooks_of` has the stack that a hook must have for its own entry to hold ('' for none), where the entry names one.
    """

    default: Grants = field(default_factory=Grants)
    stacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hooks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hooks_of: Mapping[str, str] = field(default_factory=dict)

    def grants(self, hook: str, stack: str | None) -> Grants:
        """What the hook of that name and stack may use."""
        stack = stack or ""
        own = self.hooks.get(hook, {}) if self.hooks_of.get(hook, stack) == stack else {}
        changes = {**self.stacks.get(stack, {}), **own}
        return replace(self.default, **changes) if changes else self.default


def read_policy(path: Path, default: Grants) -> Policy:
    """Read the tables [stack.NAME] and [hook.NAME] of a TOML file.

    Raises SettingsError naming the table and key that is wrong and what it accepts.
    """
    content = read_toml(path, lambda reason: SettingsError(f"HOOK_POLICY: {reason}"))
    refined: dict[str, dict[str, Mapping[str, Any]]] = {"stack": {}, "hook": {}}
    hooks_of = {}
    for kind, tables in content.items():
        if kind not in refined or not isinstance(tables, dict):
            raise SettingsError(f"HOOK_POLICY: {path}: unknown entry {kind!r}; known are [stack.NAME] and [hook.NAME]")
        for name, table in tables.items():
            where = f"{path}: [{kind}.{name}]"
            permissions = _refinement(where, table, _KEYS[kind])
            if (stack := permissions.pop("stack", None)) is not None:
                hooks_of[name] = stack
            refined[kind][name] = permissions
    return Policy(default, refined["stack"], refined["hook"], hooks_of)


def _refinement(where: str, table: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise SettingsError(f"HOOK_POLICY: {where} takes a table of {', '.join(known)}")
    for key in table:
        if key not in known:
            raise SettingsError(f"HOOK_POLICY: {where}: unknown key {key!r}; known are {', '.join(known)}")
    return {
        key: _stack(where, value) if key == "stack" else _permission(where, key, value) for key, value in table.items()
    }


def _stack(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"HOOK_POLICY: {where}: stack is {value!r}: it takes a stack's name, or '' for none")
    return value


def _permission(where: str, key: str, value: object) -> object:
    if key == "exec" and isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        takes = "true, false or a list of programs" if key == "exec" else "a list of strings"
        raise SettingsError(f"HOOK_POLICY: {where}: {key} is {value!r}: it takes {takes}")
    if key == "file_roots":
        return _roots(f"HOOK_POLICY: {where}: {key}", value)
    if key in ("http_allow", "http_deny"):
        return _hosts(f"HOOK_POLICY: {where}: {key}", value)
    return tuple(value)


def _hosts(where: str, hosts: list[str]) -> tuple[str, ...]:
    for host in hosts:
        try:
            parse_rule(host)
        except ValueError as fault:
            raise SettingsError(f"{where}: {fault}") from None
    return tuple(hosts)


def _roots(where: str, paths: list[str]) -> tuple[Path, ...]:
    for path in paths:
        if not path.startswith("/"):
            raise SettingsError(f"{where} has {path!r}: it takes absolute paths")
    return tuple(map(Path, paths))
