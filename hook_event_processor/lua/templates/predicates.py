"""What `is` can ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.operators import COMPARISONS, arithmetic
from hook_event_processor.lua.templates.values import Callee, Run, Undefined, kind_of, text_of

Predicate = Callable[..., Any]


def _remainder(value: Any, divisor: Any) -> int:
    if not isinstance(value, int) or not isinstance(divisor, int) or divisor == 0:
        raise Fault(f"{kind_of(value)} where a whole number is taken, or a division by zero")
    return value % divisor


def _is_number(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _cased(change: Callable[[str], bool]) -> Predicate:
    def check(run: Run, value: Any) -> bool:
        text = text_of(run, value)
        run.budget.read(text)
        return change(text)

    return check


def _compared(name: str) -> Predicate:
    return lambda run, value, other: arithmetic(run, COMPARISONS[name], value, other)


PREDICATES: Mapping[str, Predicate] = {
    "defined": lambda _, value: not isinstance(value, Undefined),
    "undefined": lambda _, value: isinstance(value, Undefined),
    "none": lambda _, value: value is None,
    "true": lambda _, value: value is True,
    "false": lambda _, value: value is False,
    "boolean": lambda _, value: isinstance(value, bool),
    "number": lambda _, value: _is_number(value, (int, float)),
    "integer": lambda _, value: _is_number(value, (int,)),
    "float": lambda _, value: isinstance(value, float),
    "string": lambda _, value: isinstance(value, str),
    "mapping": lambda _, value: isinstance(value, dict),
    "sequence": lambda _, value: isinstance(value, (list, dict, str)),
    "iterable": lambda _, value: isinstance(value, (list, dict, str)),
    "callable": lambda _, value: isinstance(value, Callee),
    "odd": lambda _, value: _remainder(value, 2) == 1,
    "even": lambda _, value: _remainder(value, 2) == 0,
    "divisibleby": lambda _, value, divisor: _remainder(value, divisor) == 0,
    "lower": _cased(str.islower),
    "upper": _cased(str.isupper),
    "in": _compared("in"),
    **{name: _compared("eq") for name in ("eq", "==", "equalto", "sameas")},
    **{name: _compared("ne") for name in ("ne", "!=")},
    **{name: _compared("lt") for name in ("lt", "<", "lessthan")},
    **{name: _compared("lteq") for name in ("le", "<=")},
    **{name: _compared("gt") for name in ("gt", ">", "greaterthan")},
    **{name: _compared("gteq") for name in ("ge", ">=")},
}
