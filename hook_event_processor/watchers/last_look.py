"""Checks that keep a program running: it is ended before their last look, which tells what it has printed."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Leaving(Protocol):
    """A check that has something to end, and to tell of then."""

    def leave(self) -> None:
        """Ask the program to end, at once. The next look waits for that, half a second at most, and is the last."""
