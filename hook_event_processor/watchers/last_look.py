"""Checks of programs whose output no later look finds: the last one tells what was printed until the end."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Leaving(Protocol):
    """A check that has something to end, or to tell of then."""

    def leave(self) -> None:
        """Ask a program that is kept running to end, at once.

        The next look waits for that, half a second at most, and is the last.
        """
