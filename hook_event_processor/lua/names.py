"""What a hook's text names: the modules that it requires, and whether it can sleep."""

from __future__ import annotations

import re
from collections.abc import Iterator

_OPENING = re.compile(r"--\[=*\[|--|[\"']|\[=*\[")
_QUOTED = {'"': re.compile(r'(?:\\.|[^"\\])*', re.DOTALL), "'": re.compile(r"(?:\\.|[^'\\])*", re.DOTALL)}
_REQUIRE = re.compile(r"\brequire\s*\(?\s*$")
_REQUIRE_LENGTH = 200  # of code before a string that are searched
_SLEEP = re.compile(r"\bsleep\b")


def names_in(text: str) -> tuple[tuple[str, ...], bool]:
    """The modules that the text requires by name, sorted, and whether the word `sleep` stands in it.

    Comments name nothing, and neither does a `require` inside a string. The
    time that it takes is proportional to the text's length.
    """
    modules = set()
    sleeps = False
    before = ""
    for kind, part in _parts(text):
        if kind == "string" and _REQUIRE.search(before[-_REQUIRE_LENGTH:]):
            modules.add(part)
        if kind != "comment":
            sleeps = sleeps or _SLEEP.search(part) is not None
        before = part if kind == "code" else ""
    return tuple(sorted(modules)), sleeps


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The text in parts: code, string (without its quotes) or comment. An unclosed one reaches to the end."""
    at = 0
    while opening := _OPENING.search(text, at):
        if opening.start() > at:
            yield "code", text[at : opening.start()]
        kind, start, end, at = _part(text, opening.group(), opening.end())
        yield kind, text[start:end]
    yield "code", text[at:]


def _part(text: str, opening: str, start: int) -> tuple[str, int, int, int]:
    """Kind, start and end of what was opened, and where the text goes on behind it."""
    if opening in _QUOTED:
        end = _matched_end(_QUOTED[opening], text, start)
        return "string", start, end, end + 1
    if opening == "--":
        end = _found(text, "\n", start)
        return "comment", start, end, end
    closing = opening.lstrip("-").replace("[", "]")
    end = _found(text, closing, start)
    return "comment" if opening.startswith("--") else "string", start, end, end + len(closing)


def _matched_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _found(text: str, closing: str, start: int) -> int:
    end = text.find(closing, start)
    return end if end >= 0 else len(text)
