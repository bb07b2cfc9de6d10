"""What systemd says of units, asked as seldom as can be: `systemctl show` costs both it and the manager milliseconds.

The manager keeps a symbolic link for every unit that is up, which names its
present run (systemd.exec(5), INVOCATION_ID). A unit whose link is as it was
still is in that run. One that has none is down, and was all the time if no
link at all came or went.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from hook_event_processor import child
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import programs

_PROPERTIES = (
    *("Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "MainPID", "ExecMainCode"),
    *("ExecMainStatus", "InvocationID", "FragmentPath", "DropInPaths", "NeedDaemonReload"),
)
_TYPES = ("service", "socket", "timer", "mount", "automount", "path", "target", "slice", "scope", "swap", "device")
_NAME = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]-]+")
_SETTLED = ("active", "inactive", "failed")
_FRESH_SECONDS = 0.5  # serves all checks of one round
_STALE_SECONDS = 300.0
_TIMEOUT = 10.0
_MAX_UNITS = 1000  # that a pattern stands for
_MAX_LENGTH = 255  # of a name with its type: systemd.unit(5)
_CLOCK_TICK_NS = 50_000_000  # two changes within it may bear one time


class Unit(NamedTuple):
    """A unit as the manager has it now."""

    id: str
    names: frozenset[str]
    load_state: str
    active_state: str
    sub_state: str
    result: str
    restarts: int
    main_pid: int
    exit_kind: int  # how its main process ended, as ExecMainCode has it; 0 while it runs
    exit_status: int
    invocation: str
    fragment: str
    drop_ins: tuple[str, ...]
    needs_reload: bool


class Interest:
    """A name or a pattern that somebody asks for. Not asked for any more once nobody holds it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_pattern = is_pattern(name)


class _Known(NamedTuple):
    """What was asked: when, what the links were then, and the units, or why nothing is known of them."""

    asked_at: float
    link: str | None
    links_moved_at: int | None
    units: Sequence[Unit] = ()
    fault: str = ""


class _Refused(CheckFailed):
    """systemctl complains, which may be of one name among several."""


class Manager:
    """The system's manager, or that of the daemon's own user. For several threads."""

    def __init__(self, *, user: bool = False) -> None:
        self.user = user
        self._lock = threading.Lock()
        self._interests: weakref.WeakSet[Interest] = weakref.WeakSet()
        self._known: dict[str, _Known] = {}
        self._failed: tuple[float, str] | None = None

    def watch(self, name: str) -> Interest:
        """Be asked for this unit, or all loaded ones that match this pattern."""
        interest = Interest(name)
        with self._lock:
            self._interests.add(interest)
        return interest

    def units(self, interest: Interest, monotonic: float) -> Sequence[Unit]:
        """The unit, or those that match. Raises CheckFailed."""
        with self._lock:
            self._require()
            if self._failed and abs(monotonic - self._failed[0]) < _FRESH_SECONDS:
                raise CheckFailed(self._failed[1])
            moved_at = self._links_moved_at()
            if not self._is_up_to_date(interest, monotonic, moved_at):
                self._ask(monotonic, moved_at)
            known = self._known[interest.name]
        if known.fault:
            raise CheckFailed(known.fault)
        return known.units

    def forget(self, interest: Interest) -> None:
        """Ask anew when this is wanted again, as what does not move a unit was changed."""
        with self._lock:
            self._known.pop(interest.name, None)

    def link(self, name: str) -> str:
        """Where the manager keeps the link of a unit that is up."""
        return f"{_LINKS}/invocation:{name}"

    def _require(self) -> None:
        if not self.user and not Path(_BOOTED).is_dir():
            raise CheckFailed("systemd does not run here")
        if self.user and not Path(_runtime_directory(), "systemd").is_dir():
            raise CheckFailed(f"no manager of user {os.getuid()} runs here")

    def _links_moved_at(self) -> int | None:
        """When a link came or went last, in nanoseconds; None where that is not sure."""
        if self.user:
            return None
        try:
            moved_at = os.stat(_LINKS).st_mtime_ns
        except OSError:
            return None
        return moved_at if time.time_ns() - moved_at > _CLOCK_TICK_NS else None

    def _is_up_to_date(self, interest: Interest, monotonic: float, moved_at: int | None) -> bool:
        known = self._known.get(interest.name)
        if known is None:
            return False
        # Of looks on several threads, the one that asks need not be the first to have begun.
        age = abs(monotonic - known.asked_at)
        if age < _FRESH_SECONDS or age >= _STALE_SECONDS:
            return age < _FRESH_SECONDS
        if self.user or not all(unit.active_state in _SETTLED for unit in known.units):
            return False
        if known.link is not None:
            return self._read_link(interest) == known.link
        if not interest.is_pattern and any(unit.active_state == "active" for unit in known.units):
            return False  # it is up without a run, as devices are
        return moved_at is not None and known.links_moved_at == moved_at

    def _read_link(self, interest: Interest) -> str | None:
        if interest.is_pattern or self.user:
            return None
        try:
            return os.readlink(self.link(interest.name))
        except OSError:
            return None

    def _ask(self, monotonic: float, moved_at: int | None) -> None:
        """Ask for all that anybody wants to know and that may have changed."""
        interests = {interest.name: interest for interest in self._interests}
        self._known = {name: known for name, known in self._known.items() if name in interests}
        wanted = [one for one in interests.values() if not self._is_up_to_date(one, monotonic, moved_at)]
        links = {interest.name: self._read_link(interest) for interest in wanted}
        # What there was trouble with is asked for by itself: it is nobody else's.
        troubled = [name for name in links if name in self._known and self._known[name].fault]
        groups = [[name for name in links if name not in troubled], *([name] for name in troubled)]
        try:
            answers = {name: answer for group in groups if group for name, answer in self._answers(group).items()}
        except CheckFailed as fault:
            self._failed = (monotonic, str(fault))
            raise
        self._failed = None
        for interest in wanted:
            answer = answers[interest.name]
            if isinstance(answer, _Refused):
                known = _Known(monotonic, None, None, fault=str(answer))
            else:
                known = _Known(monotonic, links[interest.name], moved_at, *_meant(interest, answer))
            self._known[interest.name] = known

    def _answers(self, names: Sequence[str]) -> Mapping[str, Sequence[Unit] | _Refused]:
        """What systemctl says of each name: of all at once, unless it complains of some. Raises CheckFailed."""
        try:
            found = list(self._show(names))
        except _Refused as refused:
            if len(names) == 1:
                return {names[0]: refused}
            self._show(())  # a manager that says nothing of itself says nothing of any unit
            middle = len(names) // 2
            return {**self._answers(names[:middle]), **self._answers(names[middle:])}
        return dict.fromkeys(names, found)

    def _show(self, names: Sequence[str]) -> Iterator[Unit]:
        arguments = ["systemctl", "--no-pager", *(("--user",) if self.user else ()), "show"]
        more = {"LC_ALL": "C", "SYSTEMD_COLORS": "0"}
        if self.user:
            more["XDG_RUNTIME_DIR"] = _runtime_directory()
        ended = programs.run([*arguments, f"--property={','.join(_PROPERTIES)}", "--", *names], _TIMEOUT, more)
        if ended.timed_out:
            raise CheckFailed(f"systemctl said nothing within {_TIMEOUT:g} s")
        if ended.exit_code:
            raise _Refused(f"systemctl failed: {programs.first_line(ended.stderr)}")
        if ended.stdout.endswith(child.CUT):
            raise _Refused("there is more to say of so many units than is read")
        return (_read(block) for block in programs.text(ended.stdout).split("\n\n") if block.strip())


