"""The health of a processor: its facts, and what they come to.

The main thread feeds systemd's watchdog by them and says them in STATUS=,
the processor's row holds them, and `hep health` and `hep status` judge them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hook_event_processor.store.processors import FRESH_SECONDS
from hook_event_processor.telemetry.findings import Finding, of_threads

# Seconds after which a part of the processor counts as standing still; and
# after which it no longer counts as alive, and systemd is to restart it:
# connecting may take ten seconds, and a connection that is cut off ten more.
STILL_SECONDS, RESTART_SECONDS = 9.0, 25.0
# So long the database may be away, no notification come back, no claim come to an end.
AWAY_SECONDS = LISTEN_SECONDS = CLAIM_SECONDS = 10.0
MAX_STUCK = 4  # threads that do not come back: past that the processor has itself restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a processor at one moment; times in seconds, None where there is nothing to measure.

    still: of each thread, since it last got on.
    away: since the database was lost.
    claiming: since a lane began to claim that has not succeeded since.
    claimed: since any lane last claimed.
    waiting: how long the oldest event has been ready that needs no worker slot.
    listen: since a notification to itself last came back.
    polls: it is to listen, and nothing has ever come back: a transaction pooler is in between, perhaps.
    stuck: threads in runs that do not end.
    paused: what is, each with its reason.
    """

    still: Mapping[str, float] = field(default_factory=dict)
    away: float | None = None
    claiming: float | None = None
    claimed: float | None = None
    waiting: float | None = None
    listen: float | None = None
    polls: bool = False
    stuck: int = 0
    paused: Sequence[str] = ()


def judge(facts: Facts) -> list[Finding]:
    """What is not as it should be, and what is to be told."""
    return list(_findings(facts))


def _findings(facts: Facts) -> Iterator[Finding]:
    limit = STILL_SECONDS if facts.away is None else RESTART_SECONDS  # trying to connect takes its time
    yield from of_threads(facts.still, limit)
    if facts.away is None:
        yield from _of_the_database(facts)
    else:
        meaning, is_healthy = f"the database has been away for {facts.away:.0f} s", facts.away <= AWAY_SECONDS
        yield Finding("database", round(facts.away, 1), AWAY_SECONDS, meaning, is_healthy)
    if facts.stuck:
        verb = "thread is" if facts.stuck == 1 else "threads are"
        meaning = f"{facts.stuck} {verb} stuck in runs that do not end"
        yield Finding("stuck", facts.stuck, MAX_STUCK, meaning, is_healthy=facts.stuck < MAX_STUCK)
    for what in facts.paused:
        yield Finding("paused", what, None, f"paused: {what}", is_healthy=True)


def _of_the_database(facts: Facts) -> Iterator[Finding]:
    if facts.polls:
        meaning = "it polls: no notification arrives (a transaction pooler?)"
        yield Finding("listen", None, LISTEN_SECONDS, meaning, is_healthy=True)
    if facts.listen is not None and facts.listen > LISTEN_SECONDS:
        meaning = f"no notification has come back for {facts.listen:.0f} s: it polls"
        yield Finding("listen", round(facts.listen, 1), LISTEN_SECONDS, meaning)
    claiming, claimed, waiting = facts.claiming or 0.0, facts.claimed or 0.0, facts.waiting or 0.0
    if claiming > CLAIM_SECONDS:
        meaning = f"no claim has come to an end for {claiming:.0f} s"
        yield Finding("claim", round(claiming, 1), CLAIM_SECONDS, meaning)
    elif min(claimed, waiting) > CLAIM_SECONDS:
        meaning = f"events have waited for {waiting:.0f} s, and none has been claimed for {claimed:.0f} s"
        yield Finding("claim", round(claimed, 1), CLAIM_SECONDS, meaning)


def document(facts: Facts) -> dict[str, Any]:
    """The facts for JSON."""
    return {name: value for name, value in asdict(facts).items() if value is not None}


def read(stored: Mapping[str, Any]) -> Facts | None:
    """The facts of a processor's row; None where it says nothing of them."""
    known = {each.name for each in fields(Facts)}
    if "still" not in stored:  # an older program's
        return None
    return Facts(**{name: value for name, value in stored.items() if name in known})


def silence(age_seconds: float) -> Finding | None:
    """What it means that a processor was last heard of so long ago: a frozen one cannot say how it is."""
    if age_seconds <= FRESH_SECONDS:
        return None
    return Finding("heartbeat", round(age_seconds, 1), FRESH_SECONDS, f"silent for {age_seconds:.0f} s")
