"""Hiding secrets in everything that comes of a run, however they are written there."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from hook_event_processor.event import Outcome, code_of
from hook_event_processor.lua.secret_forms import TELLING, Form, forms, has_line_break, is_base64, views
from hook_event_processor.run import ChunkResult, Dispatched

MASK = b"***"
# A form of this length is also hidden where only the half of it is: text is cut off in many places.
_WITH_HALVES = 16
# What limits leave behind where they cut; before it may stand what is left of a cut character.
_CUT = re.compile(rb"\[[^\[\]\n]{0,60}\bcut\b[^\[\]\n]{0,60}\]")
_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}".encode()
# The last ones of a text: to look at each takes time, and a hook may print thousands.
_MAX_CUTS = 50
_LEAST_OF_CUT = 2
_FAILED = code_of(Outcome.FAILED)


class Unmaskable(Exception):
    """A secret stands where a mask cannot."""


def masked(result: ChunkResult, secrets: Collection[bytes]) -> ChunkResult:
    """The result without any of these secrets; what cannot be told without one fails its run."""
    if not secrets:
        return result
    result.outputs = [mask(text, secrets) if text else text for text in result.outputs]
    result.errors = [mask(text, secrets) if text else text for text in result.errors]
    codes = bytearray(result.codes)
    for index, dispatched in list(result.dispatched.items()):
        try:
            result.dispatched[index] = masked_events(dispatched, secrets)
        except Unmaskable as fault:
            codes[index] = _FAILED
            result.outputs[index], result.errors[index] = None, str(fault).encode()
            del result.dispatched[index]
    result.codes = bytes(codes)
    return result


def masked_events(dispatched: Iterable[Dispatched], secrets: Collection[bytes]) -> list[Dispatched]:
    """The events without any of these secrets. Raises Unmaskable."""
    return [_masked_event(event, secrets) for event in dispatched]


def mask(text: bytes, secrets: Collection[bytes]) -> bytes:
    """The text with `***` for every secret in it; UTF-8 stays UTF-8."""
    found = sorted(_parts(text, secrets))
    if not found:
        return text
    pieces: list[bytes] = []
    at = 0
    for start, end in found:
        if start >= at:
            pieces += (text[at:start], MASK)
        at = max(at, end)
    pieces.append(text[at:])
    return b"".join(pieces).decode(errors="replace").encode()


def shortened(text: str | bytes, characters: int) -> str:
    """The text, or its beginning and the mark that has `mask` hide what is left of a secret before it."""
    if isinstance(text, bytes):
        text = text[: 4 * (characters + 1)].decode(errors="replace")  # one has four bytes at most
    return text if len(text) <= characters else f"{text[:characters]}[cut]"


def holds_secret(text: bytes, secrets: Collection[bytes]) -> bool:
    """Whether one of the secrets stands in the text in any form."""
    return next(_parts(text, secrets), None) is not None


def _parts(text: bytes, secrets: Collection[bytes]) -> Iterator[tuple[int, int]]:
    """The parts of the text that tell a secret, from start to end, in no order."""
    wanted = [forms(secret) for secret in secrets]
    spaces, lines = any(b" " in secret for secret in secrets), any(map(has_line_break, secrets))
    for view, joined in views(text, spaces=spaces, lines=lines):
        cuts = [] if joined or b"cut" not in view.text else _cuts(view.text)
        for form in chain.from_iterable(wanted):
            if joined and len(form.text) < TELLING:
                continue
            for start, end in chain(_places(view.text, form), _cut_off(view.text, form, cuts)):
                yield view.original(start, end)


def _places(text: bytes, form: Form) -> Iterator[tuple[int, int]]:
    whole = form.text
    if len(whole) < _WITH_HALVES:
        for start in _finds(text, whole):
            yield _widened(text, form, start, start + len(whole))
        return
    half = len(whole) // 2
    for start in _finds(text, whole[:half]):
        end = start + half + _common(text[start + half : start + len(whole)], whole[half:])
        yield _widened(text, form, start, end)
    for start in _finds(text, whole[half:]):
        end = start + len(whole) - half
        before = _common(text[max(0, start - half) : start][::-1], whole[:half][::-1])
        yield _widened(text, form, start - before, end)


def _finds(text: bytes, part: bytes) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    if one == other:
        return len(one)
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _widened(text: bytes, form: Form, start: int, end: int) -> tuple[int, int]:
    """With the characters beside it that are partly its own."""
    if form.before and start > 0 and is_base64(text[start - 1]):
        start -= 1
    if form.after and end < len(text) and is_base64(text[end]):
        end += 1
    return start, end


def _cuts(text: bytes) -> list[int]:
    """Where what was kept of a text ends."""
    ends = []
    for match in deque(_CUT.finditer(text), _MAX_CUTS):
        end = match.start()
        end -= text.endswith(b"\n", 0, end)
        while text.endswith(_CUT_CHARACTER, 0, end):
            end -= len(_CUT_CHARACTER)
        ends.append(end)
    return ends


def _cut_off(text: bytes, form: Form, cuts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Beginnings of the secret that stand right before a place where the text was cut off."""
    for end in cuts:
        start = _beginning_before(text, form.text, end)
        if start is not None:
            yield start, end


def _beginning_before(text: bytes, whole: bytes, end: int) -> int | None:
    at = text.find(whole[:_LEAST_OF_CUT], max(0, end - len(whole)), end)
    while at >= 0:
        if whole.startswith(text[at:end]):
            return at
        at = text.find(whole[:_LEAST_OF_CUT], at + 1, end)
    return None


def _masked_event(event: Dispatched, secrets: Collection[bytes]) -> Dispatched:
    if event.id is not None and holds_secret(event.id.encode(), secrets):
        raise Unmaskable("event.dispatch: the id is a secret, which must not be stored")
    return replace(
        event,
        type=mask(event.type.encode(), secrets).decode(),
        stack=mask(event.stack.encode(), secrets).decode() if event.stack is not None else None,
        data=_masked_json(event.data, secrets) if holds_secret(event.data, secrets) else event.data,
    )


def _masked_json(text: bytes, secrets: Collection[bytes]) -> bytes:
    """JSON stays JSON: each of its strings and numbers is masked by itself."""
    try:
        return orjson.dumps(_masked_value(orjson.loads(text), secrets))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        raise Unmaskable("event.dispatch: the data holds a secret, and is nested too deeply to mask it") from None


def _masked_value(value: Any, secrets: Collection[bytes]) -> Any:
    if isinstance(value, str):
        return mask(value.encode(), secrets).decode()
    if isinstance(value, dict):
        return {_masked_value(key, secrets): _masked_value(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked_value(item, secrets) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and holds_secret(orjson.dumps(value), secrets):
        return MASK.decode()
    return value
