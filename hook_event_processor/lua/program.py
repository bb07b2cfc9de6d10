"""What runs: a hook's text, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """A hook's text and what belongs to it; `name` stands in tracebacks.

    `params` is JSON text, empty when nothing was set; `libraries` are names
    (without lib.) and texts of the shared code that it may require.
    """

    name: str
    text: str
    modules: tuple[str, ...] = ()
    effectful: bool = False
    hook: str = ""
    stack: str | None = None
    params: bytes = b""
    libraries: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Characters of Lua text."""
        return len(self.text) + sum(len(text) for _, text in self.libraries)
