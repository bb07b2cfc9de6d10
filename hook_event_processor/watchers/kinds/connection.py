"""connection: how many TCP connections there are, and with whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from hook_event_processor.watchers.check import (
    Check,
    CheckFailed,
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
    integer,
)
from hook_event_processor.watchers.host import sockets
from hook_event_processor.watchers.host.socket_row import STATES, Row, address
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS, Crossing, Threshold
from hook_event_processor.watchers.notice import Notice

_OPENED, _CLOSED = "connection.opened", "connection.closed"
_HIGH, _LOW, _NORMAL = "connection.count_high", "connection.count_low", "connection.count_normal"
_CONDITIONS = {
    "changed": (_OPENED, _CLOSED, _HIGH, _NORMAL),
    "opened": (_OPENED,),
    "created": (_OPENED,),
    "started": (_OPENED,),
    "exists": (_OPENED,),
    "closed": (_CLOSED,),
    "deleted": (_CLOSED,),
    "stopped": (_CLOSED,),
    "above": (_HIGH,),
    "below": (_LOW,),
    "normal": (_NORMAL,),
}
_OF_COUNTS = ("above", "below", "normal")
_STATE = "ESTABLISHED"
_ANY = "ANY"
_MAX_REMOTES = 1000  # that one watcher keeps apart
_MAX_TOLD = 5  # that an event of a count names

Matches = Callable[[Row], bool]


class _Counted:
    """The number of connections against a threshold."""

    def __init__(self, definition: Definition, state: object) -> None:
        options = definition.options
        self._limit: int = options["threshold"]
        self._above = "below" not in definition.conditions
        self._notice = Notice(definition, _CONDITIONS)
        self._matches = _filter(options)
        self._about = _about(options)
        self._resource = _target(definition)
        self._count = 0
        self._primed = state is not None
        self._threshold = Threshold(self._limit, options, state, above=self._above)

    def look(self, moment: Moment) -> list[Noticed]:
        rows = _connections(self._matches, self._about["state"], moment)
        self._count = len(rows)
        if not self._primed:
            self._primed = True
            return []
        crossing = self._threshold.update(len(rows))
        if crossing is None:
            return []
        event_type = _NORMAL if crossing is Crossing.NORMAL else _HIGH if self._above else _LOW
        most = Counter(address(row.remote) for row in rows).most_common(_MAX_TOLD)
        data = {
            "count": round(self._threshold.value, 2),
            "threshold": self._limit,
            "remotes": [{"remote_address": remote, "count": count} for remote, count in most],
        }
        return self._notice.of(moment, event_type, self._resource, {**self._about, **data})

    def measured(self) -> Mapping[str, float]:
        return {"connections": self._count}

    def state(self) -> object:
        return self._threshold.state


class _Kept:
    """The addresses at the other end: those that come, and those that go."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._notice = Notice(definition, _CONDITIONS)
        self._matches = _filter(definition.options)
        self._about = _about(definition.options)
        self._remotes: set[str] | None = set(state) if isinstance(state, list) else None

    def look(self, moment: Moment) -> list[Noticed]:
        rows: dict[str, list[Row]] = {}
        for row in _connections(self._matches, self._about["state"], moment):
            rows.setdefault(address(row.remote), []).append(row)
        if len(rows) > _MAX_REMOTES:
            raise CheckFailed(
                f"there are connections with {len(rows)} addresses, at most {_MAX_REMOTES} are kept apart:"
                " name fewer by --remote or a port, or count them by --threshold"
            )
        before, self._remotes = self._remotes, set(rows)
        if before is None:
            return []
        noticed = []
        for remote in sorted(self._remotes - before):
            first = rows[remote][0]
            data = {
                "remote_address": remote,
                "remote_port": first.remote_port,
                "local_port": first.local_port,
                "count": len(rows[remote]),
            }
            noticed += self._notice.of(moment, _OPENED, remote, {**self._about, **data})
        for remote in sorted(before - self._remotes):
            noticed += self._notice.of(moment, _CLOSED, remote, {**self._about, "remote_address": remote})
        return noticed

    def state(self) -> object:
        return sorted(self._remotes or ())


def _start(definition: Definition, state: object) -> Check:
    return _Counted(definition, state) if "threshold" in definition.options else _Kept(definition, state)


