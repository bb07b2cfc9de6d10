"""The types of watchers that there are, and reading a definition as one of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hook_event_processor.watchers.check import Definition, Kind, WatcherRefused

if TYPE_CHECKING:
    from hook_event_processor.store.watchers import Watcher

# One module each, with a constant KIND; loaded when a watcher of the type is first met.
NAMES = (
    *("file", "directory", "log", "cpu", "memory", "swap", "disk", "load", "process", "port", "service"),
    *("network", "connection", "user", "package", "command", "custom"),
)
_MIN_INTERVAL = 0.1


@cache
def kind(name: str) -> Kind:
    """The type of that name. Raises WatcherRefused naming those that there are."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise WatcherRefused(f"there is no watcher type {name!r}; {hint}types are {', '.join(NAMES)}")
    found: Kind = import_module(f"hook_event_processor.watchers.kinds.{name}").KIND
    return found


def read_row(watcher: Watcher) -> Definition:
    """The definition of a stored watcher. Raises WatcherRefused: whoever writes rows by hand can write nonsense."""
    config = watcher.config
    if config.fault:
        raise WatcherRefused(config.fault)
    return read(
        watcher.id,
        watcher.type,
        config.conditions,
        config.options,
        config.interval,
        name=watcher.name,
        stack=watcher.stack,
    )


def read(
    identifier: str,
    type_name: str,
    conditions: Sequence[str],
    options: Mapping[str, str],
    interval: float | None,
    *,
    name: str = "",
    stack: str | None = None,
) -> Definition:
    """A definition of texts as a command line or a row has them. Raises WatcherRefused with what would fit."""
    of_type = kind(type_name)
    known = ", ".join(sorted(of_type.conditions))
    for condition in conditions:
        if condition not in of_type.conditions:
            near = difflib.get_close_matches(condition, of_type.conditions, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise WatcherRefused(f"a {type_name} watcher has no condition {condition!r}; {hint}it has {known}")
    if interval is not None and not _MIN_INTERVAL <= interval <= 86_400:
        raise WatcherRefused(f"the interval is {interval:.12g} s: it takes {_MIN_INTERVAL} s to one day")
    definition = Definition(
        id=identifier,
        type=type_name,
        conditions=tuple(conditions) or (next(iter(of_type.conditions)),),
        options=_parsed(of_type, options),
        interval=interval or of_type.interval,
        name=name,
        stack=stack,
    )
    of_type.validate(definition)
    return definition


def _parsed(of_type: Kind, options: Mapping[str, str]) -> Mapping[str, Any]:
    """The options' values. Raises WatcherRefused."""
    parsed = {}
    for option, text in options.items():
        if option not in of_type.options:
            raise WatcherRefused(refusal(of_type, _flag(option)))
        try:
            parsed[option] = of_type.options[option].parse(text)
        except ValueError:
            raise WatcherRefused(
                f"{_flag(option)} is {text!r}: a {of_type.name} watcher takes {of_type.options[option].takes}"
            ) from None
    missing = [_flag(option) for option, spec in of_type.options.items() if spec.required and option not in parsed]
    if missing:
        raise WatcherRefused(f"a {of_type.name} watcher needs {' and '.join(missing)}")
    return parsed


def refusal(of_type: Kind, flag: str) -> str:
    """What to say of an option that the type does not take."""
    takes = ", ".join(map(_flag, of_type.options)) or "none of its own"
    return f"a {of_type.name} watcher does not take {flag}; it takes {takes}"


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
