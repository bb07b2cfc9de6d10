"""Lua's own word on a text's grammar; nothing is run."""

from __future__ import annotations

from lupa.lua54 import LuaRuntime

_NAME = "text"


def syntax_fault(text: str) -> tuple[int, str] | None:
    """The line where Lua cannot go on, and why; None for a text that compiles."""
    lua = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    compiled = lua.globals()[b"load"](text.encode(), f"@{_NAME}".encode(), b"t")
    if not isinstance(compiled, tuple):
        return None
    line, _, reason = compiled[1].decode(errors="replace").removeprefix(f"{_NAME}:").partition(": ")
    return int(line), reason
