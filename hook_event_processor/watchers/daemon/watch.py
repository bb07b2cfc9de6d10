"""One watcher at work: its check, from the start on, and what is to be said of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hook_event_processor.errors import EventRefused
from hook_event_processor.watchers.check import Check, CheckFailed, Definition, Kind, Moment
from hook_event_processor.watchers.daemon.envelope import Envelopes, as_state
from hook_event_processor.watchers.daemon.event_log import EventLog
from hook_event_processor.watchers.daemon.schedule import Turn
from hook_event_processor.watchers.daemon.spool import SpooledEvent
from hook_event_processor.watchers.faults import FaultLog
from hook_event_processor.watchers.last_look import Leaving

# One for all watchers of the process.
EVENT_LOG = EventLog(logging.getLogger("Watchers"))
_FAULTS = FaultLog("watchers that cannot look")
_MAX_ERROR = 500  # characters


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look leaves: the watcher's state as JSON, None when it is as it was, and its events.

    `is_first`: nothing is kept of that watcher yet.
    """

    state: bytes | None = None
    events: Sequence[SpooledEvent] = ()
    is_first: bool = False


_NOTHING = Outcome()


@dataclass(eq=False, slots=True)
class Watch:
    """A watcher at work. Looked with by one thread at a time, which has set `busy`.

    `kept` is the state that an earlier start left, None for none: the first
    look is then at what changed meanwhile.
    """

    definition: Definition
    kind: Kind
    kept: Any = None
    far: bool = False  # what it looks at lies where a file system may not answer
    check: Check | None = None
    late: bool = field(init=False)
    aside: bool = field(init=False)  # it looks on a thread of its own
    turn: Turn[Watch] | None = None
    busy: bool = False
    error: str | None = None
    checked_at: datetime | None = None
    state_mark: int = 0  # of the state that was written last
    leaves: bool = False  # the look that comes now is the last
    has_state: bool = field(init=False)

    def __post_init__(self) -> None:
        self.late = self.has_state = self.kept is not None
        self.aside = self.far or self.kind.blocks or self.kind.slow(self.definition)

    def go_far(self) -> None:
        """From now on, such a file system is where it looks."""
        self.far = self.aside = True

    def let_go(self) -> None:
        """Close what the check has open, which may wait where it is far; there is no look after this."""
        self.check = None

    def leave(self) -> bool:
        """Have the check end what it keeps running; whether one last look is to tell of that."""
        if not isinstance(self.check, Leaving):
            return False
        self.check.leave()
        self.leaves = True
        return True

    def look(self, moment: Moment, envelopes: Envelopes) -> Outcome:
        """Look once; a fault is logged when it is another one than before, and never raised."""
        self.checked_at = moment.time
        try:
            outcome = self._look(moment, envelopes)
        except CheckFailed as fault:
            outcome = _NOTHING
            self._say(str(fault))
        except Exception as fault:
            outcome = self._broken(fault, moment, envelopes)
        return outcome

    def live_state(self) -> Any:
        """What a check of the same options can go on from; None when there has been no look."""
        if self.check is None or not self.has_state:  # a check that has not looked yet may have one of nothing
            return self.kept
        return json.loads(as_state(self.check.state()))

    def _look(self, moment: Moment, envelopes: Envelopes) -> Outcome:
        if self.check is None:
            self.check = self.kind.start(self.definition, self.kept)
            self.kept = None
        if self.late:
            moment = Moment(moment.time, moment.monotonic, late=True)
        noticed = self.check.look(moment)
        self.late = False
        events: list[SpooledEvent] = []
        refused = None
        for one in noticed:
            try:
                told = envelopes.of(self.definition, one, moment)
                EVENT_LOG.say(self.definition, one, told[0].id)
                events += told
            except EventRefused as fault:
                refused = f"an event was refused: {fault}"
        self._say(refused)
        state = self._new_state()
        is_first = state is not None and not self.has_state
        self.has_state = self.has_state or is_first
        return Outcome(state, events, is_first) if events or state is not None else _NOTHING

    def _new_state(self) -> bytes | None:
        """The state as JSON when it is another one than before."""
        assert self.check is not None  # noqa: S101 - it has just looked
        text = as_state(self.check.state())
        mark = hash(text)
        if mark == self.state_mark:
            return None
        self.state_mark = mark
        return text

    def _broken(self, fault: Exception, moment: Moment, envelopes: Envelopes) -> Outcome:
        """A fault of the check's own: said with where it is, and told as an event once."""
        text = f"{type(fault).__name__}: {fault}"
        events: Sequence[SpooledEvent] = ()
        if text[:_MAX_ERROR] != self.error:
            _FAULTS.say(logging.ERROR, "watcher %s is broken", self.definition.id, fault=fault)
            data = {"component": f"watcher/{self.definition.type}", "error": text, "severity": "error"}
            events = [envelopes.own("system.error", {**data, "watcher_id": self.definition.id}, moment.time)]
        self.error = text[:_MAX_ERROR]
        return Outcome(None, events)

    def _say(self, error: str | None) -> None:
        error = error and error[:_MAX_ERROR]
        if error == self.error:
            return
        if error:
            _FAULTS.say(logging.WARNING, "watcher %s cannot look: %s", self.definition.id, error)
        elif self.error and not self.leaves:
            _FAULTS.say(logging.INFO, "watcher %s looks again", self.definition.id)
        self.error = error
