"""The filters: Jinja2's, as far as they say something about texts, numbers, lists and mappings."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.fields import field, pairs, replaced
from hook_event_processor.lua.templates.operators import joined
from hook_event_processor.lua.templates.predicates import PREDICATES, Predicate
from hook_event_processor.lua.templates.values import (
    Run,
    Undefined,
    is_number,
    items_of,
    json_of,
    kind_of,
    number,
    text_of,
    truth,
)

Filter = Callable[..., Any]
_MAX_DIGITS = 15
_MAX_WRAPPED = 64 * 1024  # characters: its loop is Python's
_FORMAT = re.compile(r"%(?:[-+ 0#]{0,3}\d{0,2}(?:\.\d{1,2})?[sdfgexX]|%)|(%)")


def _whole(value: Any, low: int = 0, high: int = 2**31) -> int:
    if not isinstance(value, int) or not low <= value <= high:
        raise Fault(f"{text_or_kind(value)} where a whole number from {low} to {high} is taken")
    return value


def text_or_kind(value: Any) -> str:
    return str(value) if is_number(value) else kind_of(value)


def _on_text(change: Callable[[str], str], growth: int = 1) -> Filter:
    def apply(run: Run, value: Any) -> str:
        text = text_of(run, value)
        run.budget.make(len(text) * growth)
        return change(text)

    return apply


def _default(run: Run, value: Any, other: Any = "", falsy: Any = False) -> Any:
    if isinstance(value, Undefined):
        return other
    return other if falsy and not truth(run, value) else value


def _list(run: Run, value: Any) -> list[Any]:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    return list(items)


def _length(run: Run, value: Any) -> int:
    return len(value) if isinstance(value, (str, dict)) else len(items_of(run, value))


def _attribute(run: Run, item: Any, path: Any) -> Any:
    """item.a.b for the path "a.b", item[0] for 0."""
    for name in path.split(".") if isinstance(path, str) else [path]:
        item = field(run, item, int(name) if isinstance(name, str) and name.isdigit() else name)
    return item


def _ranked(run: Run, items: list[Any], attribute: Any, case_sensitive: Any = False) -> list[Any]:
    """The items' keys for sorting: all numbers or all texts."""
    keys = items if attribute is None else [_attribute(run, item, attribute) for item in items]
    run.budget.spend(1 + len(keys))
    if all(map(is_number, keys)):
        return list(keys)
    if not all(isinstance(key, str) for key in keys):
        raise Fault("sorting takes items that are all numbers, or all texts, or an attribute that is")
    run.budget.make(sum(map(len, keys)))
    return list(keys) if case_sensitive else [key.lower() for key in keys]


