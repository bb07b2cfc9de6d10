"""The values that templates handle, and what can be asked of them.

Text, numbers, true, false, null, lists and mappings come from the hook's
data; the classes here are all that there is beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson

from hook_event_processor.lua.templates.budget import Budget, Fault

Filter = Callable[..., Any]  # (run, value, *arguments, **keywords) -> value
Scalar = (str, int, float, type(None))


class Undefined:
    """What a name stands for that the data does not have: empty text, false, no items."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Run:
    """One rendering: its budget, and whether undefined names are faults."""

    __slots__ = ("budget", "strict")

    def __init__(self, strict: bool) -> None:
        self.budget = Budget()
        self.strict = strict

    def undefined(self, value: Undefined) -> Fault:
        return Fault(f"{value.name} is undefined")


class Callee:
    """What a template may call: `call(run, arguments, keywords)`."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[[Run, list[Any], dict[str, Any]], Any]) -> None:
        self.name = name
        self.call = call


class Namespace:
    """What namespace() makes: its fields can be set from within loops."""

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields


class Loop:
    """What `loop` is within a for."""

    __slots__ = ("again", "depth", "index0", "items", "seen")

    def __init__(self, items: list[Any], depth: int, again: Callable[[Any], str] | None) -> None:
        self.items = items
        self.index0 = 0
        self.depth = depth
        self.again = again  # renders the loop for other items, in a recursive one
        self.seen: Any = Undefined("changed")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def number(value: Any) -> Any:
    """The result of arithmetic, as long as Lua knows such numbers, too."""
    if (isinstance(value, int) and not -(2**63) <= value < 2**63) or value in (math.inf, -math.inf):
        raise Fault("a number out of range")
    if isinstance(value, complex):
        raise Fault("no such number")
    return value


def text_of(run: Run, value: Any) -> str:
    """The value as text: numbers as Lua writes them, lists and mappings as JSON; null is empty."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = f"{value:.14g}"
        return text if any(letter in text for letter in ".en") else text + ".0"
    if isinstance(value, Undefined):
        if run.strict:
            raise run.undefined(value)
        return ""
    return json_of(run, value)


def json_of(run: Run, value: Any, indented: bool = False) -> str:
    """The value as JSON."""
    run.budget.spend(run.budget.weigh(value))
    options = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indented else 0)
    try:
        text = orjson.dumps(value, default=_no_json, option=options).decode()
    except TypeError as fault:
        raise Fault(str(fault.__cause__ or fault)) from None
    run.budget.make(len(text))
    return text


def _no_json(value: object) -> Any:
    if isinstance(value, Undefined):
        return None
    raise Fault(f"{kind_of(value)} cannot be written")


def truth(run: Run, value: Any) -> bool:
    if isinstance(value, Undefined):
        if run.strict:
            raise run.undefined(value)
        return False
    return bool(value)


def items_of(run: Run, value: Any) -> list[Any]:
    """What a loop over the value goes through. The list itself for a list: not to be changed."""
    if isinstance(value, list):
        return value
    if isinstance(value, (dict, str)):
        run.budget.spend(1 + len(value))
        return list(value)
    if value is None:
        return []
    if isinstance(value, Undefined):
        if run.strict:
            raise run.undefined(value)
        return []
    raise Fault(f"{kind_of(value)} has no items")


def kind_of(value: object) -> str:
    """What it is, in a word, for reasons."""
    if isinstance(value, Undefined):
        return f"{value.name} (undefined)"
    kinds = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return kinds.get(type(value), "null" if value is None else "a function, macro or loop")


def check_key(key: Any) -> Any:
    """A mapping's key: text, a number, true, false or null."""
    if not isinstance(key, Scalar):
        raise Fault(f"{kind_of(key)} cannot be a key")
    return key


def whole(value: Any, low: int = 0, high: int = 2**31) -> int:
    """The value, when it is a whole number within bounds. Raises Fault otherwise."""
    if not isinstance(value, int) or not low <= value <= high:
        shown = str(value) if is_number(value) else kind_of(value)
        raise Fault(f"{shown} where a whole number from {low} to {high} is taken")
    return value
