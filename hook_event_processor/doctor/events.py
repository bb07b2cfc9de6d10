"""Events that nobody takes, that no hook is for, and that have failed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.errors import PatternRefused
from hook_event_processor.event import join_type
from hook_event_processor.registry import UNKNOWN_HANDLER, parse_pattern
from hook_event_processor.store import hooks, pauses
from hook_event_processor.store.checkup import trouble
from hook_event_processor.store.checkup.trouble import Unrouted, Waiting
from hook_event_processor.store.hooks import KnownHook

# A lease ends by itself 15 seconds after its last heartbeat; somebody idle takes its event at once.
LEASE_SECONDS = 30.0
LATE_SECONDS = 60.0
_MANY = 10

ENDED = Kind(
    "leases-ended",
    Level.PROBLEM,
    "Processors that held these events are gone, and nobody has taken them over: no processor runs, or none has a"
    " worker slot free. Nothing is lost: the next one that is free takes them.",
)
LATE = Kind(
    "events-late",
    Level.PROBLEM,
    "Events that could be processed are not: no processor runs, those that do are too few, or something holds them up.",
)
PAUSED = Kind(
    "all-paused",
    Level.NOTE,
    "Everything is paused: processors claim nothing, and the events wait in their places.",
)
UNROUTED = Kind(
    "unrouted",
    Level.NOTE,
    "No hook and no handler is for these events. They are recorded as completed, and nothing was done.",
)
DEAD = Kind(
    "dead-letters",
    Level.WARNING,
    "Events have used up their attempts and wait for somebody to look: mend the cause, then run them again.",
)

_START = (
    "systemctl start hook-event-processor  # or, in the foreground: hep run",
    "hep status",
)


def _leases(subject: Subject) -> Iterator[Finding]:
    found = trouble.ended_leases(subject.connection, LEASE_SECONDS)
    if found is not None:
        what = f"{found.count:,} leases ended up to {found.seconds:,.0f} s ago, last held by {', '.join(found.holders)}"
        yield _waiting(subject, ENDED, what, found)


def _late(subject: Subject) -> Iterator[Finding]:
    found = trouble.late(subject.connection, LATE_SECONDS)
    if found is not None:
        more = "at least " if found.count >= trouble.COUNT_LIMIT else ""
        what = f"{more}{found.count:,} events have waited, the oldest for {found.seconds:,.0f} s"
        yield _waiting(subject, LATE, what, found)


def _waiting(subject: Subject, kind: Kind, what: str, found: Waiting) -> Finding:
    """What is found of events that nobody takes; a note while that is what somebody wants."""
    for pause in pauses.known(subject.connection):
        if pause.scope == "all":
            said = f"{pause.paused_by}: {pause.reason}" if pause.reason else pause.paused_by
            return Finding(PAUSED, f"{what}; everything is paused by {said}", ("hep resume --all",))
    return Finding(kind, what, (*_START, f"hep events explain {found.example}"))


def _unrouted(subject: Subject) -> Iterator[Finding]:
    """Only those kinds that still nothing is for."""
    known = [hook for hook in hooks.known_hooks(subject.connection) if hook.enabled and hook.name != UNKNOWN_HANDLER]
    found = [kind for kind in trouble.unrouted(subject.connection, UNKNOWN_HANDLER) if not _is_served(kind, known)]
    for kind in found[:_MANY]:
        event_type = join_type(kind.source, kind.action)
        of_stack = f" of the stack {kind.stack}" if kind.stack else ""
        events = f"{kind.count:,} {'event' if kind.count == 1 else 'events'}"
        yield Finding(
            UNROUTED,
            f"{events} {event_type or 'without a type'}{of_stack} in the last day",
            (*_add_hook(kind, event_type), f"hep events show {kind.example}"),
        )
    if len(found) > _MANY:
        yield Finding(
            UNROUTED,
            f"{len(found) - _MANY} more types in the last day",
            (f"hep hook logs {UNKNOWN_HANDLER} --limit 100",),
        )


def _add_hook(kind: Unrouted, event_type: str) -> Iterator[str]:
    """Nothing for a type that no pattern can be, such as one without a name, or that the terminal would not show."""
    if event_type.isprintable() and _matches(event_type, kind.source, kind.action):
        yield f"hep hook add FILE --event {shlex.quote(event_type)}  # one of yours; hep hook new makes one"


def _is_served(kind: Unrouted, known: list[KnownHook]) -> bool:
    return any(
        hook.stack in (None, kind.stack) and _matches(pattern, kind.source, kind.action)
        for hook in known
        for pattern in hook.event_types
    )


def _matches(pattern: str, source: str, action: str) -> bool:
    try:
        return parse_pattern(pattern).matches(source, action)
    except PatternRefused:  # written past the command line
        return False


def _dead_letters(subject: Subject) -> Iterator[Finding]:
    for cause in trouble.dead_letters(subject.connection):
        what = f"{cause.count:,} failed, the newest {cause.type}: {cause.cause}"
        yield Finding(
            DEAD, what, (f"hep events show {cause.example}", "hep events retry --failed  # once it is mended")
        )


AREA = Area(
    "events",
    "leases past their time, events that wait, types that nothing is for, dead letters by cause",
    (
        DatabaseCheck(_leases, (ENDED, PAUSED)),
        DatabaseCheck(_late, (LATE, PAUSED)),
        DatabaseCheck(_unrouted, (UNROUTED,)),
        DatabaseCheck(_dead_letters, (DEAD,)),
    ),
)