def _sort(run: Run, value: Any, reverse: Any = False, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    items = items_of(run, value)
    keys = _ranked(run, items, attribute, case_sensitive)
    return [items[at] for at in sorted(range(len(items)), key=keys.__getitem__, reverse=bool(reverse))]


def _extreme(choose: Callable[..., int]) -> Filter:
    def apply(run: Run, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
        items = items_of(run, value)
        keys = _ranked(run, items, attribute, case_sensitive)
        return (
            items[choose(range(len(items)), key=keys.__getitem__)] if items else Undefined("the item of an empty list")
        )

    return apply


def _dictsort(run: Run, value: Any, case_sensitive: Any = False, by: Any = "key", reverse: Any = False) -> list[Any]:
    if not isinstance(value, dict):
        raise Fault(f"{kind_of(value)} where a mapping is taken")
    return _sort(run, pairs(run, value), reverse, case_sensitive, 1 if by == "value" else 0)


def _unique(run: Run, value: Any, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    items = items_of(run, value)
    keys = _ranked(run, items, attribute, case_sensitive)
    firsts: dict[Any, Any] = {}
    for item, key in zip(items, keys, strict=True):
        firsts.setdefault(key, item)
    return list(firsts.values())


def _groupby(run: Run, value: Any, attribute: Any, case_sensitive: Any = False) -> list[Any]:
    groups: dict[Any, list[Any]] = {}
    items = _sort(run, value, case_sensitive=case_sensitive, attribute=attribute)
    for item, key in zip(items, _ranked(run, items, attribute, case_sensitive), strict=True):
        groups.setdefault(key, []).append(item)
    named = [{"grouper": _attribute(run, group[0], attribute), "list": group} for group in groups.values()]
    return run.budget.made(named)  # type: ignore[no-any-return]


def _batch(run: Run, value: Any, size: Any, fill: Any = None) -> list[Any]:
    items, size = items_of(run, value), _whole(size, 1, 10_000)
    rows = [items[at : at + size] for at in range(0, len(items), size)]
    if fill is not None and rows:
        rows[-1] = rows[-1] + [fill] * (size - len(rows[-1]))
    run.budget.spend(1 + len(items) + size)
    return run.budget.made(rows)  # type: ignore[no-any-return]


def _slice(run: Run, value: Any, count: Any, fill: Any = None) -> list[Any]:
    items, count = items_of(run, value), _whole(count, 1, 10_000)
    run.budget.spend(1 + len(items) + count)
    least, more = divmod(len(items), count)
    rows, at = [], 0
    for row in range(count):
        size = least + (row < more)
        rows.append(items[at : at + size] + ([fill] if fill is not None and more and row >= more else []))
        at += size
    return run.budget.made(rows)  # type: ignore[no-any-return]


def _join(run: Run, value: Any, separator: Any = "", attribute: Any = None) -> str:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    if attribute is not None:
        items = [_attribute(run, item, attribute) for item in items]
    return joined(run, items, text_of(run, separator))


def _map(run: Run, value: Any, name: Any = None, *arguments: Any, attribute: Any = None, default: Any = None) -> Any:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    if attribute is not None:
        found = [_attribute(run, item, attribute) for item in items]
        return run.budget.made(
            [default if isinstance(item, Undefined) and default is not None else item for item in found]
        )
    change = FILTERS.get(name) if isinstance(name, str) else None
    if change is None:
        raise Fault("map takes the name of a filter, or attribute=")
    return run.budget.made([change(run, item, *arguments) for item in items])


def _predicate(name: Any) -> Predicate:
    found = PREDICATES.get(name) if isinstance(name, str) else None
    if found is None:
        raise Fault(f"there is no test {text_or_kind(name) if not isinstance(name, str) else name[:40]!r}")
    return found


def _chosen(wanted: bool, by_attribute: bool) -> Filter:
    def apply(run: Run, value: Any, *arguments: Any) -> list[Any]:
        items = items_of(run, value)
        run.budget.spend(1 + len(items))
        path, arguments = (arguments[0], arguments[1:]) if by_attribute else (None, arguments)
        check = _predicate(arguments[0]) if arguments else truth
        return [
            item
            for item in items
            if bool(check(run, _attribute(run, item, path) if by_attribute else item, *arguments[1:])) is wanted
        ]

    return apply


def _sum(run: Run, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    values = items if attribute is None else [_attribute(run, item, attribute) for item in items]
    if not all(map(is_number, [*values, start])):
        raise Fault("sum takes numbers")
    return number(sum(values, start))


def _int(run: Run, value: Any, default: Any = 0, base: Any = 10) -> Any:
    if isinstance(value, float):
        return number(int(value)) if math.isfinite(value) else default
    if is_number(value):
        return int(value)
    try:
        text = text_of(run, value).strip()
        return number(int(text, _whole(base, 2, 36)) if base != 10 else int(float(text)) if "." in text else int(text))
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


def _round(_: Run, value: Any, digits: Any = 0, method: Any = "common") -> float:
    if not is_number(value) or not math.isfinite(value):
        raise Fault(f"round of {text_or_kind(value)}")
    digits = _whole(digits, -_MAX_DIGITS, _MAX_DIGITS)
    if method == "common":
        return float(round(float(value), digits))
    if method not in ("ceil", "floor"):
        raise Fault("round takes common, ceil or floor")
    factor = 10.0**digits
    return float((math.ceil if method == "ceil" else math.floor)(value * factor) / factor)


def _center(run: Run, value: Any, width: Any = 80) -> str:
    text, width = text_of(run, value), _whole(width)
    run.budget.make(max(len(text), width))
    return text.center(width)


def _indent(run: Run, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> str:
    text = text_of(run, value)
    margin = width if isinstance(width, str) else None
    size = len(margin) if margin is not None else _whole(width)
    run.budget.make(len(text) + (text.count("\n") + 1) * size)
    margin = " " * size if margin is None else margin
    lines = text.split("\n")
    run.budget.spend(len(lines))
    rest = [margin + line if line or blank else line for line in lines[1:]]
    return "\n".join([(margin if first else "") + lines[0], *rest])


def _truncate(run: Run, value: Any, length: Any = 255, whole: Any = False, end: Any = "...", leeway: Any = 5) -> str:
    text, ending = text_of(run, value), text_of(run, end)
    length = _whole(length, len(ending))
    run.budget.make(len(text))
    if len(text) <= length + _whole(leeway):
        return text
    cut = text[: length - len(ending)]
    return (cut if whole else cut.rsplit(" ", 1)[0]) + ending


def _wordwrap(run: Run, value: Any, width: Any = 79) -> str:
    text = text_of(run, value)
    if len(text) > _MAX_WRAPPED:
        raise Fault(f"wordwrap takes at most {_MAX_WRAPPED} characters")
    width = _whole(width, 1)
    run.budget.make(2 * len(text))
    run.budget.spend(len(text) // 10 + len(text) // width)
    lines = [textwrap.wrap(line, width, replace_whitespace=False) or [""] for line in text.split("\n")]
    return "\n".join("\n".join(line) for line in lines)


def _format(run: Run, value: Any, *arguments: Any) -> str:
    text = text_of(run, value)
    run.budget.make(len(text) * 2)
    specs = 0
    for spec in _FORMAT.finditer(text):
        run.budget.spend()
        if spec[1]:
            raise Fault(
                "format takes %s, %d, %f, %g, %e, %x, with at most two digits of width and of precision, and %%"
            )
        specs += spec[0] != "%%"
    if specs != len(arguments):
        raise Fault(f"format has {specs} places for {len(arguments)} values")
    values = tuple(value if is_number(value) else text_of(run, value) for value in arguments)
    run.budget.make(sum(len(value) if isinstance(value, str) else 400 for value in values) + 100 * specs)
    try:
        return text % values
    except (TypeError, ValueError, OverflowError):
        raise Fault("format: a value does not fit its place") from None


def _first(run: Run, value: Any) -> Any:
    items = value if isinstance(value, str) else items_of(run, value)
    return items[0] if items else Undefined("the first of nothing")


def _last(run: Run, value: Any) -> Any:
    items = value if isinstance(value, str) else items_of(run, value)
    return items[-1] if items else Undefined("the last of nothing")


def _reverse(run: Run, value: Any) -> Any:
    items = value if isinstance(value, str) else items_of(run, value)
    run.budget.make(len(items))
    return items[::-1]


def _urlencode(run: Run, value: Any) -> str:
    if not isinstance(value, dict):
        return _quoted(run, value)
    return joined(run, [f"{_quoted(run, key, True)}={_quoted(run, item, True)}" for key, item in value.items()], "&")


def _quoted(run: Run, value: Any, in_query: bool = False) -> str:
    text = text_of(run, value)
    run.budget.make(12 * len(text))
    # Its loop is Python's.
    run.budget.spend(len(text) // 16)
    return quote_plus(text) if in_query else quote(text, safe="/")


def _tojson(run: Run, value: Any, indent: Any = None) -> str:
    return json_of(run, value, indented=bool(indent))


def _items(run: Run, value: Any) -> list[Any]:
    if isinstance(value, dict):
        return pairs(run, value)
    if isinstance(value, Undefined):
        return items_of(run, value)
    raise Fault(f"{kind_of(value)} where a mapping is taken")


def _wordcount(run: Run, value: Any) -> int:
    text = text_of(run, value)
    run.budget.make(len(text))
    return len(text.split())


FILTERS: Mapping[str, Filter] = {
    "abs": _abs,
    "batch": _batch,
    "capitalize": _on_text(str.capitalize),
    "center": _center,
    "count": _length,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "e": _on_text(html.escape, 6),
    "escape": _on_text(html.escape, 6),
    "first": _first,
    "float": _float,
    "format": _format,
    "groupby": _groupby,
    "indent": _indent,
    "int": _int,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "lower": _on_text(str.lower),
    "map": _map,
    "max": _extreme(max),
    "min": _extreme(min),
    "reject": _chosen(False, by_attribute=False),
    "rejectattr": _chosen(False, by_attribute=True),
    "replace": lambda run, value, *arguments: replaced(run, text_of(run, value), *arguments),
    "reverse": _reverse,
    "round": _round,
    "select": _chosen(True, by_attribute=False),
    "selectattr": _chosen(True, by_attribute=True),
    "slice": _slice,
    "sort": _sort,
    "string": text_of,
    "sum": _sum,
    "title": _on_text(str.title),
    "tojson": _tojson,
    "trim": lambda run, value, characters=None: _trimmed(run, value, characters),
    "truncate": _truncate,
    "unique": _unique,
    "upper": _on_text(str.upper),
    "urlencode": _urlencode,
    "wordcount": _wordcount,
    "wordwrap": _wordwrap,
}


def _trimmed(run: Run, value: Any, characters: Any) -> str:
    text = text_of(run, value)
    wanted = None if characters is None else text_of(run, characters)
    run.budget.read(text, 1 + len(wanted or ""))
    return text.strip(wanted)
