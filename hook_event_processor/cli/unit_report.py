"""What became of a systemd unit: its result, how its process ended, and the last lines it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hook_event_processor.errors import HookEventProcessorError

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}\.[a-z]+")  # systemd.unit(5)
_TIMEOUT_SECONDS = 15.0
_LINE_LENGTH = 500  # characters
_ALL_LINES_LENGTH = 20_000
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}  # CLD_EXITED and so on, as `systemctl show` has them
# What the manager itself logs when a unit has failed, and when it has ended well (systemd's sd-messages.h).
_ENDED = frozenset(("d9b373ed55a64feb8242e02dbe79a49c", "7ad2d189f7e94e70a38c781354912448"))
_ENDED_WITHIN_SECONDS = 1.0  # is in the journal by then, or not at all


@dataclass(frozen=True, slots=True)
class Ending:
    """How a unit ended, in systemd's words: systemd.exec(5), $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS.

    `status` is a number for a process that exited, and a signal's name for one
    that was killed; it and `code` are empty where no process has run.
    """

    unit: str
    state: str
    result: str
    code: str
    status: str
    invocation: str

    def data(self, lines: Sequence[str]) -> dict[str, object]:
        """The payload of the event about it."""
        exited = self.code == "exited" and self.status.isdecimal()
        return {
            "service": self.unit,
            "new_status": self.state,
            "result": self.result,
            "code": self.code or None,
            "exit_status": int(self.status) if exited else None,
            "signal": self.status if self.status and not exited else None,
            "invocation_id": self.invocation or None,
            "lines": list(lines),
        }


def check_name(unit: str) -> str:
    """The name. Raises HookEventProcessorError when no unit can have it."""
    if not _UNIT.fullmatch(unit):
        raise HookEventProcessorError(f"{unit!r} is no name of a unit: write it in full, such as backup.service")
    return unit


def ending(unit: str, environ: Mapping[str, str]) -> Ending:
    """How the unit ended: as the manager says in `environ` to what OnFailure= and OnSuccess= start, else as it is now.

    Raises HookEventProcessorError when neither tells.
    """
    # What triggered us may run again by now; these are of the run that ended (systemd 251 and newer).
    if environ.get("MONITOR_UNIT") == unit:
        result = environ.get("MONITOR_SERVICE_RESULT", "")
        state = "inactive" if result == "success" else "failed"
        code, status = environ.get("MONITOR_EXIT_CODE", ""), environ.get("MONITOR_EXIT_STATUS", "")
        return Ending(unit, state, result, code, status, environ.get("MONITOR_INVOCATION_ID", ""))
    shown = _shown(unit)
    if shown.get("LoadState") == "not-found":
        raise HookEventProcessorError(f"there is no unit {unit}")
    code = _CODES.get(shown.get("ExecMainCode", ""), "")
    status = shown.get("ExecMainStatus", "") if code else ""
    if code in ("killed", "dumped") and status.isdecimal():
        status = _signal_name(int(status))
    return Ending(
        unit, shown.get("ActiveState", ""), shown.get("Result", ""), code, status, shown.get("InvocationID", "")
    )


def last_lines(ending: Ending, count: int) -> list[str]:
    """Up to `count` lines that the unit's last run, and the manager about it, left in the journal; oldest first.

    Empty where the journal cannot be read.
    """
    deadline = time.monotonic() + _ENDED_WITHIN_SECONDS
    while True:
        entries = _entries(ending, count)
        # A line can be under way to the journal still; the manager's own is the last.
        if not entries or any(entry.get("MESSAGE_ID") in _ENDED for entry in entries) or time.monotonic() > deadline:
            return _fitting([_message(entry) for entry in entries])
        time.sleep(0.1)


def _entries(ending: Ending, count: int) -> list[Mapping[str, object]]:
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--lines={count}"]
    user = "USER_" if _of_user() else ""
    mine = [f"_UID={os.getuid()}"] if user else []
    by = [*mine, f"_SYSTEMD_{user}UNIT={ending.unit}", "+", *mine, f"{user}UNIT={ending.unit}"]
    found: list[Mapping[str, object]] = []
    for line in _output([*command, *by], fails=True).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict):
            continue
        if user and ending.invocation not in ("", entry.get("USER_INVOCATION_ID", ending.invocation)):
            # A user's processes do not say of which run they are: what came before this was of an earlier one.
            found.clear()
        elif user or _may_be_of(ending.invocation, entry):
            found.append(entry)
    return found


def _may_be_of(invocation: str, entry: Mapping[str, object]) -> bool:
    """Whether an entry is of that run; those of a process that ended at once do not say of which they are."""
    of = entry.get("_SYSTEMD_INVOCATION_ID") if "UNIT" not in entry else entry.get("INVOCATION_ID")
    return not invocation or of in (None, invocation)


def _message(entry: Mapping[str, object]) -> str:
    """The line; journalctl writes what is no text as a list of bytes, and nothing for what is too long."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        message = bytes(byte for byte in message if isinstance(byte, int) and byte < 256).decode(errors="replace")
    text = message if isinstance(message, str) else ""
    # A NUL cannot be stored, and a line stays one.
    text = text.replace("\0", "\\0").rstrip("\n")
    return text if len(text) <= _LINE_LENGTH else text[: _LINE_LENGTH - 1] + "…"


def _fitting(lines: list[str]) -> list[str]:
    """The last of them that are not too long together."""
    length = 0
    for index in range(len(lines) - 1, -1, -1):
        length += len(lines[index])
        if length > _ALL_LINES_LENGTH:
            return lines[index + 1 :]
    return lines


def _shown(unit: str) -> dict[str, str]:
    properties = "LoadState,ActiveState,Result,ExecMainCode,ExecMainStatus,InvocationID"
    manager = ["--user"] if _of_user() else []
    output = _output(["systemctl", *manager, "show", f"--property={properties}", "--", unit])
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def _of_user() -> bool:
    """Whether this process was started by a user's manager (systemd.exec(5), $MANAGERPID)."""
    return "MANAGERPID" in os.environ


def _output(command: Sequence[str], *, fails: bool = False) -> str:
    """What a program prints. Raises HookEventProcessorError; with `fails`, nothing is printed by one that fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as fault:
        if fails:
            return ""
        raise HookEventProcessorError(f"{command[0]} does not tell of the unit: {fault}") from None
    return done.stdout.decode(errors="replace")


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
