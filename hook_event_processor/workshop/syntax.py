"""Lua's own word on a text's grammar; nothing is run."""

from __future__ import annotations

import re

from lupa.lua54 import LuaRuntime

_NAME = "text"
_AT_LINE = re.compile(rf"{_NAME}:(\d+): (.*)", re.DOTALL)
_MAX_REASON = 300  # characters; what it quotes can be as long as the text


def syntax_fault(text: str) -> tuple[int, str] | None:
    """The line where Lua cannot go on, and why; None for a text that compiles."""
    lua = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    compiled = lua.globals()[b"load"](text.encode(), f"@{_NAME}".encode(), b"t")
    if not isinstance(compiled, tuple):
        return None
    said = compiled[1].decode(errors="replace").partition("\nstack traceback:")[0]
    located = _AT_LINE.match(said)
    # What is nested too deeply is refused without a line.
    return (int(located[1]), _short(located[2])) if located else (1, _short(said))


def _short(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}..."
