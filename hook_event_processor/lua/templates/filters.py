"""The filters: Jinja2's, as far as they say something about texts, numbers, lists and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.list_filters import LIST_FILTERS, attribute_of
from hook_event_processor.lua.templates.number_filters import NUMBER_FILTERS
from hook_event_processor.lua.templates.text_filters import TEXT_FILTERS
from hook_event_processor.lua.templates.values import (
    Filter,
    Run,
    Undefined,
    items_of,
    truth,
)


def _default(run: Run, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    if isinstance(value, Undefined):
        return default_value
    return default_value if boolean and not truth(run, value) else value


def _map(run: Run, value: Any, name: Any = None, *arguments: Any, attribute: Any = None, default: Any = None) -> Any:
    items = items_of(run, value)
    run.budget.spend(1 + len(items))
    if attribute is not None:
        found = [attribute_of(run, item, attribute) for item in items]
        return run.budget.made(
            [default if isinstance(item, Undefined) and default is not None else item for item in found]
        )
    change = FILTERS.get(name) if isinstance(name, str) else None
    if change is None:
        raise Fault("map takes the name of a filter, or attribute=")
    return run.budget.made([change(run, item, *arguments) for item in items])


FILTERS: Mapping[str, Filter] = {
    **TEXT_FILTERS,
    **LIST_FILTERS,
    **NUMBER_FILTERS,
    "d": _default,
    "default": _default,
    "map": _map,
}
