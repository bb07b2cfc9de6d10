"""a.b, a[b] and a.b(): fields of data first, then the few methods that texts and mappings have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hook_event_processor.lua.masking import shortened
from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.operators import equal, joined, search
from hook_event_processor.lua.templates.values import (
    Callee,
    Loop,
    Namespace,
    Run,
    Undefined,
    check_key,
    items_of,
    kind_of,
    text_of,
)

_MAX_PIECES = 10_000

_Method = Callable[..., Any]


def field(run: Run, value: Any, name: Any) -> Any:
    """value.name, or value[name]; undefined when there is no such field."""
    run.budget.spend()
    found: Any = _MISSING
    check_key(name)
    if isinstance(value, dict):
        found = value.get(name, _MISSING)
    elif isinstance(value, (list, str)) and isinstance(name, int):
        found = value[name] if -len(value) <= name < len(value) else _MISSING
    elif isinstance(value, Namespace):
        found = value.fields.get(name, _MISSING)
    elif isinstance(value, Loop):
        found = _LOOP[name](run, value) if name in _LOOP else _MISSING
    elif isinstance(value, Undefined):
        if run.strict:
            raise run.undefined(value)
        return Undefined(f"{value.name}.{name}")
    return _method(value, name) if found is _MISSING else found


_MISSING = object()


def _method(value: Any, name: Any) -> Any:
    method = _METHODS.get(type(value), {}).get(name) if isinstance(name, str) else None
    if method is None:
        return Undefined(shortened(str(name), 40))
    return Callee(name, lambda run, arguments, keywords: method(run, value, *arguments, **keywords))


def part(run: Run, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """value[start:stop:step]."""
    if not isinstance(value, (str, list)):
        raise Fault(f"a part of {kind_of(value)}")
    if not all(bound is None or isinstance(bound, int) for bound in (start, stop, step)) or step == 0:
        raise Fault("[start:stop:step] takes whole numbers")
    run.budget.make(len(value))
    return value[start:stop:step]


def _changed(run: Run, loop: Loop, *values: Any) -> bool:
    same = isinstance(loop.seen, list) and equal(run, loop.seen, list(values))
    loop.seen = list(values)
    return not same


def _cycle(_: Run, loop: Loop, *values: Any) -> Any:
    if not values:
        raise Fault("loop.cycle takes values")
    return values[loop.index0 % len(values)]


_LOOP: Mapping[Any, Callable[[Run, Loop], Any]] = {
    "index": lambda _, loop: loop.index0 + 1,
    "index0": lambda _, loop: loop.index0,
    "revindex": lambda _, loop: len(loop.items) - loop.index0,
    "revindex0": lambda _, loop: len(loop.items) - loop.index0 - 1,
    "first": lambda _, loop: loop.index0 == 0,
    "last": lambda _, loop: loop.index0 == len(loop.items) - 1,
    "length": lambda _, loop: len(loop.items),
    "depth": lambda _, loop: loop.depth,
    "depth0": lambda _, loop: loop.depth - 1,
    "previtem": lambda _, loop: loop.items[loop.index0 - 1] if loop.index0 else Undefined("previtem"),
    "nextitem": lambda _, loop: (
        loop.items[loop.index0 + 1] if loop.index0 + 1 < len(loop.items) else Undefined("nextitem")
    ),
}


def _text(run: Run, value: Any) -> str:
    text = text_of(run, value)
    run.budget.read(text)
    return text


def _same_length(name: str) -> _Method:
    change: Callable[[str], str] = getattr(str, name)

    def method(run: Run, text: str) -> str:
        run.budget.make(len(text))
        return change(text)

    return method


def _strip(name: str) -> _Method:
    change: Callable[[str, str | None], str] = getattr(str, name)

    def method(run: Run, text: str, characters: Any = None) -> str:
        run.budget.make(len(text))
        wanted = None if characters is None else _text(run, characters)
        run.budget.read(text, len(wanted or ""))
        return change(text, wanted)

    return method


def _is(name: str) -> _Method:
    check: Callable[[str], bool] = getattr(str, name)

    def method(run: Run, text: str) -> bool:
        run.budget.read(text)
        return check(text)

    return method


def replaced(run: Run, text: str, old: Any, new: Any, count: Any = None) -> str:
    """The text with `old` replaced by `new`, the first `count` times or always."""
    before, after = _text(run, old), _text(run, new)
    search(run, text, before)
    found = text.count(before)
    limit = found if count is None else min(found, max(_whole(count), 0))
    run.budget.make(len(text) + limit * len(after))
    return text.replace(before, after, limit)


def _split(run: Run, text: str, separator: Any = None, limit: Any = -1) -> list[str]:
    run.budget.make(len(text))
    by = None if separator is None else _text(run, separator)
    if by == "":
        raise Fault("split takes a separator that is not empty")
    search(run, text, by or " ")
    limit = _whole(limit)
    pieces = text.split(by, _MAX_PIECES if limit < 0 else min(limit, _MAX_PIECES))
    if len(pieces) > _MAX_PIECES:
        raise Fault(f"split makes more than {_MAX_PIECES} pieces")
    run.budget.spend(len(pieces))
    return pieces


def _count(run: Run, text: str, part: Any) -> int:
    wanted = _text(run, part)
    search(run, text, wanted)
    return text.count(wanted)


def _find(run: Run, text: str, part: Any) -> int:
    wanted = _text(run, part)
    search(run, text, wanted)
    return text.find(wanted)


def _join(run: Run, text: str, values: Any) -> str:
    return joined(run, items_of(run, values), text)


def _lines(run: Run, text: str) -> list[str]:
    run.budget.make(len(text))
    lines = text.splitlines()
    run.budget.spend(len(lines))
    return lines


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise Fault(f"{kind_of(value)} where a whole number is taken")
    return value


_TEXT_METHODS: dict[str, _Method] = {
    **{name: _same_length(name) for name in ("upper", "lower", "title", "capitalize", "swapcase")},
    **{name: _strip(name) for name in ("strip", "lstrip", "rstrip", "removeprefix", "removesuffix")},
    **{name: _is(name) for name in ("isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower")},
    "startswith": lambda run, text, part: text.startswith(_text(run, part)),
    "endswith": lambda run, text, part: text.endswith(_text(run, part)),
    "replace": replaced,
    "split": _split,
    "splitlines": _lines,
    "count": _count,
    "find": _find,
    "join": _join,
}


def pairs(run: Run, mapping: dict[Any, Any]) -> list[Any]:
    """[key, value] of each field."""
    run.budget.spend(1 + 2 * len(mapping))
    return run.budget.made([[key, value] for key, value in mapping.items()])  # type: ignore[no-any-return]


def _listed(run: Run, items: Any) -> list[Any]:
    run.budget.spend(1 + len(items))
    return list(items)


_MAPPING_METHODS: dict[str, _Method] = {
    "items": pairs,
    "keys": lambda run, mapping: _listed(run, mapping.keys()),
    "values": lambda run, mapping: _listed(run, mapping.values()),
    "get": lambda _, mapping, key, default=None: mapping.get(check_key(key), default),
}

_LOOP_METHODS: dict[str, _Method] = {"changed": _changed, "cycle": _cycle}

_METHODS: Mapping[type, Mapping[str, _Method]] = {str: _TEXT_METHODS, dict: _MAPPING_METHODS, Loop: _LOOP_METHODS}
