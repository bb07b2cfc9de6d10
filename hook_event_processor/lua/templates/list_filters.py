"""Filters that say something about lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hook_event_processor.lua.masking import shortened
from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.fields import field, pairs
from hook_event_processor.lua.templates.operators import joined
from hook_event_processor.lua.templates.predicates import PREDICATES, Predicate
from hook_event_processor.lua.templates.values import (
    Filter,
    Run,
    Undefined,
    is_number,
    items_of,
    kind_of,
    number,
    text_of,
    truth,
    whole,
)


def _list(run: Run, value: Any) -> list[Any]:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    return list(items)


def _length(run: Run, value: Any) -> int:
    return len(value) if isinstance(value, (str, dict)) else len(items_of(run, value))


def attribute_of(run: Run, item: Any, path: Any) -> Any:
    """item.a.b for the path "a.b", item[0] for 0."""
    for name in path.split(".") if isinstance(path, str) else [path]:
        item = field(run, item, int(name) if isinstance(name, str) and name.isdigit() else name)
    return item


def _ranked(run: Run, items: list[Any], attribute: Any, case_sensitive: Any = False) -> list[Any]:
    """The items' keys for sorting: all numbers or all texts."""
    keys = items if attribute is None else [attribute_of(run, item, attribute) for item in items]
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
    named = [{"grouper": attribute_of(run, group[0], attribute), "list": group} for group in groups.values()]
    return run.budget.made(named)  # type: ignore[no-any-return]


def _batch(run: Run, value: Any, linecount: Any, fill_with: Any = None) -> list[Any]:
    items, size = items_of(run, value), whole(linecount, 1, 10_000)
    rows = [items[at : at + size] for at in range(0, len(items), size)]
    if fill_with is not None and rows:
        rows[-1] = rows[-1] + [fill_with] * (size - len(rows[-1]))
    run.budget.spend(1 + len(items) + size)
    return run.budget.made(rows)  # type: ignore[no-any-return]


def _slice(run: Run, value: Any, slices: Any, fill_with: Any = None) -> list[Any]:
    items, count = items_of(run, value), whole(slices, 1, 10_000)
    run.budget.spend(1 + len(items) + count)
    least, more = divmod(len(items), count)
    rows, at = [], 0
    for row in range(count):
        size = least + (row < more)
        rows.append(items[at : at + size] + ([fill_with] if fill_with is not None and more and row >= more else []))
        at += size
    return run.budget.made(rows)  # type: ignore[no-any-return]


def _join(run: Run, value: Any, d: Any = "", attribute: Any = None) -> str:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    if attribute is not None:
        items = [attribute_of(run, item, attribute) for item in items]
    return joined(run, items, text_of(run, d))


def _chosen(wanted: bool, by_attribute: bool) -> Filter:
    def apply(run: Run, value: Any, *arguments: Any) -> list[Any]:
        items = items_of(run, value)
        run.budget.spend(1 + len(items))
        path, arguments = (arguments[0], arguments[1:]) if by_attribute else (None, arguments)
        check = _predicate(arguments[0]) if arguments else truth
        return [
            item
            for item in items
            if bool(check(run, attribute_of(run, item, path) if by_attribute else item, *arguments[1:])) is wanted
        ]

    return apply


def _predicate(name: Any) -> Predicate:
    found = PREDICATES.get(name) if isinstance(name, str) else None
    if found is None:
        raise Fault(f"there is no test {repr(shortened(name, 40)) if isinstance(name, str) else kind_of(name)}")
    return found


def _sum(run: Run, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    values = items if attribute is None else [attribute_of(run, item, attribute) for item in items]
    if not all(map(is_number, [*values, start])):
        raise Fault("sum takes numbers")
    return number(sum(values, start))


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


def _items(run: Run, value: Any) -> list[Any]:
    if isinstance(value, dict):
        return pairs(run, value)
    if isinstance(value, Undefined):
        return items_of(run, value)
    raise Fault(f"{kind_of(value)} where a mapping is taken")


LIST_FILTERS: Mapping[str, Filter] = {
    "batch": _batch,
    "count": _length,
    "dictsort": _dictsort,
    "first": _first,
    "groupby": _groupby,
    "items": _items,
    "join": _join,
    "last": _last,
    "length": _length,
    "list": _list,
    "max": _extreme(max),
    "min": _extreme(min),
    "reject": _chosen(False, by_attribute=False),
    "rejectattr": _chosen(False, by_attribute=True),
    "reverse": _reverse,
    "select": _chosen(True, by_attribute=False),
    "selectattr": _chosen(True, by_attribute=True),
    "slice": _slice,
    "sort": _sort,
    "sum": _sum,
    "unique": _unique,
}
