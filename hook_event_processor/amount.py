"""How many of something, in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
