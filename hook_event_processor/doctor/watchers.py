"""Hosts that have fallen silent, and watchers that do not look."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.hosts import KnownHost
from hook_event_processor.store.watchers import Watcher
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import WatcherRefused

# Beyond three intervals: looks are written down every few seconds.
_GRACE_SECONDS = 30.0
_MISSED = 3

HOST_SILENT = Kind(
    "host-silent",
    Level.WARNING,
    "The host's daemon is not heard of: nothing is watched there, or what is waits on disk for the database.",
)
NO_DAEMON = Kind(
    "host-without-daemon", Level.WARNING, "The host has watchers, and no daemon has ever registered for it."
)
FAILING = Kind("watcher-failing", Level.WARNING, "The watcher cannot look, so nothing that it is for is noticed.")
SILENT = Kind(
    "watcher-silent", Level.WARNING, "The watcher has not looked for several of its intervals, though its daemon lives."
)

_START = "systemctl start hook-watcher"


def _watchers(subject: Subject) -> Iterator[Finding]:
    every = [watcher for watcher in watchers.known(subject.connection) if watcher.enabled]
    known = {host.name: host for host in hosts.known(subject.connection)}
    yield from _hosts(list(known.values()), {watcher.host for watcher in every})
    for name in sorted({watcher.host for watcher in every} - known.keys()):
        mend = (f"{_START}  # on {name}; or: hep install --watchers all",)
        yield Finding(NO_DAEMON, f"nothing watches on {name}", mend)
    for watcher in every:
        host = known.get(watcher.host)
        if host is not None and host.age_seconds <= hosts.LATE_SECONDS:
            yield from _watcher(watcher, host)


def _hosts(known: Sequence[KnownHost], watched: set[str]) -> Iterator[Finding]:
    for host in known:
        if host.age_seconds > hosts.LATE_SECONDS and (host.status != "stopped" or host.name in watched):
            what = f"{host.name} was last heard of {host.age_seconds:,.0f} s ago ({host.status})"
            yield Finding(
                HOST_SILENT,
                what,
                (f"{_START}  # on {host.name}", f"hep hosts forget {shlex.quote(host.name)}  # if it is gone"),
            )


def _watcher(watcher: Watcher, host: KnownHost) -> Iterator[Finding]:
    name = f"{watcher.name or watcher.id} ({watcher.type}) on {watcher.host}"
    interval = _interval(watcher)
    identity = shlex.quote(watcher.id)
    mend = (f"hep watcher get {identity}", f"hep watcher disable {identity}  # until it is mended")
    if isinstance(interval, str) or watcher.last_error:
        yield Finding(
            FAILING, f"{name} cannot look: {interval if isinstance(interval, str) else watcher.last_error}", mend
        )
        return
    since = max(watcher.last_check or watcher.updated_at, host.registered_at)
    silent = (datetime.now(UTC) - since).total_seconds()
    if silent > _MISSED * interval + _GRACE_SECONDS:
        what = f"{name} last looked {silent:,.0f} s ago, and is to look every {interval:g} s"
        yield Finding(SILENT, what, (f"systemctl restart 'hook-watcher*'  # on {watcher.host}", *mend))


def _interval(watcher: Watcher) -> float | str:
    """Seconds between two looks, or why there are none."""
    try:
        return kinds.read_row(watcher).interval
    except WatcherRefused as fault:
        return str(fault)


AREA = Area(
    "watchers",
    "hosts that are silent, watchers that do not look",
    (DatabaseCheck(_watchers, (HOST_SILENT, NO_DAEMON, FAILING, SILENT)),),
)
