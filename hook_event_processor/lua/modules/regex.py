"""regex: RE2's regular expressions over bytes, in bounded time.

A match takes time in proportion to the text's length times the compiled
pattern's size, so that product is limited; what matches many times is
limited by the processor time that it has taken. Texts need not be UTF-8, but
a pattern's characters then match only where they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from time import thread_time
from typing import Any, NamedTuple

import re2

from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services
from hook_event_processor.lua.masking import shortened

_MAX_PATTERN_BYTES = 4096
_MAX_TEXT_BYTES = 1024 * 1024
# Measured with hostile patterns: up to 7 ns a byte and instruction.
_MAX_WORK = 10_000_000  # bytes times instructions
_MAX_SECONDS = 0.05  # of processor time, for all matches of one call
_MAX_RESULT_BYTES = 4 * 1024 * 1024
_MAX_REPLACEMENT_BYTES = 64 * 1024
_MAX_MATCHES = 100_000
_MAX_GROUPS = 100
_PATTERN_MEMORY = 512 * 1024  # bytes that RE2 may use for one pattern
_CACHED = 64  # patterns
_BAD_PERCENT = "regex.gsub: in the replacement, % stands before a group's number or another %"

_Span = tuple[int, int]
_NOWHERE = (-1, -1)


class _Pattern(NamedTuple):
    match: Callable[[bytes, int], list[_Span]]  # from a position on: the spans of match and groups, or none
    size: int
    groups: int
    names: bytes  # 1=name;2=name


def functions(_: Services) -> Mapping[str, Function]:
    return {
        "regex.test": Function(is_match),
        "regex.match": Function(match),
        "regex.find": Function(find),
        "regex.gsub": Function(gsub),
        "regex.split": Function(split),
    }


def is_match(_: Call, text: bytes, pattern: bytes) -> bool:
    """Whether the pattern matches anywhere in the text."""
    return bool(_pattern("test", text, pattern).match(text, 0))


def match(_: Call, text: bytes, pattern: bytes) -> tuple[bytes | None, ...] | None:
    """Names of groups as 1=name;2=name, then the match and its groups, None for those that have no part in it."""
    compiled = _pattern("match", text, pattern)
    spans = compiled.match(text, 0)
    return (compiled.names, *(_piece(text, span) for span in spans)) if spans else None


def find(_: Call, text: bytes, pattern: bytes, init: int) -> tuple[int, int] | None:
    """Where the first match at or after `init` begins and ends, counted from 1, the end included."""
    compiled = _pattern("find", text, pattern)
    spans = compiled.match(text, init - 1) if init - 1 <= len(text) else None
    return (spans[0][0] + 1, spans[0][1]) if spans else None


def gsub(_: Call, text: bytes, pattern: bytes, replacement: bytes, n: int | None) -> tuple[bytes, int]:
    """The text with the first `n` matches replaced, and how many were."""
    compiled = _pattern("gsub", text, pattern)
    template = _template(replacement, compiled.groups)
    out: list[bytes] = []
    at, size, count = 0, len(text), 0
    for spans in _all("gsub", compiled, text, _MAX_MATCHES if n is None else n):
        start, end = spans[0]
        # Counted before it is made.
        size += sum(len(part) if isinstance(part, bytes) else spans[part][1] - spans[part][0] for part in template)
        if size > _MAX_RESULT_BYTES:
            raise Failed(f"regex.gsub: the result is more than {_MAX_RESULT_BYTES} bytes")
        out.append(text[at:start])
        out += [part if isinstance(part, bytes) else _piece(text, spans[part]) or b"" for part in template]
        at, count = end, count + 1
    out.append(text[at:])
    return b"".join(out), count


def split(_: Call, text: bytes, pattern: bytes) -> bytes:
    """Where the pieces between matches begin and end, counted from 1, the end included: two 32-bit numbers each."""
    compiled = _pattern("split", text, pattern)
    spans: list[int] = []
    at = 0
    for (start, end), *_groups in _all("split", compiled, text, _MAX_MATCHES):
        # As in other languages, an empty match splits between characters, not before the first or after the last.
        if start == end and (start in (at, len(text))):
            continue
        spans += (at + 1, start)
        at = end
    spans += (at + 1, len(text))
    return struct.pack(f"<{len(spans)}I", *spans)


def _all(name: str, compiled: _Pattern, text: bytes, limit: int) -> Iterator[list[_Span]]:
    """The first `limit` matches, which do not overlap."""
    ends_at = thread_time() + _MAX_SECONDS
    at = count = 0
    last_end = -1
    while at <= len(text) and count < limit and (spans := compiled.match(text, at)):
        start, end = spans[0]
        # Like string.gsub: no empty match right behind another.
        if end > start or end != last_end:
            yield spans
            count += 1
        at = end if end > start else _next_character(text, end)
        last_end = end
        if count >= _MAX_MATCHES or thread_time() > ends_at:
            raise Failed(f"regex.{name}: the pattern matches too often, or takes too long, on {len(text)} bytes")


def _next_character(text: bytes, at: int) -> int:
    at += 1
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at


def _piece(text: bytes, span: _Span) -> bytes | None:
    return None if span == _NOWHERE else text[span[0] : span[1]]


def _pattern(name: str, text: bytes, pattern: bytes) -> _Pattern:
    if len(text) > _MAX_TEXT_BYTES:
        raise Failed(f"regex.{name} takes a text of at most {_MAX_TEXT_BYTES} bytes, not {len(text)}")
    compiled = _compiled(pattern)
    if isinstance(compiled, str):
        raise Misused(f"regex.{name}: {compiled}")
    if len(text) * compiled.size > _MAX_WORK:
        raise Failed(
            f"regex.{name}: this pattern takes a text of at most {_MAX_WORK // compiled.size} bytes, not {len(text)}:"
            " make it simpler, or the text shorter"
        )
    return compiled


@lru_cache(maxsize=_CACHED)
def _compiled(pattern: bytes) -> _Pattern | str:
    """The pattern ready for use, or what is wrong with it."""
    if len(pattern) > _MAX_PATTERN_BYTES:
        return f"a pattern of {len(pattern)} bytes: at most {_MAX_PATTERN_BYTES}"
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        found = re2.compile(pattern, options)
    except re2.error as fault:
        return f"the pattern {shortened(pattern, 80)!r} is not valid: {_reason(fault)}"
    if found.groups > _MAX_GROUPS:
        return f"the pattern has {found.groups} groups: at most {_MAX_GROUPS}"
    names = b";".join(b"%d=%b" % (index, name) for name, index in found.groupindex.items())
    return _Pattern(_searching(found), max(found.programsize, found.reverseprogramsize), found.groups, names)


def _searching(compiled: Any) -> Callable[[bytes, int], list[_Span]]:
    def search(text: bytes, at: int) -> list[_Span]:
        found = compiled.search(text, at)
        return [found.span(group) for group in range(compiled.groups + 1)] if found else []

    return search


def _reason(fault: Exception) -> str:
    reason = fault.args[0]
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


@lru_cache(maxsize=_CACHED)
def _template(replacement: bytes, groups: int) -> list[bytes | int]:
    """The replacement as what stands there and the numbers of groups. Raises Misused as string.gsub would."""
    if len(replacement) > _MAX_REPLACEMENT_BYTES:
        raise Misused(f"regex.gsub takes a replacement of at most {_MAX_REPLACEMENT_BYTES} bytes")
    first, *rest = replacement.split(b"%")
    template: list[bytes | int] = [first]
    pieces = iter(rest)
    for piece in pieces:
        if piece:
            template += (_group(piece[:1], groups), piece[1:])
        else:  # %%
            template.append(b"%" + _after_percent(pieces))
    return [part for part in template if part != b""]


def _after_percent(pieces: Iterator[bytes]) -> bytes:
    try:
        return next(pieces)
    except StopIteration:
        raise Misused(_BAD_PERCENT) from None


def _group(digit: bytes, groups: int) -> int:
    if not digit.isdigit():
        raise Misused(_BAD_PERCENT)
    if int(digit) > groups:
        raise Misused(f"regex.gsub: the replacement names %{int(digit)}: the pattern has {groups} groups")
    return int(digit)
