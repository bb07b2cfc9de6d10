"""A hook's parameters: the defaults in its table, and what is set over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from hook_event_processor.errors import HookRefused, UsageError

MAX_PARAMS_BYTES = 16 * 1024  # as JSON: every run decodes what was set
_MAX_DEPTH = 20
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)  # what orjson reads as an int, and PostgreSQL writes for 1e19
# A boolean is an int, too: it stands first.
_KINDS = ((bool, "boolean"), ((int, float), "number"), (str, "string"), (list, "list"), (dict, "table"))


def defaults_of(value: object) -> dict[str, Any]:
    """The params of a hook's table as JSON's values. Raises HookRefused, saying what they may be."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise HookRefused(f"params is {repr(value)[:80]}: it takes a table of names and their defaults")
    params = {name: _plain(name, item) for name, item in value.items()}
    _check_size(params)
    return params


def parse_set(given: list[str]) -> dict[str, str]:
    """`--set NAME=VALUE` options as names and texts. Raises UsageError for one without a name or a value."""
    texts: dict[str, str] = {}
    for option in given:
        name, equals, text = option.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {option} has no {'name' if equals else 'value'}: write --set threshold=90")
        texts[name.strip()] = text
    return texts


def values_of(defaults: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """What the texts of --set stand for: JSON, else a string; a string as it is where the default is one."""
    return {name: _value_of(defaults.get(name), text) for name, text in texts.items()}


def _value_of(default: object, text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(default, str) and not isinstance(value, str) else value


def check(defaults: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as JSON's values, of which each has its default's type; a default of None leaves it open.

    Raises HookRefused for a name without a default, or a value of another type.
    """
    for name, value in params.items():
        if name not in defaults:
            known = f"there are {', '.join(sorted(defaults))}" if defaults else "the hook's table has no params"
            raise HookRefused(f"there is no parameter {name!r}: {known}")
        default = defaults[name]
        if default is not None and _kind(value) != _kind(default) and not (default == {} and isinstance(value, list)):
            raise HookRefused(
                f"the parameter {name!r} is {_shown(value)}: it takes a {_kind(default)}"
                f" (its default is {_shown(default)})"
            )
    checked = {name: _plain(name, value) for name, value in params.items()}
    _check_size(checked)
    return checked


def _kind(value: object) -> str:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "null"


def _shown(value: object) -> str:
    try:
        return orjson.dumps(value).decode()[:80]
    except TypeError:  # an integer of more than 64 bits, say
        return repr(value)[:80]


def _plain(name: str, value: object, depth: int = 1) -> Any:
    """A value as JSON holds it: a table with the keys 1 to n becomes a list."""
    if not _fits(name):
        raise HookRefused(f"the parameter {name[:80]!r} has a NUL character in its name")
    if depth > _MAX_DEPTH:
        raise HookRefused(f"the parameter {name!r} is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, dict):
        # True equals 1, and is no place in a list.
        if value and all(type(key) is int for key in value) and set(value) == set(range(1, len(value) + 1)):
            return [_plain(name, value[n], depth + 1) for n in range(1, len(value) + 1)]
        if not all(isinstance(key, str) for key in value):
            raise HookRefused(f"the parameter {name!r} is a table that is neither a list nor one of names")
        return {_plain(name, key, depth): _plain(name, item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(name, item, depth + 1) for item in value]
    if type(value) is int and value not in _INT64 and value in _UINT64 and value == float(value):
        return float(value)
    if not _fits(value):
        raise HookRefused(f"the parameter {name!r} holds what JSON in the database cannot: {str(value)[:80]!r}")
    return value


def _fits(value: object) -> bool:
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and value in _INT64


def _check_size(params: Mapping[str, Any]) -> None:
    size = len(orjson.dumps(params))
    if size > MAX_PARAMS_BYTES:
        raise HookRefused(f"params has {size} bytes as JSON: at most {MAX_PARAMS_BYTES}")
