"""process: processes of a name: that they start, stop and crash, and what they use."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hook_event_processor.timestamp import rfc3339
from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import (
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
    integer,
    number,
)
from hook_event_processor.watchers.faults import FaultLog
from hook_event_processor.watchers.host import line_pattern, processes, unit_ends
from hook_event_processor.watchers.host.ending import Handle
from hook_event_processor.watchers.host.processes import Identity, Process
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Level, Levels
from hook_event_processor.watchers.kinds.process_choice import Numbered, chosen
from hook_event_processor.watchers.kinds.process_seen import Seen, Use, leader_of, share
from hook_event_processor.watchers.notice import Notice

_UNTOLD = FaultLog("how processes ended")

_STARTED, _STOPPED, _CRASHED = "process.started", "process.stopped", "process.crashed"
_HIGH, _NORMAL = "system.resource_high", "system.resource_normal"
_LEVELS = level.conditions(_HIGH, _NORMAL)
_OF_USE = ("above", "below", "high", "normal")
_CONDITIONS = {
    "changed": (_STARTED, _STOPPED, _CRASHED, _HIGH, _NORMAL),
    "started": (_STARTED,),
    "stopped": (_STOPPED,),
    "crashed": (_CRASHED,),
    "failed": (_CRASHED,),
    "created": (_STARTED,),
    "exists": (_STARTED,),
    "deleted": (_STOPPED,),
    **{name: _LEVELS[name] for name in _OF_USE},
}
_CHOICES = ("name", "match", "pid", "pidfile")
_MAX_PIDS = 100  # in one event
_USE_KEPT_SECONDS = 60.0  # what they use is another with each look, and the disk is spared


class _Processes:
    """The processes that are meant: all together, of which the oldest stands for all, or each by itself."""

    def __init__(self, definition: Definition, state: object) -> None:
        kept: Mapping[str, Any] = state if isinstance(state, dict) else {}
        here = kept.get("boot") == processes.boot_id()
        start = kept.get("start") if here else (-1 if kept.get("start") is not None else None)
        self._notice = Notice(definition, _CONDITIONS)
        self._each = bool(definition.options.get("each"))
        self._primed = "processes" in kept
        # Those of an earlier start of the machine have all ended.
        runs = kept.get("runs") or {}
        self._uses: dict[str, Sequence[Any]] = kept.get("use") or {}
        self._uses_kept_at = -_USE_KEPT_SECONDS
        uses = {pid: Use(*use) for pid, use in self._uses.items()}
        seen = [
            Seen((pid, began), uses.get(str(pid)), unit, runs.get(str(pid)))
            if here
            else Seen((pid, -1), uses.get(str(pid)))
            for pid, began, unit in kept.get("processes", ())
        ]
        self._known = {each.identity: each for each in seen}
        self._choice = chosen(definition, start, next(iter(self._known), None))
        self._levels = _levels(definition, self._use, kept.get("levels") or {})
        self._boot = processes.boot_id()
        # Asked once in a look, however many processes of a unit have come or gone.
        self._show = cache(unit_ends.shown)

    def look(self, moment: Moment) -> list[Noticed]:
        self._show.cache_clear()
        found = {process.identity: process for process in self._choice.find(moment.monotonic) if not process.ended}
        noticed: list[Noticed] = []
        if self._primed:
            noticed = self._compare(moment, found)
        else:
            self._primed = True
            self._take(found)
        for levels in self._levels.values():
            noticed += levels.look(moment)
        return noticed

    def state(self) -> dict[str, Any] | None:
        """Which processes there were, at which start of the machine, and what they used, also too much of."""
        if not self._primed:
            return None
        self._keep_uses()
        kept: dict[str, Any] = {
            "boot": self._boot,
            "processes": sorted([*seen.identity, seen.unit] for seen in self._known.values()),
            "use": self._uses,
        }
        if runs := {str(seen.identity[0]): seen.run for seen in self._known.values() if seen.run is not None}:
            kept["runs"] = runs
        if isinstance(self._choice, Numbered):
            kept["start"] = self._choice.start
        if self._levels:
            kept["levels"] = {name: levels.state() for name, levels in self._levels.items()}
        return kept

    def _keep_uses(self) -> None:
        """Take what they use into the state, when they are others or it was taken a while ago."""
        now = time.monotonic()
        by_pid = {str(seen.identity[0]): seen for seen in self._known.values()}
        if now < self._uses_kept_at + _USE_KEPT_SECONDS and by_pid.keys() == self._uses.keys():
            return
        self._uses_kept_at = now
        self._uses = {pid: [*use] for pid, seen in by_pid.items() if (use := seen.use()) is not None}

    def _compare(self, moment: Moment, found: Mapping[Identity, Process]) -> list[Noticed]:
        known = self._known
        gone = [seen for identity, seen in known.items() if identity not in found]
        begun = [identity for identity in found if identity not in known]
        # All of them others than before: they were started anew between two looks.
        stopped = bool(gone) and len(gone) == len(known)
        started = bool(begun) and len(begun) == len(found)
        for seen in gone:
            del known[seen.identity]
        self._take(found)
        noticed: list[Noticed] = []
        if self._each:
            for seen in gone:
                noticed += self._stopped(moment, [seen])
            for identity in begun:
                noticed += self._started(moment, [known[identity]])
        else:
            noticed += self._stopped(moment, gone) if stopped else []
            noticed += self._started(moment, list(known.values())) if started else []
        for seen in gone:
            if seen.handle is not None:
                seen.handle.close()
        return noticed

    def _take(self, found: Mapping[Identity, Process]) -> None:
        """Know these processes, as they are now, and hold on to those whose end will be asked for."""
        known = self._known
        for identity, process in found.items():
            seen = known.get(identity)
            if seen is None:
                seen = known[identity] = Seen(identity)
            seen.cpu_percent = share(seen, process)
            seen.process = process
        oldest = min(found.values(), key=lambda process: process.start, default=None)
        for process in found.values() if self._each else [oldest] if oldest else []:
            seen = known[process.identity]
            if seen.handle is None and self._notice.wants(_STOPPED, _CRASHED):
                seen.handle = Handle(process, seen.run, self._show)
                seen.unit, seen.run = seen.handle.unit, seen.handle.run

    def _use(self, name: str) -> Level:
        """What the processes that run use of the processors or of memory: nothing, when none runs any more."""
        running = [seen for seen in self._known.values() if seen.process is not None]
        of_them = self._data(running) if running else {"process": self._choice.label, "pids": [], "count": 0}
        data = {"resource": f"process_{name}", **of_them}
        if name == "cpu":
            return Level(sum(seen.cpu_percent for seen in running), "cpu_percent", data, self._choice.label)
        return Level(data.get("rss_bytes", 0), "rss_bytes", data, self._choice.label)

    def _started(self, moment: Moment, begun: Sequence[Seen]) -> list[Noticed]:
        return self._notice.of(moment, _STARTED, self._choice.label, self._data(begun))

    def _stopped(self, moment: Moment, gone: Sequence[Seen]) -> list[Noticed]:
        leader = leader_of(gone)
        end = leader.end(self._show)
        if end is None and self._notice.wants(_CRASHED):
            untold = "how %s (process %d) ended, nobody tells"
            _UNTOLD.say(logging.WARNING, untold, self._choice.label, leader.identity[0])
        data = {
            **self._data(gone),
            "unit": leader.unit,
            "exit_code": end.exit_code if end else None,
            "signal": end.signal_name if end else None,
            "core_dumped": end.core_dumped if end else None,
            "told_by": end.source if end else None,
            "crash": "unknown" if end is None else "yes" if end.crashed else "no",
        }
        crashed = self._notice.of(moment, _CRASHED, self._choice.label, data) if end and end.crashed else []
        return self._notice.of(moment, _STOPPED, self._choice.label, data) + crashed

    def _data(self, of: Sequence[Seen]) -> dict[str, Any]:
        leader = leader_of(of)
        uses = [use for seen in of if (use := seen.use()) is not None]
        use_of_leader = leader.use()
        data = {
            "process": self._choice.label,
            "pid": leader.identity[0],
            "pids": sorted(pid for pid, _ in (seen.identity for seen in of))[:_MAX_PIDS],
            "count": len(of),
        }
        if use_of_leader is not None:
            data |= {
                "program": use_of_leader.program,
                "start_time": rfc3339(use_of_leader.started),
                "cpu_percent": round(sum(use.cpu_percent for use in uses), 2),
                "rss_bytes": sum(use.rss_bytes for use in uses),
            }
        return data


def _levels(definition: Definition, use: Any, kept: Mapping[str, Any]) -> dict[str, Levels]:
    """What is compared with thresholds: the use of the processors, of memory, or nothing."""

    def measure(name: str) -> level.Measure:
        return lambda _: {name: use(name)}

    limits = {"cpu": definition.options.get("cpu"), "memory": definition.options.get("rss")}
    return {
        name: Levels(definition, kept.get(name), measure(name), _CONDITIONS, limit)
        for name, limit in limits.items()
        if limit is not None
    }


def _validate(definition: Definition) -> None:
    options = definition.options
    given = [name for name in _CHOICES if name in options]
    if len(given) != 1:
        named = " and ".join(f"--{name}" for name in given) or "nothing"
        raise WatcherRefused(f"a process watcher takes one of --name, --match, --pid and --pidfile, not {named}")
    if "pid" in options and {"started", "created", "exists"} & set(definition.conditions):
        raise WatcherRefused("the process of a --pid has started already: take stopped or crashed, or --name")
    limits = [options[name] for name in ("cpu", "rss") if name in options]
    if limits:
        if {*_OF_USE, "changed"}.isdisjoint(definition.conditions):
            raise WatcherRefused("--cpu and --rss need --when above or below or changed: no other tells of use")
        _validate_margin(definition, limits)
        return
    for condition in definition.conditions:
        if condition in _OF_USE:
            raise WatcherRefused(f"--when {condition} takes --cpu or --rss, which say beyond what")
    for name in THRESHOLD_OPTIONS:
        if name in options:
            raise WatcherRefused(f"--{name.replace('_', '-')} goes with --cpu or --rss")


def _validate_margin(definition: Definition, limits: Sequence[float]) -> None:
    if len(limits) == 1:
        if "rss" in definition.options:
            level.validate_size(definition)
        level.validate_margin(definition, limits[0])
    elif "until_normal" in definition.options:
        raise WatcherRefused("--until-normal goes with one of --cpu and --rss: make two watchers")


def _target(definition: Definition) -> str:
    options = definition.options
    parts = [f"{name}: {options[name]}" for name in _CHOICES if name in options]
    if "cpu" in options:
        parts.append(f"cpu: {options['cpu']:g}%")
    if "rss" in options:
        parts.append(f"rss: {parsers.shown_size(options['rss'])}")
    return ", ".join(parts)


KIND = Kind(
    name="process",
    summary="processes: started, stopped, crashed, or using too much",
    interval=10.0,
    example="--name nginx --when stopped,crashed --interval 10s",
    conditions=_CONDITIONS,
    options={
        "name": Option(parsers.name, "a program's name", "processes whose program is called so"),
        "match": Option(line_pattern.parse, "a regular expression (RE2)", "processes whose command line matches"),
        "pid": Option(integer(1, 1 << 22), f"a process id from 1 to {1 << 22}", "the process that has this id now"),
        "pidfile": Option(parsers.absolute_path, "an absolute path", "the process whose id is in this file"),
        "each": parsers.flag("tell of each process, not of the first that starts and the last that stops"),
        "cpu": Option(number(0, 1e6, percent=True), "a percentage", "too much of the processors, in percent of one"),
        "rss": Option(parsers.size, "a size such as 1G", "too much memory"),
        **THRESHOLD_OPTIONS,
        "until_normal": Option(
            parsers.margin, "a percentage, or a size such as 100M", "how far use must come back from its threshold"
        ),
    },
    start=_Processes,
    slow=lambda definition: "pidfile" in definition.options,  # it may lie on a file system that does not answer
    together=True,
    target=_target,
    validate=_validate,
    tells_with=dict.fromkeys((_HIGH, _NORMAL), ("cpu", "rss")),
)
