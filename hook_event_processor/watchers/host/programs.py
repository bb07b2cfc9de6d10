"""Running programs for watchers: by an argument list, with little in their environment, and never for long."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from time import perf_counter

from hook_event_processor import child
from hook_event_processor.child import Command, Ended
from hook_event_processor.lua.host import command_line
from hook_event_processor.lua.host.privacy import lend_no_capabilities, shut_to_programs
from hook_event_processor.lua.host.programs import find_program, is_granted, search_path
from hook_event_processor.watchers import leaving
from hook_event_processor.watchers.check import CheckFailed

# Set when the daemon ends: what still runs is killed.
_STOPPING = threading.Event()
leaving.at_end(_STOPPING.set)

_PASSED_ON = (
    *(b"HOME", b"LANG", b"LC_ALL", b"TZ", b"USER", b"LOGNAME", b"XDG_RUNTIME_DIR", b"DBUS_SESSION_BUS_ADDRESS"),
)
_MAX_WORDS = 200


class _Granted:
    """Which programs watchers may run for somebody: none, all, or these."""

    programs: bool | tuple[str, ...] = False


def grant(programs: bool | tuple[str, ...]) -> None:
    """Let the watchers of this process run these programs: that is for the host to decide, not for the database."""
    _Granted.programs = programs


def check_granted(name: str) -> None:
    """Raise CheckFailed unless the program of that name may be run."""
    granted = _Granted.programs
    # Where a name stands as it is granted, no file has to be looked for.
    if granted is True or (granted and (name in granted or is_granted(find_program(name), name, granted))):
        return
    raise CheckFailed(
        f"{name} is not granted to watchers: WATCH_EXEC names the programs that they may run on this host"
    )


def words(line: str) -> tuple[str, ...]:
    """The words of a line, by a shell's rules for quotes and by none of its others. Raises ValueError."""
    found = tuple(command_line.split(line))
    if not found or len(found) > _MAX_WORDS or "\0" in line:
        raise ValueError(line)
    return found


def find(name: str) -> str:
    """The file of a program, by its whole path or by PATH. Raises CheckFailed."""
    _check_place(name)
    found = shutil.which(name, path=search_path())
    if found is None:
        raise CheckFailed(f"there is no program {name}")
    return found


def _check_place(name: str) -> None:
    if "/" in name and not name.startswith("/"):
        raise CheckFailed(f"{name} depends on the working directory: write a name, or the whole path")


def environment(more: Mapping[str, str] | None = None) -> dict[bytes, bytes]:
    """What programs see of the daemon's environment: its database's password is none of their business."""
    passed = {name: os.environb[name] for name in _PASSED_ON if name in os.environb}
    added = {os.fsencode(name): os.fsencode(value) for name, value in (more or {}).items()}
    return {b"PATH": os.fsencode(search_path()), **passed, **added}


def run(arguments: Sequence[str], timeout: float, more: Mapping[str, str] | None = None) -> Ended:
    """Run a program in /, within so many seconds, and kill it with all that it started after them.

    Raises CheckFailed when it cannot be run.
    """
    name = arguments[0]
    _check_place(name)
    command = Command(name, [os.fsencode(word) for word in arguments], b"/", environment(more), b"")
    ends_at = perf_counter() + timeout
    try:
        shut_to_programs()
        lend_no_capabilities()
        return child.run(command, ends_at, ends_at + child.GRACE_SECONDS, _STOPPING)
    except OSError as fault:
        raise CheckFailed(f"{find(name)} cannot be run: {(fault.strerror or '').lower()}") from None


def text(output: bytes) -> str:
    """What a program wrote."""
    return output.decode("utf-8", "replace")


def first_line(output: bytes) -> str:
    """What a program said first, when it complains."""
    return next((line.strip() for line in text(output).splitlines() if line.strip()), "")[:300]
