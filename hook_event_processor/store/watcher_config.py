"""What a watcher's row says of it, in JSON that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class WatcherConfig:
    """Conditions, options by name, and seconds between two looks, None for the type's own.

    `fault`: why it is nothing to watch by, None for no reason. What cannot be
    read is left out.
    """

    conditions: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    interval: float | None = None
    fault: str | None = None


def read(text: str | bytes) -> WatcherConfig:
    """The configuration of a row. Numbers, true and false are taken for the texts that options are."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return WatcherConfig(fault="its config holds a number of thousands of digits, or is nested too deeply")
    faults: list[str] = []

    def part(name: str, of: Callable[[Any], Any]) -> Any:
        try:
            return of(config.get(name))
        except ValueError as fault:
            faults.append(f"its config has {fault}")
            return of(None)

    conditions, options, interval = (
        part(name, of) for name, of in (("conditions", _conditions), ("options", _options), ("interval", _interval))
    )
    return WatcherConfig(conditions, options, interval, "; ".join(faults) or None)


def _conditions(value: Any) -> list[str]:
    if not isinstance(value or [], list):
        raise ValueError(f"{_called(value)} for its conditions: write a list of texts")
    return [_text(condition, "among its conditions") for condition in value or []]


def _options(value: Any) -> dict[str, str]:
    if not isinstance(value or {}, dict):
        raise ValueError(f"{_called(value)} for its options: write an object of texts by name")
    return {name: _text(option, f"for its option {name}") for name, option in (value or {}).items()}


def _interval(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{_called(value)} for its interval: write seconds, a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number of hundreds of digits for its interval: write seconds") from None


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise ValueError(f"{_called(value)} {where}: write a text")
    return str(value)


def _called(value: Any) -> str:
    """What it is called in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if value is None:
        return "null"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
