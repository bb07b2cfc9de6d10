"""service: units of systemd that start, stop, fail and are restarted, and whose files change."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Noticed, Option
from hook_event_processor.watchers.host import units
from hook_event_processor.watchers.host.unit_files import UnitFiles
from hook_event_processor.watchers.host.units import Unit
from hook_event_processor.watchers.notice import Notice

_FILES = "service.unit_changed"
_STATUS = "service.status_changed"
_CONDITIONS = {
    "changed": ("service.started", "service.stopped", "service.failed", "service.restarted", _FILES),
    "started": ("service.started",),
    "created": ("service.started",),
    "exists": ("service.started",),
    "stopped": ("service.stopped",),
    "deleted": ("service.stopped",),
    "failed": ("service.failed",),
    "crashed": ("service.failed",),
    "restarted": ("service.restarted",),
    "modified": (_FILES,),
    "status": (_STATUS,),
}
_RUNNING, _STOPPED, _FAILED = "running", "stopped", "failed"
_CODES = {1: "exited", 2: "killed", 3: "dumped"}  # CLD_EXITED and so on, of waitid(2)


@dataclass(slots=True)
class _Seen:
    """A unit as a look saw it; `phase` is where it settled last."""

    phase: str
    status: str
    invocation: str
    restarts: int
    waits: bool = False  # to be started again by the manager
    files: Mapping[str, str] | None = None


class _Check:
    """A unit, or those that match a pattern."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._name: str = definition.options["name"]
        self._user = bool(definition.options.get("user"))
        self._notice = Notice(definition, _CONDITIONS)
        self._manager = units.USER if self._user else units.SYSTEM
        self._interest = self._manager.watch(self._name)
        self._files = UnitFiles(user=self._user) if self._notice.wants(_FILES) else None
        kept = state if isinstance(state, dict) else None
        self._primed = kept is not None
        self._asked_again_at: float | None = None
        self._seen = {name: _Seen(**seen) for name, seen in (kept or {}).items()}

    def look(self, moment: Moment) -> list[Noticed]:
        found = {unit.id: unit for unit in self._manager.units(self._interest, moment.monotonic)}
        noticed = [event for unit in found.values() for event in self._follow(unit, moment)]
        noticed += [event for name in self._seen.keys() - found.keys() for event in self._gone(name, moment)]
        self._primed = True
        if not self._interest.is_pattern and all(unit.load_state == "not-found" for unit in found.values()):
            if noticed:
                return noticed
            raise CheckFailed(f"there is no unit {self._name}")
        return noticed

    def state(self) -> object:
        return {name: asdict(seen) for name, seen in self._seen.items()}

    def _follow(self, unit: Unit, moment: Moment) -> list[Noticed]:
        old = self._seen.get(unit.id)
        if old is None:
            old = _Seen(_phase(unit) or _STOPPED, unit.active_state, unit.invocation, unit.restarts)
            if self._primed:  # a pattern's new unit was not there before
                old = _Seen(_STOPPED, "inactive", "", 0)
        new = _Seen(_phase(unit) or old.phase, unit.active_state, unit.invocation, unit.restarts, files=old.files)
        new.waits = _waits(unit) or (_phase(unit) is None and old.waits)
        noticed = []
        for action, more in _moves(old, new, unit):
            noticed += self._tell(moment, f"service.{action}", unit, old, more)
        if new.status != old.status:
            noticed += self._tell(moment, _STATUS, unit, old, {})
        if self._files is not None:
            noticed += self._compare_files(self._files, unit, old, new, moment)
        if _phase(unit) is None:
            # On its way: where it comes from is compared with where it arrives.
            new.invocation, new.restarts = old.invocation, old.restarts
        self._seen[unit.id] = new
        return noticed

    def _compare_files(self, files: UnitFiles, unit: Unit, old: _Seen, new: _Seen, moment: Moment) -> list[Noticed]:
        new.files = files.digests(unit)
        if old.files is None or old.files == new.files:
            return []
        paths = sorted(
            path for path in old.files.keys() | new.files.keys() if old.files.get(path) != new.files.get(path)
        )
        return self._tell(
            moment, _FILES, unit, old, {"paths": paths, "need_daemon_reload": self._needs_reload(unit, moment)}
        )

    def _needs_reload(self, unit: Unit, moment: Moment) -> bool:
        """Whether the manager has not read the unit's files yet: asked now, as what is known may be older than they."""
        if self._asked_again_at != moment.monotonic:
            self._asked_again_at = moment.monotonic
            self._manager.forget(self._interest)
        try:
            found = self._manager.units(self._interest, moment.monotonic)
        except CheckFailed:
            return unit.needs_reload
        return next((now.needs_reload for now in found if now.id == unit.id), unit.needs_reload)

    def _gone(self, name: str, moment: Moment) -> list[Noticed]:
        """A pattern's unit that was unloaded: it is down, and nothing more is known of it."""
        old = self._seen.pop(name)
        if old.phase != _RUNNING:
            return []
        data = {"service": name, "old_status": old.status, "new_status": "inactive"}
        return self._notice.of(moment, "service.stopped", name, data)

    def _tell(self, moment: Moment, event_type: str, unit: Unit, old: _Seen, more: Mapping[str, Any]) -> list[Noticed]:
        data = {
            "service": unit.id,
            "old_status": old.status,
            "new_status": unit.active_state,
            "sub_state": unit.sub_state,
            "result": unit.result,
            **_exit(unit),
            "main_pid": unit.main_pid or None,
            "n_restarts": unit.restarts,
            "invocation_id": unit.invocation or None,
            "user": self._user or None,
            **more,
        }
        return self._notice.of(moment, event_type, unit.id, data)


