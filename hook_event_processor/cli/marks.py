"""Lines that begin with how something ended, and texts of several lines under them."""

from __future__ import annotations

from hook_event_processor.cli.output import sign, write
from hook_event_processor.cli.visible import escape, escape_block


def marked_line(indent: str, ended_well: bool, text: str) -> None:
    """Print a line behind a mark: a coloured sign where a terminal shows it, else a word."""
    mark = sign("✓", "32", "ok") if ended_well else sign("✗", "31", "FAILED")
    write(f"{indent}{mark} {escape(text)}\n")


def indented(text: str, indent: str) -> None:
    """Print a text of several lines, each behind the indent."""
    for part in escape_block(text.rstrip()).split("\n"):
        write(f"{indent}{part}\n")