SYSTEM = Manager()
USER = Manager(user=True)
_LINKS = "/run/systemd/units"
_BOOTED = "/run/systemd/system"  # sd_booted(3)


def _runtime_directory() -> str:
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"


def _read(block: str) -> Unit:
    fields = dict(line.partition("=")[::2] for line in block.splitlines())
    return Unit(
        fields.get("Id", ""),
        frozenset(fields.get("Names", "").split()),
        fields.get("LoadState", ""),
        fields.get("ActiveState", ""),
        fields.get("SubState", ""),
        fields.get("Result", ""),
        int(fields.get("NRestarts") or 0),
        int(fields.get("MainPID") or 0),
        int(fields.get("ExecMainCode") or 0),
        int(fields.get("ExecMainStatus") or 0),
        fields.get("InvocationID", ""),
        fields.get("FragmentPath", ""),
        tuple(fields.get("DropInPaths", "").split()),
        fields.get("NeedDaemonReload") == "yes",
    )


def _meant(interest: Interest, found: Sequence[Unit]) -> tuple[Sequence[Unit], str]:
    """The units of these that are asked for, or none and why."""
    if not interest.is_pattern:
        return [unit for unit in found if interest.name in unit.names][:1], ""
    units = {
        unit.id: unit
        for unit in found
        if unit.load_state != "not-found" and any(fnmatchcase(name, interest.name) for name in unit.names)
    }
    if len(units) > _MAX_UNITS:
        return (), f"{interest.name} stands for {len(units)} units: at most {_MAX_UNITS}"
    return list(units.values()), ""


def full_name(text: str) -> str:
    """The name of a unit, or a pattern with * and ?; one without a type is a service's. Raises ValueError."""
    if not _NAME.fullmatch(text) or text.startswith(("-", "@")):
        raise ValueError(text)
    name = text if text.rpartition(".")[2] in _TYPES and "." in text else f"{text}.service"
    if len(name) > _MAX_LENGTH or ("@." in name and not is_pattern(name)):  # a template is no unit
        raise ValueError(text)
    return name


def is_pattern(name: str) -> bool:
    """Whether a name stands for others."""
    return any(character in name for character in "*?[")
