"""What an editor's Lua language server needs to know hooks: declarations of the library, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from hook_event_processor.errors import HookEventProcessorError
from hook_event_processor.workshop.library_names import stubs

DIRECTORY = ".hep-stubs"
SETTINGS = ".luarc.json"
_ABSENT = ("io", "package", "jit", "ffi", "bit", "bit32", "table.new", "table.clear", "string.buffer")


def write_stubs(directory: Path) -> bool:
    """Write the declarations, and settings that name them where there are none yet.

    False when there are settings already that are not these. Raises
    HookEventProcessorError when something cannot be written.
    """
    folder, settings = directory / DIRECTORY, directory / SETTINGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in stubs().items():
            (folder / name).write_text(text, encoding="utf-8")
        if settings.exists():
            return settings.read_bytes() == _settings()
        settings.write_bytes(_settings())
    except OSError as fault:
        raise HookEventProcessorError(f"{fault.filename or directory} cannot be written: {fault.strerror}") from None
    return True


def _settings() -> bytes:
    values: dict[str, Any] = {
        "runtime.version": "Lua 5.4",
        "runtime.builtin": dict.fromkeys(_ABSENT, "disable"),
        "workspace.library": [DIRECTORY],
        "workspace.checkThirdParty": False,
    }
    return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"
