"""Lua source as tokens, for texts that Lua itself has compiled: nothing is refused here."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

_KEYWORDS = re.compile(
    "and|break|do|else|elseif|end|false|for|function|goto|if|in|local|nil|not|or|repeat|return|then|true|until|while"
)
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--(?!\[=*\[)[^\n]*)
    |(?P<long>(?:--)?\[(?P<level>=*)\[)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>0[xX](?:[pP][+-]?|[0-9a-fA-F.])+|\.?\d(?:[eE][+-]?|[\w.])*)
    |(?P<string>"(?:\\(?:\r\n|.)|[^"\\])*"|'(?:\\(?:\r\n|.)|[^'\\])*')
    |(?P<sign>\.\.\.|\.\.|==|~=|<=|>=|<<|>>|//|::|.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_PLAIN_STRING = re.compile(r"[^\\]*")


class Kind(enum.Enum):
    """What a token is."""

    NAME = "name"
    KEYWORD = "keyword"
    STRING = "string"
    NUMBER = "number"
    SIGN = "sign"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; line and column count from 1, columns in characters.

    `value` is what a string literal stands for, None when it holds escapes.
    """

    kind: Kind
    text: str
    line: int
    column: int
    value: str | None = None

    def is_(self, *texts: str) -> bool:
        """Whether it is one of these keywords or signs."""
        return self.kind in (Kind.KEYWORD, Kind.SIGN) and self.text in texts


def tokens(text: str) -> list[Token]:
    """The tokens of a text without comments; the last one is of Kind.END. Takes time in proportion to the text."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    at, line, line_start = 0, 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # a quote without an end, which Lua would not have compiled
            break
        kind, end = match.lastgroup or "sign", match.end()
        if match["long"] is not None:
            kind = "comment" if text.startswith("--", at) else "long"
            end = _end_of_long(text, end, match["level"])
        if kind not in ("space", "comment"):
            yield _token(kind, text[at:end], line, at - line_start + 1)
        breaks = text.count("\n", at, end)
        if breaks:
            line, line_start = line + breaks, text.rindex("\n", at, end) + 1
        at = end
    yield Token(Kind.END, "", line, at - line_start + 1)


def _end_of_long(text: str, start: int, level: str) -> int:
    closing = f"]{level}]"
    end = text.find(closing, start)
    return len(text) if end < 0 else end + len(closing)


def _token(kind: str, text: str, line: int, column: int) -> Token:
    if kind == "name":
        return Token(Kind.KEYWORD if _KEYWORDS.fullmatch(text) else Kind.NAME, text, line, column)
    if kind == "string":
        plain = text[1:-1]
        return Token(Kind.STRING, text, line, column, plain if _PLAIN_STRING.fullmatch(plain) else None)
    if kind == "long":
        opening = text.index("[", 1) + 1
        return Token(Kind.STRING, text, line, column, text[opening:-opening].removeprefix("\n"))
    return Token(Kind.NUMBER if kind == "number" else Kind.SIGN, text, line, column)
