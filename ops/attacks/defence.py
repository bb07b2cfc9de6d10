"""One defence of the sandbox: what it stops, where it stands, and the change that takes it away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defence:
    """`attack` is stopped by `where` (file:function, the file seen from hook_event_processor/lua), as `test` shows.

    `changes` are (file, text, other text): texts that stand once in their file, and without the defence.
    """

    attack: str
    where: str
    test: str
    changes: tuple[tuple[str, str, str], ...]


def row(attack: str, where: str, test: str, text: str, instead: str = "", *more: tuple[str, str, str]) -> Defence:
    """A defence that one change takes away, in the file of `where`, or that one and `more`."""
    return Defence(attack, where, test, ((where.split(":")[0], text, instead), *more))
