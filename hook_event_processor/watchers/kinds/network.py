"""network: interfaces that go down and up, and hosts that can be reached or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hook_event_processor.timestamp import elapsed, rfc3339
from hook_event_processor.watchers.check import (
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
    integer,
)
from hook_event_processor.watchers.host import links, probe
from hook_event_processor.watchers.kinds import reach
from hook_event_processor.watchers.kinds.edge import Crossing, Threshold
from hook_event_processor.watchers.kinds.ways import PORT, Host, Interfaces, Seen, Way, gone
from hook_event_processor.watchers.notice import Notice
from hook_event_processor.watchers.parsers import name

_DOWN, _UP = "network.down", "network.up"
_SLOW, _FAST = "network.slow", "network.normal"
_LATE, _PROMPT = "network.latency_high", "network.latency_normal"
_CONDITIONS = {
    "changed": (_DOWN, _UP, _SLOW, _FAST, _LATE, _PROMPT),
    "down": (_DOWN,),
    "stopped": (_DOWN,),
    "closed": (_DOWN,),
    "deleted": (_DOWN,),
    "failed": (_DOWN,),
    "up": (_UP,),
    "started": (_UP,),
    "opened": (_UP,),
    "created": (_UP,),
    "exists": (_UP,),
    "slow": (_SLOW,),
    "decreased": (_SLOW,),
    "above": (_LATE,),
    "below": (_PROMPT,),
}


class _Followed:
    """One interface or host over time."""

    def __init__(self, definition: Definition, state: object, is_up: bool) -> None:
        kept: Mapping[str, Any] = state if isinstance(state, dict) else {}
        options = definition.options
        limit = options.get("latency", options.get("speed"))
        self.is_up = bool(kept.get("up", is_up))
        self.since: float | None = kept.get("since")
        self.threshold = (
            None if limit is None else Threshold(limit, options, kept.get("high"), above="latency" in options)
        )
        self._needed = int(options.get("for", 1))
        self._missed = 0
        self.last_up: str | None = None

    def has_moved(self, is_up: bool) -> bool:
        """Whether it is down or up now, and was not: down takes as many looks as `--for` asks."""
        self._missed = 0 if is_up else self._missed + 1
        if is_up == self.is_up or (not is_up and self._missed < self._needed):
            return False
        self.is_up = is_up
        return True

    def state(self) -> object:
        return {"up": self.is_up, "since": self.since, "high": self.threshold is not None and self.threshold.state}


class _Check:
    """Interfaces that a pattern stands for, or one host."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._definition = definition
        self._notice = Notice(definition, _CONDITIONS)
        self._way: Way = Host(definition) if "host" in definition.options else Interfaces(definition)
        kept = state if isinstance(state, dict) else None
        self._primed = kept is not None
        self._followed = {key: _Followed(definition, one, False) for key, one in (kept or {}).items()}

    def look(self, moment: Moment) -> list[Noticed]:
        found = self._way.look()
        noticed = []
        for key, seen in found.items():
            noticed += self._follow(key, seen, moment)
        for key in self._followed.keys() - found.keys():
            noticed += self._follow(key, gone(key), moment)
            if not self._followed[key].is_up:
                del self._followed[key]
        self._primed = True
        return noticed

    def _follow(self, key: str, seen: Seen, moment: Moment) -> list[Noticed]:
        followed = self._followed.get(key)
        if followed is None:
            # What there was not before was down.
            is_up = seen.is_up and not self._primed
            followed = self._followed[key] = _Followed(self._definition, None, is_up)
        noticed = self._tell_move(key, seen, followed, moment) if followed.has_moved(seen.is_up) else []
        if seen.is_up:
            followed.last_up = rfc3339(moment.time)
        if self._primed and seen.value is not None:
            noticed += self._compare(key, seen, seen.value, followed, moment)
        return noticed

    def _compare(self, key: str, seen: Seen, value: float, followed: _Followed, moment: Moment) -> list[Noticed]:
        if followed.threshold is None or (crossing := followed.threshold.update(value)) is None:
            return []
        event_type = self._way.high if crossing is Crossing.HIGH else self._way.normal
        return self._notice.of(
            moment, event_type, key, {**seen.about, **self._way.value_data(followed.threshold.value)}
        )

    def _tell_move(self, key: str, seen: Seen, followed: _Followed, moment: Moment) -> list[Noticed]:
        since, now = followed.since, moment.time.timestamp()
        followed.since = now
        if seen.is_up:
            data = {**seen.about, "downtime_duration": None if since is None else elapsed(since, now)}
            return self._notice.of(moment, _UP, key, data)
        return self._notice.of(moment, _DOWN, key, {**seen.about, "last_successful_ping": followed.last_up})

    def state(self) -> object:
        return {key: followed.state() for key, followed in self._followed.items()}