def _connections(matches: Matches, state: str, moment: Moment) -> Sequence[Row]:
    """The connections in a state that match; one of this host with itself is in the table twice, and here once."""
    found: dict[tuple[bytes, int, bytes, int], Row] = {}
    for row in sockets.connections(None if state == _ANY else state).at(moment.monotonic):
        if matches(row) and (row.remote, row.remote_port, row.local, row.local_port) not in found:
            found[row.local, row.local_port, row.remote, row.remote_port] = row
    return list(found.values())


def _filter(options: Mapping[str, Any]) -> Matches:
    port, local_port, remote_port = (options.get(name) for name in ("port", "local_port", "remote_port"))
    network = ip_network(options["remote"], strict=False) if "remote" in options else None

    @lru_cache(maxsize=1024)
    def is_of_network(remote: bytes) -> bool:
        other_end = ip_address(address(remote))
        return network is None or (other_end.version == network.version and other_end in network)

    def matches(row: Row) -> bool:
        return (
            (port is None or port in (row.local_port, row.remote_port))
            and (local_port is None or row.local_port == local_port)
            and (remote_port is None or row.remote_port == remote_port)
            and (network is None or is_of_network(row.remote))
        )

    return matches


def _about(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was asked for, as events repeat it."""
    return {
        "state": options.get("state", _STATE),
        **{name: options[name] for name in ("remote", "port", "local_port", "remote_port") if name in options},
    }


def _parse_remote(text: str) -> str:
    network = ip_network(text, strict=False)
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _parse_state(text: str) -> str:
    state = text.upper().replace("-", "_")
    if state != _ANY and state not in STATES:
        raise ValueError(text)
    return state


def _validate(definition: Definition) -> None:
    options, conditions = definition.options, definition.conditions
    counts = [condition for condition in conditions if condition in _OF_COUNTS]
    others = [condition for condition in conditions if condition not in (*_OF_COUNTS, "changed")]
    if "threshold" not in options:
        if counts:
            raise WatcherRefused(f"--when {counts[0]} is about how many connections there are: it needs --threshold")
        for option in THRESHOLD_OPTIONS:
            if option in options:
                raise WatcherRefused(f"--{option.replace('_', '-')} goes with --threshold")
    elif others:
        raise WatcherRefused(f"--when {others[0]} names the other ends: it does not go with --threshold")
    if "above" in conditions and "below" in conditions:
        raise WatcherRefused("--when above and --when below take a watcher each: one has one threshold")
    if "below" in conditions and options.get("threshold") == 0:
        raise WatcherRefused("--when below takes a --threshold of at least 1: there are never fewer than 0 connections")
    if "below" not in conditions and options.get("until_normal", 0.0) > options.get("threshold", 0):
        raise WatcherRefused("--until-normal takes no more than --threshold: there are never fewer than 0 connections")


def _target(definition: Definition) -> str:
    options = definition.options
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in _about(options).items()]
    limit = [f"threshold: {options['threshold']}"] if "threshold" in options else []
    return ", ".join([*parts, *limit]).replace("state ", "", 1)


_PORT = Option(integer(1, 65535), "a number from 1 to 65535", "the port at either end")

KIND = Kind(
    name="connection",
    summary="how many TCP connections there are, and with whom",
    interval=15.0,
    example="--local-port 443 --threshold 1000 --when above",
    conditions=_CONDITIONS,
    options={
        "remote": Option(_parse_remote, "an address, or a network such as 10.0.0.0/8", "the other end"),
        "port": _PORT,
        "local_port": Option(_PORT.parse, _PORT.takes, "the port at this end"),
        "remote_port": Option(_PORT.parse, _PORT.takes, "the port at the other end"),
        "state": Option(
            _parse_state,
            f"one of {', '.join(STATES)} or any",
            f"the state of the connections (default {_STATE})",
        ),
        "threshold": Option(integer(0, 1_000_000), "a number of connections", "how many there may be"),
        **THRESHOLD_OPTIONS,
    },
    start=_start,
    together=True,
    target=_target,
    validate=_validate,
    tells_with={
        **dict.fromkeys((_OPENED, _CLOSED), ("not threshold",)),
        **dict.fromkeys((_HIGH, _LOW, _NORMAL), ("threshold",)),
    },
)