def _phase(unit: Unit) -> str | None:
    """Where a unit has settled; None while it is on its way."""
    if unit.active_state in ("active", "reloading", "refreshing"):
        return _RUNNING
    if unit.active_state in ("failed", "inactive"):
        return _FAILED if unit.active_state == "failed" else _STOPPED
    return _FAILED if _waits(unit) and unit.result not in ("success", "") else None


def _waits(unit: Unit) -> bool:
    return unit.sub_state.startswith("auto-restart")


def _moves(old: _Seen, new: _Seen, unit: Unit) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """What a unit did between two looks: actions, and what is to be said of each."""
    is_other_run = bool(new.invocation) and new.invocation != old.invocation
    # The counter may have moved while it still waited.
    automatic = new.restarts > old.restarts or old.waits
    if _phase(unit) is None:
        return []
    if new.phase == _RUNNING:
        if old.phase != _RUNNING:
            return [("restarted", {"automatic": True}) if automatic else ("started", {})]
        return [("restarted", {"automatic": automatic})] if is_other_run or automatic else []
    if new.phase == _FAILED:
        # One that fails, is started again and again, and fails, is told of once.
        is_final = unit.active_state == "failed" and (old.status != "failed" or is_other_run)
        return [("failed", {})] if old.phase != _FAILED or is_final else []
    if old.phase == _RUNNING:
        return [("stopped", {})]
    # A run that began and ended between two looks.
    return [("started", {}), ("stopped", {})] if is_other_run else []


def _exit(unit: Unit) -> Mapping[str, Any]:
    """How the main process ended, in systemd's words, and as an exit code: 128 + N when signal N killed it."""
    code = _CODES.get(unit.exit_kind)
    if code is None:
        return {}
    if code == "exited":
        return {"code": code, "exit_status": unit.exit_status, "exit_code": unit.exit_status}
    try:
        name = signal.Signals(unit.exit_status).name.removeprefix("SIG")
    except ValueError:
        name = str(unit.exit_status)
    return {"code": code, "signal": name, "exit_code": 128 + unit.exit_status}


def _paths(definition: Definition) -> Sequence[str]:
    name = definition.options["name"]
    if definition.options.get("user") or units.is_pattern(name):
        return ()
    return (units.SYSTEM.link(name),)


KIND = Kind(
    name="service",
    summary="units of systemd that start, stop, fail and are restarted, and whose files change",
    interval=20.0,
    example="--name docker --when failed,restarted --interval 20s",
    conditions=_CONDITIONS,
    options={
        "name": Option(
            units.full_name,
            "a unit's name, such as nginx, backup.timer or worker@*",
            "the unit; without a type it is a .service; * and ? stand for others among those that are loaded",
            required=True,
        ),
        "user": parsers.flag("ask the manager of the daemon's own user"),
    },
    start=_Check,
    blocks=True,
    together=True,
    paths=_paths,
    target=lambda definition: str(definition.options["name"]),
)
