"""Schedules that do not fire."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store import schedules

FAILING = Kind(
    "schedule-failing",
    Level.WARNING,
    "The schedule does not fire: its times make no sense here, or its event cannot be published. It is tried again"
    " at its next time, if it has one.",
)


def _schedules(subject: Subject) -> Iterator[Finding]:
    for schedule in schedules.known(subject.connection):
        if schedule.enabled and schedule.error is not None:
            name = shlex.quote(schedule.name)
            mend = (
                f"hep schedule disable {name}  # until it is mended",
                f"hep schedule set {name} --cron '30 4 * * *'  # or whatever it lacks",
            )
            yield Finding(FAILING, f"{schedule.name} does not fire: {schedule.error}", mend)


AREA = Area("schedules", "schedules that do not fire", (DatabaseCheck(_schedules, (FAILING,)),))
