"""What a rendering may still do: steps, and characters that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MAX_STEPS = 50_000
_MAX_CHARACTERS = 1024 * 1024
_MAX_WEIGHT = 20_000
_MAX_DEPTH = 20
_CHARACTERS_A_STEP = 256
_STEPS_A_CALL = 10


class Fault(Exception):
    """Why a template cannot be read or rendered; a sentence without the line."""


class Budget:
    """Counts down; raises Fault when it is used up. `line` is where the rendering stands."""

    __slots__ = ("_characters", "_depth", "_steps", "_weights", "line")

    def __init__(self) -> None:
        self._steps = _MAX_STEPS
        self._characters = _MAX_CHARACTERS
        self._depth = 0
        # By identity; the containers are kept, so that no other can take theirs.
        self._weights: dict[int, tuple[int, Any]] = {}
        self.line = 1

    def spend(self, steps: int = 1) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise Fault("the template takes too many steps: loops that long belong into Lua")

    def read(self, text: str, times: int = 1) -> None:
        """Before a text is gone through so many times."""
        self.spend(1 + len(text) * times // _CHARACTERS_A_STEP)

    def make(self, characters: int) -> None:
        """Before a text of that length is made."""
        self._characters -= characters
        if self._characters < 0:
            raise Fault(f"the template makes more than {_MAX_CHARACTERS} characters")
        self.spend(1 + characters // _CHARACTERS_A_STEP)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Within a macro, or a loop that goes into itself."""
        self.spend(_STEPS_A_CALL)
        if self._depth >= _MAX_DEPTH:
            raise Fault(f"macros or loops within each other deeper than {_MAX_DEPTH}")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def weigh(self, value: Any) -> int:
        """How many values it is when it is written out: a list that holds another twice has it twice."""
        if isinstance(value, str):
            return 1 + len(value) // _CHARACTERS_A_STEP
        if not isinstance(value, (list, dict)):
            return 1
        known = self._weights.get(id(value))
        if known is not None:
            return known[0]
        weight = 1
        for item in value.values() if isinstance(value, dict) else value:
            weight += self.weigh(item)
        self.spend(len(value))
        if weight > _MAX_WEIGHT:
            raise Fault(f"a list or mapping of more than {_MAX_WEIGHT} values")
        self._weights[id(value)] = weight, value
        return weight

    def made(self, value: Any) -> Any:
        """A new list or mapping, once it is known not to be too large written out."""
        self.spend()
        self.weigh(value)
        return value
