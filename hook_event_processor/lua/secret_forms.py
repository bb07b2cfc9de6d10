"""How a secret may be written: as it is, in hexadecimal, in base64, in other lines; text with its escapes undone."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

TELLING = 8  # bytes of a part of a secret, or of one in other lines: fewer can stand in a text by chance
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_MAX_LEVELS = 3  # of escapes within escapes
# As JSON, Lua's %q, URLs and HTML write what cannot stand as it is.
_ESCAPE = re.compile(
    rb"%[0-9A-Fa-f]{2}|\\u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}"
    rb"|\\x[0-9A-Fa-f]{2}|\\[0-9]{1,3}|\\[\"'\\/bfnrtav\n]|&(?:amp|lt|gt|quot|apos|#[0-9]{1,3}|#x[0-9A-Fa-f]{1,2});"
)
_NAMED = {b: bytes([c]) for b, c in zip(b"bfnrtav", (8, 12, 10, 13, 9, 7, 11), strict=True)}
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_SIGNS = (b"\\", b"%", b"&")  # what escapes begin with
_BLANKS = b" \t\r\n"
_BLANK = re.compile(rb"[ \t\r\n]+")
_PLUS = re.compile(rb"\+")
_MAX_LINES = 500  # of a secret: to look for each takes time
_BOUNDARY = b"-----"  # what the first and the last line of a key in PEM begin with, the same for all keys


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a secret is written; characters beside it that hold some bits of it: `before`, `after`."""

    text: bytes
    before: bool = False
    after: bool = False


@lru_cache(maxsize=128)
def forms(secret: bytes) -> tuple[Form, ...]:
    """All ways in which the secret may stand in a text whose escapes are undone."""
    readable = secret.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}").encode()
    digits = secret.hex().encode()
    # Hosts and names of headers lose their case on the way.
    plain = (secret, readable, secret.lower(), secret.upper(), digits, digits.upper())
    in_lines = (*_in_other_lines(secret), *_in_other_lines(readable))
    return tuple(dict.fromkeys((*map(Form, plain + in_lines), *_base64_forms(secret))))


def _in_other_lines(secret: bytes) -> Iterator[bytes]:
    """What is left of a secret when its lines are indented, joined or shown one by one."""
    lines = [line.strip(_BLANKS) for line in secret.splitlines()[:_MAX_LINES]]
    for part in (secret.translate(None, _BLANKS), *(line for line in lines if not line.startswith(_BOUNDARY))):
        if len(part) >= TELLING:
            yield part


def _base64_forms(secret: bytes) -> Iterator[Form]:
    """What stays the same of its base64 wherever it begins in the encoded text: there are three ways."""
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        # Characters that the bytes around it have a share in.
        start = (0, 2, 3)[shift]
        rest = (shift + len(secret)) % 3
        end = len(encoded) - (0, 3, 2)[rest]
        core = encoded[start:end]
        for text in (core, core.translate(_URL_SAFE)):
            yield Form(text, before=shift > 0, after=rest > 0)


def has_line_break(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text


def is_base64(character: int) -> bool:
    """Whether the byte can stand in base64, of either alphabet."""
    return character in _BASE64


class View:
    """A text with something of it undone; can tell which part of the original each part stands for."""

    def __init__(self, text: bytes, parent: View | None = None, pattern: re.Pattern[bytes] | None = None) -> None:
        """`text` is the parent's with each match of the pattern replaced by what it stands for."""
        self.text = text
        self._parent = parent
        self._pattern = pattern

    def without_blanks(self) -> View:
        return View(self.text.translate(None, _BLANKS), self, _BLANK)

    def with_pluses_as_spaces(self) -> View:
        return View(self.text.replace(b"+", b" "), self, _PLUS)

    def unescaped(self) -> View:
        return View(_ESCAPE.sub(_meaning_of, self.text), self, _ESCAPE)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original that this part of the text stands for; what is escaped counts as a whole."""
        if self._parent is None:
            return start, end
        return self._parent.original(self._source(start)[0], self._source(end - 1)[1])

    def _source(self, at: int) -> tuple[int, int]:
        """Start and end in the parent of what the byte here stands for."""
        begins, tokens = self._map
        index = bisect_right(begins, at) - 1
        if index < 0:
            return at, at + 1
        plain_end, start, end = tokens[index]
        if at < plain_end:
            return start, end
        return end + at - plain_end, end + at - plain_end + 1

    @cached_property
    def _map(self) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Where each token begins here; where it ends here, and where it begins and ends in the parent.

        Most texts tell no secret, and are never asked.
        """
        assert self._parent is not None and self._pattern is not None  # noqa: S101, PT018 - asked for by _source
        begins: list[int] = []
        tokens: list[tuple[int, int, int]] = []
        here = at = 0
        for match in self._pattern.finditer(self._parent.text):
            start, end = match.span()
            here += start - at
            begins.append(here)
            here += len(_meaning(match[0]))
            tokens.append((here, start, end))
            at = end
        return begins, tokens


def views(text: bytes, *, spaces: bool, lines: bool) -> Iterator[tuple[View, bool]]:
    """The text as it is and with its escapes undone, and if it has several lines each without blanks; True: so joined.

    With `spaces` also with spaces where forms have pluses; with `lines` joined even if it is of one line.
    """
    view = View(text)
    for _ in range(_MAX_LEVELS + 1):
        yield view, False
        if lines or has_line_break(view.text):
            # None at all: where lines are broken anew, a blank may be gone or be one too many.
            yield view.without_blanks(), True
        if spaces and b"+" in view.text:
            yield view.with_pluses_as_spaces(), False
        if not any(sign in view.text for sign in _SIGNS):
            return
        unescaped = view.unescaped()
        if len(unescaped.text) == len(view.text):
            return
        view = unescaped


def _meaning_of(match: re.Match[bytes]) -> bytes:
    return _meaning(match[0])


@lru_cache(maxsize=4096)
def _meaning(token: bytes) -> bytes:
    first = token[:1]
    if first == b"%":
        return bytes([int(token[1:], 16)])
    if first == b"&":
        return _entity(token[1:-1])
    if first == b"\\":
        return _escaped(token)
    return b" " if first == b"+" else b""


def _entity(name: bytes) -> bytes:
    if name[:2] == b"#x":
        return bytes([int(name[2:], 16)])
    if name[:1] == b"#":
        return chr(int(name[1:])).encode()
    return _ENTITIES[name]


def _escaped(token: bytes) -> bytes:
    kind = token[1:2]
    if kind == b"u":
        units = b"".join(bytes.fromhex(part.decode()) for part in token[2:].split(b"\\u"))
        return units.decode("utf-16-be", errors="replace").encode()
    if kind == b"x":
        return bytes([int(token[2:], 16)])
    if kind.isdigit():
        return bytes([int(token[1:]) & 0xFF])
    return _NAMED.get(token[1], kind)
