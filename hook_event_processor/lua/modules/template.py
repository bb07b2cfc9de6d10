"""template: texts with places to fill, rendered within limits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import orjson

from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services

if TYPE_CHECKING:
    from hook_event_processor.lua.templates.compiled import Templates

_MAX_TEMPLATE_BYTES = 32 * 1024
_MAX_DATA_BYTES = 512 * 1024


def functions(_: Services) -> Mapping[str, Function]:
    return {"template.render": Function(render)}


def render(_: Call, text: bytes, data: bytes, strict: bool) -> bytes:
    """The text for the data, which is a JSON object; `strict` makes undefined names a failure."""
    from hook_event_processor.lua.templates.budget import Fault

    if len(text) > _MAX_TEMPLATE_BYTES:
        raise Failed(f"template.render takes a template of at most {_MAX_TEMPLATE_BYTES} bytes, not {len(text)}")
    if len(data) > _MAX_DATA_BYTES:
        raise Failed(f"template.render takes data of at most {_MAX_DATA_BYTES} bytes of JSON, not {len(data)}")
    try:
        return _templates().of(text.decode()).render(_fields(data), strict).encode()
    except UnicodeDecodeError:
        raise Misused("template.render: the template is not UTF-8") from None
    except Fault as fault:
        raise Failed(f"template.render: {fault}") from None


def _fields(data: bytes) -> dict[str, object]:
    try:
        # Lua's tables have no order: fields come in that of their names.
        found = orjson.loads(orjson.dumps(orjson.loads(data), option=orjson.OPT_SORT_KEYS))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as fault:
        raise Misused(f"template.render: the data cannot be read: {fault}") from None
    if not isinstance(found, dict):
        raise Misused("template.render takes a table with named fields as its data")
    return found


@cache
def _templates() -> Templates:
    from hook_event_processor.lua.templates.compiled import Templates

    return Templates()
