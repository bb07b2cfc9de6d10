"""Hooks whose newest runs fail, or take nearly as long as they may."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject
from hook_event_processor.store.checkup import trouble

_NEWEST = 20  # runs of the version that runs now
_LEAST = 3
_FAILING_SHARE = 0.5
_SLOW_SHARE = 0.5  # of the time that it may take

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


AREA = Area("hooks", "hooks whose newest runs failed or were slow", (DatabaseCheck(_hooks, (FAILING, SLOW)),))
