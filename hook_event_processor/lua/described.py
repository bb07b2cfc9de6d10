"""A hook's table as Python's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lupa.lua54 import lua_type

_MAX_DESCRIBED, _MAX_DESCRIBED_DEPTH = 1000, 4  # values in a hook's table, and tables in each other


@dataclass(frozen=True, slots=True)
class Opaque:
    """What a hook's table holds that has no form in Python: of what kind it is."""

    kind: str

    def __repr__(self) -> str:
        return f"a {self.kind}"


FUNCTION = Opaque("function")


class Plain:
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
