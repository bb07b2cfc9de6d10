"""Text from anywhere on a terminal."""

from __future__ import annotations

import unicodedata

from hook_event_processor.cli import visible

PRINTABLE = "Straße 東京 🚀 a\\b [bold] {x} %s \xa0 e\u0301"


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    for code in range(0x11_0000):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
            *("LRE", "RLE", "LRO", "RLO", "PDF"),
            *("LRI", "RLI", "FSI", "PDI"),
        ):
            escaped = visible.escape(character)
            assert escaped.isascii(), hex(code)
            assert escaped.isprintable(), hex(code)


def test_nothing_that_nobody_sees_is_left() -> None:
    """Of format characters these alone are drawn: signs of numbers, years and verses (Prepended_Concatenation_Mark)."""
    drawn = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
    for code in range(0x11_0000):
        character = chr(code)
        if unicodedata.category(character) == "Cf" and character not in drawn:
            assert visible.reveal(visible.escape(character)).isascii(), hex(code)


def test_what_is_seen_is_revealed_as_it_is() -> None:
    assert visible.reveal(PRINTABLE) == PRINTABLE
    assert visible.reveal("a\u200bb\u00ad\ufe0f") == r"a\u200bb\xad\ufe0f"


def test_escapes_are_those_of_python() -> None:
    assert visible.escape("a\nb\r\t\x1b[0m\x9b\u202e") == r"a\nb\r\t\x1b[0m\x9b\u202e"


def test_printable_text_stays_as_it_is() -> None:
    assert visible.escape(PRINTABLE) == PRINTABLE
    assert visible.escape_block(PRINTABLE) == PRINTABLE


def test_a_block_keeps_its_lines_alone() -> None:
    assert visible.escape_block("one\r\n\ttwo\x1b[1m\rthree\n") == "one\n    two\\x1b[1m\\rthree\n"
