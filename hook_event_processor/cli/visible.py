"""Text from anywhere on a terminal: nothing in it is obeyed, and nothing need stay unseen."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), marks that reorder text, line separators.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_UNSAFE_IN_BLOCK = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))
# Characters that are shown as nothing: marks that join, part or annotate others, fillers, variation selectors, tags.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0f\uffa0"
    "\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return _UNSAFE.sub(_visible, text)


def escape_block(text: str) -> str:
    """`text` with its line breaks, without anything else that a terminal would obey."""
    return _UNSAFE_IN_BLOCK.sub(_visible, text.replace("\r\n", "\n").replace("\t", "    "))


def reveal(text: str) -> str:
    """`text` with what nobody would see written out: for who has to know what a text says."""
    return _UNSEEN.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character) or (f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}")
