"""Processors that have fallen silent, and those of another version."""

from __future__ import annotations

from collections.abc import Iterator

from hook_event_processor import __version__
from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store import processors
from hook_event_processor.store.processors import Processor

SILENT = Kind(
    "processor-silent",
    Level.WARNING,
    "A processor writes its row every few seconds, and has not: it was killed, is frozen, or cannot reach the"
    " database. Its events return by themselves, within 15 seconds.",
)
NONE = Kind("no-processor", Level.WARNING, "No processor runs for this database: events wait until one does.")
VERSIONS = Kind(
    "versions-differ",
    Level.NOTE,
    "Processors and this program are of different versions. They get along while the schema is known to all; after an"
    " upgrade, restart the rest.",
)
STUCK = Kind(
    "threads-stuck",
    Level.WARNING,
    "Runs of hooks would not end, and their threads were given up. Past a few the processor restarts itself.",
)


def _processors(subject: Subject) -> Iterator[Finding]:
    known = processors.processors(subject.connection)
    alive = [one for one in known if one.alive]
    for one in known:
        if not one.alive and not _has_successor(one, alive):
            mend = (f"systemctl restart {_unit(one)}  # on {one.host}", f"journalctl -u {_unit(one)} -n 50  # there")
            yield Finding(SILENT, f"{one.node} was last heard of {one.age_seconds:,.0f} s ago", mend)
    if not alive:
        start = "systemctl start hook-event-processor  # or, in the foreground: hep run"
        yield Finding(NONE, "no processor has been heard of in the last seconds", (start,))
    for one in alive:
        if one.stuck:
            what = f"{one.node} has given up {one.stuck} thread{'s' * (one.stuck != 1)}"
            yield Finding(
                STUCK, what, (f"journalctl -u {_unit(one)} OUTCOME=stuck + OUTCOME=timeout  # on {one.host}",)
            )
    yield from _versions(alive)


def _unit(one: Processor) -> str:
    return f"hook-event-processor{'@' + one.instance if one.instance else ''}"


def _has_successor(gone: Processor, alive: list[Processor]) -> bool:
    """Whether another one was started in its place."""
    return any((one.host, one.instance) == (gone.host, gone.instance) and one.pid != gone.pid for one in alive)


def _versions(alive: list[Processor]) -> Iterator[Finding]:
    others = sorted({one.version for one in alive} - {__version__})
    if others:
        nodes = ", ".join(f"{one.node} ({one.version})" for one in alive if one.version != __version__)
        what = f"this program is {__version__}; of other versions are {nodes}"
        yield Finding(
            VERSIONS, what, ("systemctl restart hook-event-processor.target  # on their hosts, once upgraded",)
        )


AREA = Area(
    "processors",
    "processors that are silent, stuck, or of another version",
    (DatabaseCheck(_processors, (SILENT, NONE, VERSIONS, STUCK)),),
)
