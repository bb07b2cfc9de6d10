"""What operators do with values; all of it bounded before it is done."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.values import (
    Run,
    Undefined,
    check_key,
    is_number,
    items_of,
    kind_of,
    number,
    text_of,
)

_MAX_EXPONENT = 64
_PLAIN_NEEDLE = 100  # characters; longer ones are searched for in linear time

Operator = Callable[[Run, Any, Any], Any]


def _numbers(sign: str, left: Any, right: Any) -> None:
    if not (is_number(left) and is_number(right)):
        raise Fault(f"{sign} between {kind_of(left)} and {kind_of(right)}")


def _add(run: Run, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        run.budget.make(len(left) + len(right))
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        run.budget.spend(len(left) + len(right))
        return run.budget.made(left + right)
    _numbers("+", left, right)
    return number(left + right)


def _multiply(run: Run, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, int):
        run.budget.make(len(left) * max(right, 0))
        return left * right
    _numbers("*", left, right)
    return number(left * right)


def _power(_: Run, left: Any, right: Any) -> Any:
    _numbers("**", left, right)
    if isinstance(left, int) and abs(left) > 1 and right > _MAX_EXPONENT:
        raise Fault("a number out of range")
    return number(left**right)


def _numeric(sign: str, do: Callable[[Any, Any], Any]) -> Operator:
    def apply(_: Run, left: Any, right: Any) -> Any:
        _numbers(sign, left, right)
        return number(do(left, right))

    return apply


ARITHMETIC: Mapping[str, Operator] = {
    "Add": _add,
    "Sub": _numeric("-", operator.sub),
    "Mul": _multiply,
    "Div": _numeric("/", operator.truediv),
    "FloorDiv": _numeric("//", operator.floordiv),
    "Mod": _numeric("%", operator.mod),
    "Pow": _power,
}


def arithmetic(run: Run, apply: Operator, left: Any, right: Any) -> Any:
    try:
        return apply(run, left, right)
    except ZeroDivisionError:
        raise Fault("division by zero") from None
    except OverflowError:
        raise Fault("a number out of range") from None


def equal(run: Run, left: Any, right: Any) -> bool:
    if isinstance(left, (list, dict, str)) and isinstance(right, (list, dict, str)):
        run.budget.spend(run.budget.weigh(left) + run.budget.weigh(right))
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return isinstance(left, Undefined) and isinstance(right, Undefined)
    return bool(left == right)


def _ordered(sign: str, compare: Callable[[Any, Any], bool]) -> Operator:
    def apply(run: Run, left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            run.budget.read(left)
        else:
            _numbers(sign, left, right)
        return compare(left, right)

    return apply


def contains(run: Run, item: Any, container: Any) -> bool:
    """Whether the item is in a list, a key of a mapping, or a part of a text."""
    if isinstance(container, str):
        if not isinstance(item, str):
            raise Fault(f"{kind_of(item)} in a text")
        search(run, container, item)
        return item in container
    if isinstance(container, dict):
        return check_key(item) in container
    items = items_of(run, container)
    run.budget.spend(run.budget.weigh(items) + len(items) * run.budget.weigh(item))
    return item in items


def search(run: Run, text: str, part: str) -> None:
    """Before `part` is looked for in `text`."""
    run.budget.read(text, min(len(part), _PLAIN_NEEDLE) + 1)


COMPARISONS: Mapping[str, Operator] = {
    "eq": equal,
    "ne": lambda run, left, right: not equal(run, left, right),
    "lt": _ordered("<", operator.lt),
    "lteq": _ordered("<=", operator.le),
    "gt": _ordered(">", operator.gt),
    "gteq": _ordered(">=", operator.ge),
    "in": contains,
    "notin": lambda run, left, right: not contains(run, left, right),
}


def joined(run: Run, values: list[Any], separator: str = "") -> str:
    texts = [text_of(run, value) for value in values]
    run.budget.make(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)