# Options and conditions that only the one or the other has.
_OF_HOSTS = ("port", "timeout", "latency", "average", "until_normal", "above", "below")
_OF_INTERFACES = ("interface", "speed", "slow", "decreased")


def _validate(definition: Definition) -> None:
    options = definition.options
    is_host = "host" in options
    for name_ in _OF_INTERFACES if is_host else _OF_HOSTS:
        said = f"--when {name_}" if name_ in definition.conditions else f"--{name_.replace('_', '-')}"
        if name_ in options or name_ in definition.conditions:
            about = "interfaces: it does not go with --host" if is_host else "hosts: it needs --host"
            raise WatcherRefused(f"{said} is about {about}")
    if is_host:
        reach.validate(definition)
    elif "speed" in options and {"slow", "decreased", "changed"}.isdisjoint(definition.conditions):
        raise WatcherRefused("--speed needs --when slow or decreased or changed: no other tells of it")
    elif "speed" not in options and not {"slow", "decreased"}.isdisjoint(definition.conditions):
        raise WatcherRefused("--when slow needs --speed, such as 1000 for 1 Gbit/s")


def _target(definition: Definition) -> str:
    options = definition.options
    if "host" in options:
        return f"{probe.shown(options['host'], options.get('port', PORT))}{reach.shown_latency(definition)}"
    speed = f", speed: {options['speed']}" if "speed" in options else ""
    return f"{options.get('interface', 'all interfaces with a device')}{speed}"


def _hint(definition: Definition) -> str:
    pattern = definition.options.get("interface")
    if "host" in definition.options:
        return ""
    found = links.read(pattern)
    if not found:
        which = "interface with a device" if pattern is None else f"interface {pattern}"
        return f"This host has no {which} now: nothing is told until one comes."
    if "speed" in definition.options and all(link.speed is None for link in found.values()):
        return f"No speed is known now of {', '.join(sorted(found))}: it cannot be told to be slow."
    return ""


KIND = Kind(
    name="network",
    summary="interfaces that go down and up, and hosts that can be reached or not",
    interval=10.0,
    example="--host db-1 --port 5432 --latency 200ms --when changed",
    conditions=_CONDITIONS,
    options={
        "interface": Option(
            name, "an interface's name, such as eth0 or wg*", "the interfaces (default: all that are devices)"
        ),
        "speed": Option(integer(1, 10_000_000), "a number of Mbit/s", "what an interface's speed should be, in Mbit/s"),
        "host": Option(reach.parse_host, "an address or a name", "the host that should be there"),
        "port": Option(integer(1, 65535), "a number from 1 to 65535", f"where to connect to (default {PORT})"),
        **reach.OPTIONS,
    },
    start=_Check,
    blocks=True,
    target=_target,
    hint=_hint,
    validate=_validate,
    tells_with={
        **dict.fromkeys(("network.slow", "network.normal"), ("speed",)),
        **dict.fromkeys(("network.latency_high", "network.latency_normal"), ("latency",)),
    },
)
