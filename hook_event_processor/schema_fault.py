"""A fault that JSON Schema found, as a sentence: where it is, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jsonschema import SchemaError, ValidationError

Fault = ValidationError | SchemaError

_LONGEST_VALUE = 60  # characters of a value in a message
_MOST_NAMES = 12
_LONGEST_PATH = 200

# What is right, for keywords whose value says it.
_BOUNDS: Mapping[str, str] = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} fields",
    "maxProperties": "at most {} fields",
    "minContains": "at least {} items of a kind that it lacks",
    "maxContains": "at most {} items of one kind",
    "pattern": "text that matches {}",
    "const": "{} alone",
    "uniqueItems": "each item once",
    "anyOf": "one of the forms that the schema lists, and fits none",
    "oneOf": "exactly one of the forms that the schema lists",
    "not": "anything but what it is",
    "contains": "at least one item of a kind that it lacks",
}
_ARTICLES = {"array": "an array", "integer": "an integer", "object": "an object", "null": "null"}


def sentence(fault: Fault, what: str = "payload") -> str:
    """The fault in one sentence; `what` is what was checked."""
    path = list(fault.absolute_path)
    words = _WORDS.get(str(fault.validator), _by_bound)
    return words(fault, path, what)


def _wanted(fault: Fault) -> Any:
    """The value of the keyword that was broken."""
    return fault.validator_value


def _place(path: Iterable[str | int], what: str) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    if not steps:
        return what if what.startswith("the ") else f"the {what}"
    whole = f"{what.removeprefix('the ')}{steps}"
    return whole if len(whole) <= _LONGEST_PATH else f"{whole[: _LONGEST_PATH - 3]}..."


def _type(fault: Fault, path: list[str | int], what: str) -> str:
    return f"{_place(path, what)} is {_value(fault.instance)}: it takes {_kinds(_wanted(fault))}"


def _required(fault: Fault, path: list[str | int], what: str) -> str:
    schema: Any = fault.schema
    instance: Any = fault.instance
    missing = next((name for name in _wanted(fault) if name not in instance), "")
    part = schema.get("properties", {}).get(missing, {}) if isinstance(schema, dict) else {}
    kinds = part.get("type") if isinstance(part, dict) else None
    return f"{_place([*path, missing], what)} is missing" + (f": it takes {_kinds(kinds)}" if kinds else "")


def _additional(fault: Fault, path: list[str | int], what: str) -> str:
    schema: Any = fault.schema
    known = list(schema.get("properties", {})) if isinstance(schema, dict) else []
    near = difflib.get_close_matches(str(path[-1]), known, 1) if path else []
    if near:
        right = f": did you mean {near[0]}?"
    else:
        right = f"; there are {_listed(known)}" if known else ": no other fields are taken"
    return f"{_place(path, what)} is not a field of this type{right}"


def _enum(fault: Fault, path: list[str | int], what: str) -> str:
    return f"{_place(path, what)} is {_value(fault.instance)}: it takes {_one_of(_wanted(fault))}"


def _one_of(values: list[Any]) -> str:
    return f"{'one of ' * (len(values) > 1)}{_listed([_value(value) for value in values])}"


def _alternatives(fault: Fault, path: list[str | int], what: str) -> str:
    """What each of the forms would take, where they say no more than that."""
    rights = []
    for other in fault.context or ():
        if other.relative_path or other.validator not in ("type", "enum"):
            return _by_bound(fault, path, what)
        rights.append(_kinds(_wanted(other)) if other.validator == "type" else _one_of(_wanted(other)))
    if not rights:
        return _by_bound(fault, path, what)
    return f"{_place(path, what)} is {_value(fault.instance)}: it takes {' or '.join(rights)}"


def _by_bound(fault: Fault, path: list[str | int], what: str) -> str:
    place = f"{_place(path, what)} is {_value(fault.instance)}"
    bound = _BOUNDS.get(str(fault.validator))
    if bound is not None:
        return f"{place}: it takes {bound.format(_value(_wanted(fault)))}"
    if fault.validator in (None, "properties"):
        return f"{place}: nothing may stand there"
    return f"{place}: that breaks the schema's {fault.validator} {_value(_wanted(fault))}"


_WORDS: Mapping[str, Callable[[Fault, list[str | int], str], str]] = {
    "type": _type,
    "required": _required,
    "additionalProperties": _additional,
    "enum": _enum,
    "anyOf": _alternatives,
    "oneOf": _alternatives,
}


def _kinds(kinds: str | list[str]) -> str:
    names = [kinds] if isinstance(kinds, str) else kinds
    # null is a way of leaving a value out, and no news.
    shown = [name for name in names if name != "null"] or names
    return " or ".join(_ARTICLES.get(name, f"a {name}") for name in shown)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
