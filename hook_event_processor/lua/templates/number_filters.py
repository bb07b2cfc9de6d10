"""Filters that say something about numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.values import (
    Filter,
    Run,
    is_number,
    kind_of,
    number,
    text_of,
    whole,
)

_MAX_DIGITS = 15


def _int(run: Run, value: Any, default: Any = 0, base: Any = 10) -> Any:
    if isinstance(value, float):
        return number(int(value)) if math.isfinite(value) else default
    if is_number(value):
        return int(value)
    text = text_of(run, value).strip()
    try:
        return number(int(text, whole(base, 2, 36)))
    except ValueError:
        pass
    try:
        return number(int(float(text)))
    except (ValueError, OverflowError):
        return default


def _float(run: Run, value: Any, default: Any = 0.0) -> Any:
    try:
        return float(value) if is_number(value) else float(text_of(run, value).strip())
    except (ValueError, OverflowError):
        return default


def _abs(_: Run, value: Any) -> Any:
    if not is_number(value):
        raise Fault(f"abs of {kind_of(value)}")
    return number(abs(value))


def _round(_: Run, value: Any, precision: Any = 0, method: Any = "common") -> float:
    if not is_number(value) or not math.isfinite(value):
        raise Fault(f"round of {kind_of(value)}")
    digits = whole(precision, -_MAX_DIGITS, _MAX_DIGITS)
    if method == "common":
        return float(round(float(value), digits))
    if method not in ("ceil", "floor"):
        raise Fault("round takes common, ceil or floor")
    factor = 10.0**digits
    return float((math.ceil if method == "ceil" else math.floor)(value * factor) / factor)


NUMBER_FILTERS: Mapping[str, Filter] = {
    "abs": _abs,
    "float": _float,
    "int": _int,
    "round": _round,
}
