"""A regular expression that is looked for in many lines at once: RE2's, in time linear in their length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import re2

_MAX_PATTERN = 4096  # characters
_LINES = "(?m)"  # before each pattern: ^ and $ are a line's
_MAX_MEMORY = 1 << 20  # bytes that RE2 may use for one pattern
_MAX_GROUPS = 100
_MAX_INSTRUCTIONS = 20_000  # of the compiled pattern: at worst, a byte takes 7 ns times as many


class LineMatch(NamedTuple):
    """A line with a match: where it begins and ends in what was searched, without its newline."""

    begin: int
    end: int
    found: Any

    @property
    def groups(self) -> tuple[bytes | None, ...]:
        """The groups of the first match in it, None for those that have no part in that."""
        groups: tuple[bytes | None, ...] = self.found.groups()
        return groups


class LinePattern:
    """A pattern or, if `literal`, a text. ^ and $ are a line's begin and end; no match goes beyond a line."""

    __slots__ = ("_compiled", "names", "text")

    def __init__(self, text: str, *, literal: bool = False) -> None:
        """Raises ValueError, which says why, for what is no pattern."""
        if not text or len(text) > _MAX_PATTERN:
            raise ValueError(f"a pattern has 1 to {_MAX_PATTERN} characters, not {len(text)}")
        options = re2.Options()
        options.max_mem = _MAX_MEMORY
        options.log_errors = False
        options.never_nl = True
        self.text = text
        try:
            pattern = re2.escape(text) if literal else _LINES + text
            # Of bytes, since lines may hold anything.
            self._compiled: Any = re2.compile(pattern.encode(), options)
        except (re2.error, UnicodeEncodeError) as fault:
            raise ValueError(f"{text!r} is no regular expression: {_reason(fault)}") from fault
        if self._compiled.groups > _MAX_GROUPS:
            raise ValueError(f"a pattern has at most {_MAX_GROUPS} groups, not {self._compiled.groups}")
        if self._compiled.programsize > _MAX_INSTRUCTIONS:
            raise ValueError(f"{text!r} is too complex: repeat less")
        if not literal and _marks_text(text):
            raise ValueError(r"a pattern has no \A and \z: a line begins at ^ and ends at $")
        self.names = {name.decode(): index for name, index in self._compiled.groupindex.items()}

    def lines(self, text: bytes) -> Iterator[LineMatch]:
        """Each line of the text that matches, once."""
        at = 0
        while at <= len(text):
            found = self._compiled.search(text, at)
            if found is None:
                return
            begin = text.rfind(b"\n", at, found.start()) + 1 or at
            end = text.find(b"\n", found.end())
            end = len(text) if end < 0 else end
            # Behind the last newline there is no line.
            if begin < len(text):
                yield LineMatch(begin, end, found)
            at = end + 1


def _reason(fault: Exception) -> str:
    reason = fault.args[0] if isinstance(fault, re2.error) else "it is not UTF-8"
    told = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return told.replace(_LINES, "", 1)


def parse(text: str) -> str:
    """A pattern as it is written. Raises ValueError."""
    return LinePattern(text).text


def _marks_text(pattern: str) -> bool:
    r"""Whether it has \A or \z: begin and end of all that is searched, which is not what anybody means."""
    plain = pattern.replace("\\\\", "")
    return "\\A" in plain or "\\z" in plain
