"""Filters that say something about texts."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.fields import replaced
from hook_event_processor.lua.templates.operators import joined
from hook_event_processor.lua.templates.values import (
    Filter,
    Run,
    is_number,
    json_of,
    text_of,
    whole,
)

_MAX_WRAPPED = 64 * 1024  # characters: its loop is Python's
_WORD = re.compile(r"[^-\s({\[<]+")  # as Jinja2's title finds words
_FORMAT = re.compile(r"%(?:[-+ 0#]{0,3}\d{0,2}(?:\.\d{1,2})?[sdfgexX]|%)|(%)")


def _on_text(change: Callable[[str], str], growth: int = 1) -> Filter:
    def apply(run: Run, value: Any) -> str:
        text = text_of(run, value)
        run.budget.make(len(text) * growth)
        return change(text)

    return apply


def _title(run: Run, value: Any) -> str:
    text = text_of(run, value)
    run.budget.make(len(text))
    # Its loop is Python's.
    run.budget.spend(len(text) // 16)
    return _WORD.sub(lambda word: word[0][0].upper() + word[0][1:].lower(), text)


def _center(run: Run, value: Any, width: Any = 80) -> str:
    text, width = text_of(run, value), whole(width)
    run.budget.make(max(len(text), width))
    return text.center(width)


def _indent(run: Run, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> str:
    text = text_of(run, value)
    margin = width if isinstance(width, str) else None
    size = len(margin) if margin is not None else whole(width)
    run.budget.make(len(text) + (text.count("\n") + 1) * size)
    margin = " " * size if margin is None else margin
    lines = text.split("\n")
    run.budget.spend(len(lines))
    rest = [margin + line if line or blank else line for line in lines[1:]]
    return "\n".join([(margin if first else "") + lines[0], *rest])


def _truncate(
    run: Run, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = 5
) -> str:
    text, ending = text_of(run, value), text_of(run, end)
    length = whole(length, len(ending))
    run.budget.make(len(text))
    if len(text) <= length + whole(leeway):
        return text
    cut = text[: length - len(ending)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + ending


def _wordwrap(run: Run, value: Any, width: Any = 79) -> str:
    text = text_of(run, value)
    if len(text) > _MAX_WRAPPED:
        raise Fault(f"wordwrap takes at most {_MAX_WRAPPED} characters")
    width = whole(width, 1)
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


def _wordcount(run: Run, value: Any) -> int:
    text = text_of(run, value)
    run.budget.make(len(text))
    return len(text.split())


def _trimmed(run: Run, value: Any, characters: Any) -> str:
    text = text_of(run, value)
    wanted = None if characters is None else text_of(run, characters)
    run.budget.read(text, 1 + len(wanted or ""))
    return text.strip(wanted)


TEXT_FILTERS: Mapping[str, Filter] = {
    "capitalize": _on_text(str.capitalize),
    "center": _center,
    "e": _on_text(html.escape, 6),
    "escape": _on_text(html.escape, 6),
    "format": _format,
    "indent": _indent,
    "lower": _on_text(str.lower),
    "replace": lambda run, value, *arguments: replaced(run, text_of(run, value), *arguments),
    "string": text_of,
    "title": _title,
    "tojson": _tojson,
    "trim": lambda run, value, characters=None: _trimmed(run, value, characters),
    "truncate": _truncate,
    "upper": _on_text(str.upper),
    "urlencode": _urlencode,
    "wordcount": _wordcount,
    "wordwrap": _wordwrap,
}
