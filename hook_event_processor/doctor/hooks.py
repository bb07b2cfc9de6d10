"""Hooks whose newest runs fail, or take nearly as long as they may, and proposals of hooks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import timedelta

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store import proposals
from hook_event_processor.store.checkup import trouble

_NEWEST = 20  # runs of the version that runs now
_LEAST = 3
_FAILING_SHARE = 0.5
_SLOW_SHARE = 0.5  # of the time that it may take
_PATIENCE = timedelta(days=1)

FAILING = Kind(
    "hook-failing",
    Level.WARNING,
    "Half or more of the newest runs of the hook's current version failed. Its events are tried again, and then given"
    " up as dead letters.",
)
SLOW = Kind(
    "hook-slow",
    Level.WARNING,
    "The hook takes more than half of its timeout. A little more, and it is ended as failed; meanwhile it holds a"
    " worker slot.",
)
PROPOSED = Kind(
    "proposal-waiting",
    Level.NOTE,
    "A hook was proposed more than a day ago, and nobody has approved or rejected that.",
)


def _hooks(subject: Subject) -> Iterator[Finding]:
    for hook in trouble.hook_runs(subject.connection, _NEWEST):
        if hook.runs < _LEAST:
            continue
        name = shlex.quote(hook.name)
        pause = f"hep pause --hook {name}  # until it is mended: what comes meanwhile waits"
        if hook.failed >= hook.runs * _FAILING_SHARE:
            what = (
                f"{hook.name} failed in {hook.failed} of its last {hook.runs} runs: {hook.error or 'no reason given'}"
            )
            mend = (f"hep hook logs {name} --only-failed --error", pause)
            yield Finding(FAILING, what, mend)
        if hook.p95_ms > hook.timeout_ms * _SLOW_SHARE:
            what = f"{hook.name} took up to {hook.p95_ms / 1000:,.2f} s of the {hook.timeout_ms / 1000:g} s that it may"
            mend = (f"hep hook history {name}", pause)
            yield Finding(SLOW, what, mend)


def _proposals(subject: Subject) -> Iterator[Finding]:
    waiting = proposals.waiting(subject.connection, _PATIENCE)
    if waiting is not None:
        others = f", the oldest of {waiting.count}," if waiting.count > 1 else ""
        what = f"proposal {waiting.id}{others} waits since {waiting.proposed_at:%Y-%m-%d}: hook {waiting.hook_name}"
        yield Finding(PROPOSED, what, ("hep hook proposals", f"hep hook proposal {waiting.id}"))


AREA = Area(
    "hooks",
    "hooks whose newest runs failed or were slow, and proposals that wait",
    (DatabaseCheck(_hooks, (FAILING, SLOW)), DatabaseCheck(_proposals, (PROPOSED,))),
)
