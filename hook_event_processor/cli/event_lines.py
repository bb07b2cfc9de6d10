"""Events as users write them, in JSON: one object each."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hook_event_processor.cli.spans import duration, moment
from hook_event_processor.errors import EventRefused
from hook_event_processor.event import MAX_DELAY, NewEvent, split_type


def json_object(name: str, text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises EventRefused, saying at which character the text is none."""
    try:
        value = _DECODER.decode(text if isinstance(text, str) else text.decode())
    except json.JSONDecodeError as fault:
        # A text of one line is told by its character, one of several also by the line.
        where = f"line {fault.lineno}, character {fault.colno}" if fault.lineno > 1 else f"character {fault.colno}"
        raise EventRefused(f"{name} is not JSON: {fault.msg} at {where}") from None
    except UnicodeDecodeError as fault:
        raise EventRefused(f"{name} is not UTF-8: byte {fault.start + 1}") from None
    except RecursionError:
        raise EventRefused(f"{name} is nested too deeply") from None
    except ValueError as fault:
        raise EventRefused(f"{name} is not JSON that can be stored: {fault}") from None
    if not isinstance(value, dict):
        raise EventRefused(f'{name} is not a JSON object: write {{"key": "value"}}')
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def finite(text: str) -> float:
    """A number of JSON as a float. Raises ValueError when it is too large for one."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


# json.loads would make a decoder for each text.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=finite)


def parse_line(text: bytes, now: datetime) -> NewEvent:
    """The event of one line; a delay counts from `now`. Raises EventRefused."""
    return new_event(json_object("the event", text.strip()), now)


def new_event(fields: Mapping[str, Any], now: datetime | None) -> NewEvent:
    """The event that has these fields; `now` is needed where one is a delay. Raises EventRefused."""
    source, action = _type(fields)
    columns: dict[str, Any] = {}
    for name, value in fields.items():
        reader = _READERS.get(name)
        if reader is not None:
            if value is not None:
                columns[name] = reader(name, value)
        elif name not in _TYPE_FIELDS:
            raise EventRefused(f"unknown field {name!r}; known are {', '.join((*_TYPE_FIELDS, *_READERS))}")
    if "data" in columns:
        if "payload" in columns:
            raise EventRefused("data stands beside payload: one of both says it")
        columns["payload"] = columns.pop("data")
    if "stack" in columns:
        columns["metadata"] = {**columns.get("metadata", {}), "stack": columns.pop("stack")}
    if "delay" in columns:
        delay = columns.pop("delay")
        columns["available_at"] = now + delay if delay and now is not None else None
    return NewEvent(source, action, **columns)


def _type(fields: Mapping[str, Any]) -> tuple[str, str]:
    if "type" in fields:
        if "source" in fields or "action" in fields:
            raise EventRefused("type stands beside source or action: one of both says it")
        return split_type(_text("type", fields["type"]))
    if "source" not in fields:
        raise EventRefused("the event has no type: give type, or source and action")
    return _text("source", fields["source"]), _text("action", fields.get("action") or "")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise EventRefused(f"{name} is {_short(value)}: it takes a text")
    return value


def _object(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise EventRefused(f"{name} is {_short(value)}: it takes an object")
    return value


def _priority(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise EventRefused(f"{name} is {_short(value)}: it takes a number from 1 (first) to 10 (last)")
    return value


def _delay(name: str, value: Any) -> timedelta:
    """A duration such as 30s, or seconds."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_DELAY.total_seconds():
        return timedelta(seconds=value)
    delay: timedelta = _parsed(name, value, duration, "a duration such as 30s, or seconds")
    return delay


def _moment(name: str, value: Any) -> datetime:
    time: datetime = _parsed(name, value, moment, "a time such as 2025-10-06T14:23:45Z")
    return time


def _uuid(name: str, value: Any) -> UUID:
    return value if isinstance(value, UUID) else _parsed(name, value, UUID, "a UUID")


def _parsed(name: str, value: Any, parse: Callable[[str], Any], kind: str) -> Any:
    try:
        return parse(value)
    except (argparse.ArgumentTypeError, AttributeError, OverflowError, TypeError, ValueError):
        raise EventRefused(f"{name} is {_short(value)}: it takes {kind}") from None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_TYPE_FIELDS = ("type", "source", "action")
_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "data": _object,
    "payload": _object,
    "resource": _text,
    "resource_id": _text,
    "stack": _text,
    "priority": _priority,
    "delay": _delay,
    "occurred_at": _moment,
    "id": _uuid,
    "metadata": _object,
}
