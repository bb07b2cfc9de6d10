"""Python handlers that misbehave as no Lua hook can, in a package that processors find by its entry point."""

from __future__ import annotations

from pathlib import Path

_TEXT = '''\
import ctypes, os, re, time

from hook_event_processor import HandlerResult, register_custom_handler


def crash(event):
    os.abort()


def segfault(event):
    ctypes.string_at(0)


def hang(event):
    """Waits in C, without the interpreter's lock."""
    time.sleep(3600)


def seize(event):
    """Computes in C with the interpreter's lock: no other thread of the process goes on."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def fork(event):
    """The child has copies of every connection, and goes on for a while."""
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
    return HandlerResult(True, "forked")


def register(registry):
    for handler in (crash, segfault, hang, seize, fork):
        register_custom_handler(registry, source="bad", action=handler.__name__, handler=handler)
'''
_ENTRY_POINT = "[hook_event_processor.handlers]\nchaos = chaos_handlers:register\n"
_METADATA = "Metadata-Version: 2.1\nName: chaos-handlers\nVersion: 1\n"


def install(directory: Path) -> None:
    """Make `directory` such that a processor with it in PYTHONPATH has the handlers, for events of the source bad."""
    described = directory / "chaos_handlers-1.dist-info"
    described.mkdir(parents=True)
    (directory / "chaos_handlers.py").write_text(_TEXT)
    (described / "entry_points.txt").write_text(_ENTRY_POINT)
    (described / "METADATA").write_text(_METADATA)
