"""What systemd knows of how the main processes of its units ended: `systemctl show` of the last, the journal of each.

It is asked on the thread that looks: for a moment at most, and where that was not enough, not again for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import programs

_TIMEOUT = 2.0
_PAUSE_SECONDS = 60.0
_LINES = 20  # of a unit's processes that failed, among which its main one is
_CODES = ("exited", "killed", "dumped")
_MAIN = "Main process exited"
_SUCCESS = "7ad2d189f7e94e70a38c781354912448"  # SD_MESSAGE_UNIT_SUCCESS of <systemd/sd-messages.h>

# Properties of a unit, by its name and theirs: shown(), or what keeps its answers for a moment.
Show = Callable[[str, tuple[str, ...]], Mapping[str, str]]


class _Systemd:
    """Its programs, which may not answer."""

    def __init__(self) -> None:
        self._again_at = 0.0

    def says(self, *arguments: str) -> str:
        """What a program prints; nothing where it does not answer."""
        if time.monotonic() < self._again_at:
            return ""
        try:
            ended = programs.run(arguments, _TIMEOUT, {"LC_ALL": "C"})
        except CheckFailed:
            return ""
        if ended.timed_out:
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            return ""
        return programs.text(ended.stdout)


_SYSTEMD = _Systemd()


def shown(unit: str, names: Sequence[str]) -> Mapping[str, str]:
    """Properties of a unit of the system's; none where systemd does not answer."""
    lines = _SYSTEMD.says("systemctl", "show", f"--property={','.join(names)}", "--", unit).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def invocation(unit: str, pid: int, show: Show) -> str | None:
    """The run of a unit whose main process this is; None when it is that of none."""
    properties = show(unit, ("MainPID", "InvocationID"))
    return properties.get("InvocationID") or None if properties.get("MainPID") == str(pid) else None


def journalled(run: str) -> tuple[str, int] | None:
    """How the main process of this run of a unit ended: "exited", "killed" or "dumped", and its status or signal.

    "succeeded" where the journal says no more: of ends that a unit takes for clean it has no more.
    """
    # Others may write such entries, too: whose one is, the journal itself says.
    of_run = ("_PID=1", f"INVOCATION_ID={run}")
    matches = (*of_run, *(f"EXIT_CODE={code}" for code in _CODES), "+", *of_run, f"MESSAGE_ID={_SUCCESS}")
    printed = _SYSTEMD.says("journalctl", "--no-pager", "--quiet", "-o", "json", "-r", f"-n{_LINES}", *matches)
    entries = [_entry(line) for line in printed.splitlines()]
    for entry in entries:
        if _MAIN in str(entry.get("MESSAGE")):
            return _end(entry)
    return ("succeeded", 0) if any(entry.get("MESSAGE_ID") == _SUCCESS for entry in entries) else None


def _entry(line: str) -> Mapping[str, Any]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _end(entry: Mapping[str, Any]) -> tuple[str, int] | None:
    code, status = str(entry.get("EXIT_CODE")), str(entry.get("EXIT_STATUS"))
    return (code, int(status)) if status.isdigit() else None
