"""What a hook's text names: the modules that it requires, and whether it can sleep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

LIBRARY_PREFIX = "lib."  # of the names under which hooks require libraries
_OPENING = re.compile(r"--\[=*\[|--|[\"']|\[=*\[")
_QUOTED = {'"': re.compile(r'(?:\\.|[^"\\])*', re.DOTALL), "'": re.compile(r"(?:\\.|[^'\\])*", re.DOTALL)}
_COMMENT = re.compile(r"[^\r\n]*")
_REQUIRE = re.compile(r"\brequire\s*\(?\s*$")
_LIST = re.compile(r"\brequires\s*=\s*\{\s*$")
_NEXT_IN_LIST = re.compile(r"\s*[,;]\s*$")
_SEARCHED = 200  # characters of code before a string
_SLEEP = re.compile(r"\bsleep\b")


@dataclass(frozen=True, slots=True)
class Named:
    """What a text and the libraries under it name, sorted. Libraries are without lib.; some may not exist."""

    modules: tuple[str, ...]
    libraries: tuple[str, ...]
    sleeps: bool


def closure(text: str, libraries: Mapping[str, str]) -> Named:
    """What the text names, directly or through the libraries that it names; `libraries` are names and texts."""
    modules: set[str] = set()
    named: set[str] = set()
    sleeping = False
    waiting: list[str] = [text]
    while waiting:
        names, sleeps = names_in(waiting.pop())
        sleeping = sleeping or sleeps
        modules |= {name for name in names if not name.startswith(LIBRARY_PREFIX)}
        new = set(_libraries(names)) - named
        named |= new
        waiting += [libraries[name] for name in new if name in libraries]
    return Named(tuple(sorted(modules)), tuple(sorted(named)), sleeping)


def cycle_through(name: str, libraries: Mapping[str, str]) -> list[str]:
    """A way from the library back to itself, as names; empty when there is none."""
    ways = [[name]]
    seen = set()
    while ways:
        way = ways.pop()
        for following in libraries_in(libraries.get(way[-1], "")):
            if following == name:
                return [*way, name]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def libraries_in(text: str) -> list[str]:
    """The libraries that the text itself names, without lib."""
    return _libraries(names_in(text)[0])


def _libraries(names: tuple[str, ...]) -> list[str]:
    return [name.removeprefix(LIBRARY_PREFIX) for name in names if name.startswith(LIBRARY_PREFIX)]


@lru_cache(maxsize=1024)  # processors ask for every text again with each change of any hook
def names_in(text: str) -> tuple[tuple[str, ...], bool]:
    """The modules that the text requires by name, sorted, and whether the word `sleep` stands in it.

    Names stand in `require("...")` and in a list `requires = {"...", "..."}`.
    Comments name nothing, and neither does a `require` inside a string. The
    time that it takes is proportional to the text's length.
    """
    modules = set()
    sleeps = in_list = False
    before = ""
    for kind, part in _parts(text):
        if kind == "comment":
            continue
        sleeps = sleeps or _SLEEP.search(part) is not None
        if kind == "string":
            in_list = _LIST.search(before) is not None or (in_list and _NEXT_IN_LIST.match(before) is not None)
            if in_list or _REQUIRE.search(before):
                modules.add(part)
            before = ""
        else:
            before = (before + part)[-_SEARCHED:]
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
        end = _matched_end(_COMMENT, text, start)
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
