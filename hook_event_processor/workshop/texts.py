"""Reading the files that hook authors write."""

from __future__ import annotations

from pathlib import Path, PurePath

from hook_event_processor.errors import HookRefused


def read_text(path: Path) -> str:
    """The text of a Lua file. Raises HookRefused when it cannot be read, or is no text."""
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as fault:
        raise HookRefused(f"{path} cannot be read: {fault.strerror}") from None


def decoded(content: bytes, name: str) -> str:
    """The content of the file `name` as text, without a byte order mark, each line ended by \\n. Raises HookRefused."""
    try:
        text = content.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as fault:
        raise HookRefused(f"{name} is not a Lua source file: byte {fault.start + 1} is not UTF-8") from None
    before, nul, _ = text.partition("\0")
    if nul:
        raise HookRefused(f"{name} is not a Lua source file: line {before.count(chr(10)) + 1} holds a NUL character")
    return text


def is_hidden(path: PurePath) -> bool:
    """Whether a path, relative to where a search began, leads through a hidden directory or to a hidden file."""
    return any(part.startswith(".") for part in path.parts)
