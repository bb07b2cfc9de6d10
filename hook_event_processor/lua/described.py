"""A hook's table as Python's values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lupa.lua54 import lua_type

from hook_event_processor.errors import HookRefused

_MAX_DEPTH = 22  # tables in each other: parameters may be nested in twenty
_MAX_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a hook's table holds that has no form in Python: of what kind it is."""

    kind: str

    def __repr__(self) -> str:
        return f"a {self.kind}"


FUNCTION = Opaque("function")


def described(lua_table: Any, is_null: Callable[[Any], bool]) -> dict[Any, Any]:
    """The table, its texts and numbers as Python's, json.null as None.

    Raises HookRefused for one that is too large or too deep, as one that holds itself is.
    """
    return _Plain(is_null).table(lua_table)


class _Plain:
    """Turns Lua's values into Python's, as long as they are not too many."""

    def __init__(self, is_null: Callable[[Any], bool]) -> None:
        self._is_null = is_null
        self._left = _MAX_VALUES

    def table(self, lua_table: Any, depth: int = 1) -> dict[Any, Any]:
        if depth > _MAX_DEPTH:
            raise HookRefused(f"the hook's table is nested deeper than {_MAX_DEPTH}, or holds itself")
        plain: dict[Any, Any] = {}
        for key, value in lua_table.items():
            self._left -= 1
            if self._left < 0:
                raise HookRefused(f"the hook's table has more than {_MAX_VALUES:,} values, or holds itself")
            plain[self._key(key)] = self._value(value, depth)
        return plain

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
            return None if self._is_null(value) else self.table(value, depth + 1)
        return Opaque(kind) if kind else value
