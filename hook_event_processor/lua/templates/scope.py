"""Names and what they stand for, where a template stands; and what every template can call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.values import Callee, Namespace, Run, Undefined

_MAX_RANGE = 10_000
_ABSENT: Any = object()


class Scope:
    """The names of a block; those of the blocks around it are seen in it, and not changed."""

    __slots__ = ("names", "outer", "run")

    def __init__(self, run: Run, names: dict[str, Any], outer: Scope | None = None) -> None:
        self.run = run
        self.names = names
        self.outer = outer

    def inner(self, names: dict[str, Any]) -> Scope:
        return Scope(self.run, names, self)

    def look_up(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            value = scope.names.get(name, _ABSENT)
            if value is not _ABSENT:
                return value
            scope = scope.outer
        return GLOBALS.get(name) or Undefined(name)


def _range(run: Run, arguments: list[Any], keywords: dict[str, Any]) -> list[int]:
    numbers = range(*arguments, **keywords)
    if len(numbers) > _MAX_RANGE:
        raise Fault(f"a range of more than {_MAX_RANGE} numbers")
    run.budget.spend(1 + len(numbers))
    return list(numbers)


def _dict(run: Run, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    if arguments:
        raise Fault("dict takes its fields by name")
    return run.budget.made(keywords)


def _namespace(_: Run, arguments: list[Any], keywords: dict[str, Any]) -> Namespace:
    if arguments:
        raise Fault("namespace takes its fields by name")
    return Namespace(dict(keywords))


GLOBALS: Mapping[str, Callee] = {
    "range": Callee("range", _range),
    "dict": Callee("dict", _dict),
    "namespace": Callee("namespace", _namespace),
}
