"""What is in flight at a blow: runs whose effects have begun, and that no record tells of yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from ops.chaos.effects import Effects
from ops.chaos.events import Numbering
from ops.chaos.postgres import connect

_LEASED = """
SELECT id, claimed_by FROM hook_events
WHERE NOT processed AND available_at IS NOT NULL AND failed_at IS NULL AND lease_token IS NOT NULL
"""
_PENDING = "SELECT count(*) FROM hook_events WHERE NOT processed AND failed_at IS NULL"
_RECORDED = """
SELECT event_id, node FROM event_hook_executions WHERE event_id = ANY(%s) AND hook_name IN ('http', 'file')
"""
# What began this long ago is recorded, or its blow has been noted before.
_LOOK_BACK_SECONDS = 60.0
# A lease that was committed at the very moment needs so long until its effect is seen.
_SETTLE_SECONDS = 0.25
_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Blow:
    """One blow: when, whom it hit, and which events' runs it may have cut off."""

    name: str
    at: float  # Unix time
    struck: set[str] = field(default_factory=set)  # labels of the starts of processors that it hit
    in_flight: set[int] = field(default_factory=set)
    pending: int | None = None  # events that were not processed, None when the database could not say


@dataclass(slots=True)
class View:
    """What the database says: leased and recorded runs, each an event's number and a processor's process."""

    leased: set[tuple[int, int]]
    recorded: set[tuple[int, int]]
    pending: int


class Flight:
    """Looks at what is in flight."""

    def __init__(self, conninfo: Callable[[], str], effects: Effects, numbering: Numbering) -> None:
        self._conninfo = conninfo
        self._effects = effects
        self._numbering = numbering

    def view(self) -> View | None:
        """What the database says now; None when it does not answer."""
        self._effects.collect()
        candidates = [self._numbering.id(number) for number, _ in self._effects.since(time.time() - _LOOK_BACK_SECONDS)]
        with suppress(psycopg.Error), connect(self._conninfo()) as connection:
            connection.execute("SET statement_timeout = '5s'; SET lock_timeout = '200ms'")
            leased = connection.execute(_LEASED).fetchall()
            recorded = connection.execute(_RECORDED, (candidates,)).fetchall()
            pending = connection.execute(_PENDING).fetchone()
            return View(self._runs(leased), self._runs(recorded), pending[0] if pending else 0)
        return None

    def _patient_view(self) -> View | None:
        """What the database says once it answers: a busy one may need more than one attempt."""
        ends = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < ends:
            if view := self.view():
                return view
            time.sleep(0.2)
        return None

    def _runs(self, rows: Iterable[tuple[UUID, str]]) -> set[tuple[int, int]]:
        numbered = ((self._numbering.number(event_id), _pid(node)) for event_id, node in rows)
        return {(number, pid) for number, pid in numbered if number is not None}

    def note(self, blow: Blow, before: View | None, labels: Mapping[int, str]) -> None:
        """Fill in what was in flight at a blow that has just been dealt.

        `before` was seen right before it; the database's word from after it
        counts where there is one. `labels` names the starts by their process.
        """
        time.sleep(_SETTLE_SECONDS)
        self._effects.collect()
        begun = {
            (number, effect.label)
            for number, effect in self._effects.since(blow.at - _LOOK_BACK_SECONDS)
            if effect.label in blow.struck
        }
        view = self.view() or before or self._patient_view()
        if view is None:
            blow.in_flight = {number for number, _ in begun}
            return
        # What another processor has recorded since leaves the run of the one that was struck as it is.
        recorded = {(number, labels.get(pid)) for number, pid in view.recorded}
        leased = {number for number, pid in view.leased if labels.get(pid) in blow.struck}
        blow.in_flight = {number for number, _ in begun - recorded} | leased
        blow.pending = view.pending


def _pid(node: str | None) -> int:
    """The process in host:pid@instance."""
    return int((node or ":0").rsplit(":", 1)[1].partition("@")[0])
