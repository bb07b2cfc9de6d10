"""Lines that begin with how something ended, and texts of several lines under them."""

from __future__ import annotations

import sys

from hook_event_processor.cli.output import escape, escape_block


def marked_line(indent: str, ended_well: bool, text: str) -> None:
    """Print a line behind a mark: a coloured sign where a terminal shows it, else a word."""
    sys.stdout.write(f"{indent}{_mark(ended_well)} {escape(text)}\n")


def _mark(ended_well: bool) -> str:
    if not sys.stdout.isatty() or (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        return "ok" if ended_well else "FAILED"
    return "\x1b[32m✓\x1b[0m" if ended_well else "\x1b[31m✗\x1b[0m"


def indented(text: str, indent: str) -> None:
    """Print a text of several lines, each behind the indent."""
    for part in escape_block(text.rstrip()).split("\n"):
        sys.stdout.write(f"{indent}{part}\n")
