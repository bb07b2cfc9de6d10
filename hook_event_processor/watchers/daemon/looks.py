"""The thread that looks: at what is due, and at once where something has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from hook_event_processor.store.watchers import Looked
from hook_event_processor.telemetry.watchdog import Progress
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Moment
from hook_event_processor.watchers.daemon.aside import STUCK_SECONDS, Aside
from hook_event_processor.watchers.daemon.copy import Copy
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.ledger import RETRY_SECONDS, Ledger
from hook_event_processor.watchers.daemon.local_store import LocalStore, subject
from hook_event_processor.watchers.daemon.reports import Reports
from hook_event_processor.watchers.daemon.schedule import Schedule
from hook_event_processor.watchers.daemon.settling import LONGEST_SECONDS, Settling
from hook_event_processor.watchers.daemon.watch import Outcome, Watch
from hook_event_processor.watchers.faults import FaultLog
from hook_event_processor.watchers.host import far
from hook_event_processor.watchers.host.changes import Changes
from hook_event_processor.watchers.last_look import Leaving

logger = logging.getLogger("Watchers")

_LONGEST_WAIT_SECONDS = 5.0
_LAST_SECONDS = 1.0  # for looks that are under way at the end
_WRITE_AFTER = 100  # looks of one round
_MOUNTS_SECONDS = 20.0  # between two readings of the list of mounts: some come after the watchers


class Looks:
    """Owns the watches; all that changes them comes to its thread by its inbox."""

    def __init__(
        self, store: LocalStore, envelopes: Envelopes, spooled: Callable[[], None], faulty: Callable[[], None]
    ) -> None:
        """`spooled` is called when there are new events in the store, `faulty` when a fault has come or gone."""
        self._copy = Copy(store, self._with_states)
        self._envelopes = envelopes
        self._ledger = Ledger(store, envelopes, spooled)
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._watches: dict[str, Watch] = {}
        self._rows: dict[str, Mapping[str, Any]] | None = None
        self._undefined: Sequence[Mapping[str, Any]] | None = None  # who the watchers are to be, once nothing fails
        self._define_at = 0.0
        self._schedule: Schedule[Watch] = Schedule()
        self._settling: Settling[Watch] = Settling()
        self._changes: Changes[Watch] = Changes(self._told)
        self._aside = Aside()
        self._far_points: frozenset[str] = frozenset()  # where file systems are mounted that may not answer
        self._mounts_at = 0.0
        self._reports = Reports(faulty)
        self._faults = FaultLog("watchers that cannot look")
        self._stopping = False

    @property
    def count(self) -> int:
        """How many watchers there are."""
        return len(self._watches)

    @property
    def failing(self) -> int:
        """How many cannot look."""
        return self._reports.failing

    @property
    def stuck(self) -> int:
        """How many do not come back from looking, or find no thread for it."""
        return self._aside.stuck

    @property
    def fault(self) -> str:
        """Why what they leave cannot be written; empty while it can."""
        return self._ledger.fault

    def define(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """From any thread: these are the watchers, as store.watchers has them; others are no more."""
        self._inbox.put(lambda: self._define(rows))

    def define_as_before(self) -> None:
        """From any thread: the watchers are those of the copy, unless it is known already who they are."""
        self._inbox.put(self._define_from_copy)

    def rest(self) -> None:
        """From any thread: look no more until define(). What is known is kept: what changes meanwhile is seen late."""
        self._inbox.put(self._rest)

    def take_looked(self) -> list[Looked]:
        """From any thread: what is to be said of watchers that have looked since this was last asked."""
        return self._reports.take()

    def stop(self) -> None:
        """From any thread: end soon, with everything written."""
        self._stopping = True
        self._inbox.put(lambda: None)

    def run(self, progress: Progress) -> None:
        """Look until stop()."""
        while not self._stopping:
            progress.mark()
            self._receive(self._until_next())
            if monotonic() >= self._mounts_at:
                self._see_to_mounts()
            self._round(monotonic(), progress)
            self._aside.see_to_threads()
            self._see_to_stuck(monotonic())
            if self._undefined is not None and monotonic() >= self._define_at:
                self._define(self._undefined)
            self._copy.see_to(monotonic())
            self._ledger.write(monotonic())
        self._changes.stop()
        self._await_last(monotonic() + _LAST_SECONDS)
        self._look_last(self._watches.values())
        self._copy.see_to(float("inf"))
        self._ledger.write(float("inf"))

    def _until_next(self) -> float:
        define_at = None if self._undefined is None else self._define_at
        parts = (self._schedule, self._settling, self._ledger, self._copy)
        times = (*(part.next_due() for part in parts), define_at)
        due = min((at for at in times if at is not None), default=float("inf"))
        return min(max(due - monotonic(), 0.0), _LONGEST_WAIT_SECONDS)

    def _receive(self, seconds: float) -> None:
        """Wait for the next message, or until the time is up; take all that there are."""
        try:
            self._inbox.get(timeout=seconds)() if seconds > 0 else self._inbox.get_nowait()()
            while True:
                self._inbox.get_nowait()()
        except Empty:
            pass

    def _round(self, now: float, progress: Progress) -> None:
        """All looks that are due, at one moment: they share what they read of the system."""
        moment = Moment(datetime.now(UTC), now)
        due = self._settling.take(now)
        for turn in self._schedule.take(now):
            # It looks in a moment, or else a burst that goes on would make its looks fewer.
            settles = turn.item in self._settling and turn.interval >= LONGEST_SECONDS
            if settles or not turn.item.aside:
                self._schedule.again(turn, now)
            if not settles:
                self._settling.forget(turn.item)
                due.append(turn.item)
        for number, watch in enumerate(due, 1):
            self._start(watch, moment)
            progress.mark()
            if number % _WRITE_AFTER == 0:
                self._ledger.write(monotonic())

    def _start(self, watch: Watch, moment: Moment) -> None:
        if watch.busy:
            self._settling.begin(watch, moment.monotonic)  # what was told meanwhile is for the next look
        elif watch.aside:
            self._aside.begin(watch, partial(self._look_aside, watch))
        else:
            self._ended(watch, watch.look(moment, self._envelopes))

    def _look_aside(self, watch: Watch) -> None:
        """On a thread of a crew. What has ended while it waited for one does not look: that could start a program."""
        outcome = Outcome()
        if watch.turn is not None and not self._stopping:
            outcome = watch.look(Moment(datetime.now(UTC), monotonic()), self._envelopes)
        self._inbox.put(lambda: self._came_back(watch, outcome))

    def _see_to_stuck(self, now: float) -> None:
        """Say of those that do not come back that they do not, and let others not wait for them."""
        for watch in self._aside.newly_stuck(now):
            error = f"its look has not come back for more than {STUCK_SECONDS:.0f} s"
            self._faults.say(logging.WARNING, "watcher %s: %s", watch.definition.id, error)
            if self._watches.get(watch.definition.id) is watch:
                self._reports.of(watch, error)

    def _came_back(self, watch: Watch, outcome: Outcome) -> None:
        self._aside.end(watch)
        if self._watches.get(watch.definition.id) is watch:
            self._ended(watch, outcome)
            if watch.turn is not None:
                self._schedule.again(watch.turn, monotonic())
        else:
            self._came_late(watch, outcome)

    def _came_late(self, watch: Watch, outcome: Outcome) -> None:
        """It has ended meanwhile: what it saw is for who comes after it to see, but not what a program has printed."""
        if watch.leave():
            last = watch.look(Moment(datetime.now(UTC), monotonic()), self._envelopes)
            # Without a state, which may be another's by now.
            self._ledger.add(watch.definition, Outcome(None, [*outcome.events, *last.events]))
        self._aside.let_go(watch)

    def _ended(self, watch: Watch, outcome: Outcome) -> None:
        self._ledger.add(watch.definition, outcome)
        self._reports.of(watch, watch.error)

    def _told(self, watches: set[Watch]) -> None:
        """On a thread of the changes."""
        self._inbox.put(lambda: self._settle(watches))

    def _settle(self, watches: set[Watch]) -> None:
        now = monotonic()
        for watch in watches:
            if self._watches.get(watch.definition.id) is watch:
                self._settling.begin(watch, now)

    def _see_to_mounts(self) -> None:
        """Go far with watches that look at a file system which was mounted since."""
        self._mounts_at = monotonic() + _MOUNTS_SECONDS
        before = self._far_points
        self._far_points = far.points()
        if self._far_points != before:
            for watch in self._watches.values():
                if self._is_far(watch.kind.paths(watch.definition)):
                    watch.go_far()
            self._watch_changes()

    def _is_far(self, paths: Sequence[str]) -> bool:
        return any(far.is_far(path, self._far_points) for path in paths)

    def _watch_changes(self) -> None:
        """Be told of changes at once, but not where asking for them may wait."""
        near = {watch: watch.kind.paths(watch.definition) for watch in self._watches.values() if not watch.far}
        self._changes.watch(
            {watch: (paths, bool(watch.definition.options.get("recursive"))) for watch, paths in near.items() if paths}
        )

    def _define(self, rows: Sequence[Mapping[str, Any]]) -> None:
        wanted = {row["id"]: row for row in rows}
        if wanted == self._rows and self._undefined is None:
            return
        try:
            self._become(wanted)
        except Exception:  # nobody would define them again
            if self._undefined is None:
                logger.exception("the watchers cannot be defined, trying again")
            self._undefined, self._define_at = rows, monotonic() + RETRY_SECONDS
        else:
            self._undefined = None

    def _become(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """End and begin watchers until they are these; whatever fails, it is known who they are."""
        before = self._rows or {}
        now = dict(before)
        self._rows = now
        changed = {row_id for row_id, row in before.items() if wanted.get(row_id) != row}
        self._look_last([self._watches[row_id] for row_id in changed if row_id in self._watches])
        left: dict[str, Any] = {}
        for row_id in changed:
            left[row_id] = self._end(row_id, before[row_id], wanted.get(row_id))
            del now[row_id]
        self._ledger.write(float("inf"))
        self._copy.keep(list(wanted.values()))
        states = {**self._copy.states(wanted), **{row_id: state for row_id, state in left.items() if state is not None}}
        new = [row for row_id, row in wanted.items() if row_id in changed or row_id not in before]
        self._see_to_mounts()
        for row in new:
            self._begin(row, states.get(row["id"]), row["id"] not in changed, len(new))
            now[row["id"]] = row
        self._watch_changes()
        logger.info("watchers at work: %d", len(self._watches))

    def _define_from_copy(self) -> None:
        if self._rows is not None:
            return
        if (rows := self._copy.read()) is not None:
            self._define(rows)

    def _rest(self) -> None:
        if self._rows is None:
            return
        self._look_last(self._watches.values())
        for watch in self._watches.values():
            self._take_out(watch)
            self._aside.let_go(watch)
        self._ledger.write(float("inf"))
        self._watches, self._rows, self._undefined = {}, None, None
        self._reports.forget_all()
        self._changes.watch({})

    def _await_last(self, until: float) -> None:
        """Wait for looks that may have taken what no later one finds."""
        while any(isinstance(watch.check, Leaving) for watch in self._aside.busy):
            if monotonic() >= until:
                return
            self._receive(0.05)

    def _look_last(self, watches: Iterable[Watch]) -> None:
        """Have those that keep a program running end it, and tell what it has printed until then."""
        for watch in [watch for watch in watches if not watch.busy and watch.leave()]:
            self._ended(watch, watch.look(Moment(datetime.now(UTC), monotonic()), self._envelopes))

    def _end(self, watcher_id: str, row: Mapping[str, Any], new: Mapping[str, Any] | None) -> Any:
        """End a watch; returns the state that a new one of the same subject goes on from."""
        self._reports.forget(watcher_id)
        watch = self._watches.pop(watcher_id, None)
        if watch is None:
            return None
        self._take_out(watch)
        state = None
        if new is None or subject(new) != subject(row):
            self._ledger.forget(watcher_id)
        elif not watch.busy:  # one that is looking goes on from what it had before: what this look sees is lost
            state = watch.live_state()
        self._aside.let_go(watch)
        return state

    def _take_out(self, watch: Watch) -> None:
        """Have no more looks of it. It and its turn know each other no more: nobody collects such circles here soon."""
        if watch.turn is not None:
            self._schedule.remove(watch.turn)
            watch.turn = None
        self._settling.forget(watch)

    def _begin(self, row: Mapping[str, Any], state: Any, is_late: bool, among: int) -> None:
        try:
            definition = kinds.read(
                row["id"], row["type"], row["conditions"], row["options"], row["interval"],
                name=row["name"], stack=row["stack"],
            )  # fmt: skip
            kind = kinds.kind(definition.type)
            watch = Watch(definition, kind, state, self._is_far(kind.paths(definition)))
        except Exception as fault:
            # Written past the command line, or for another version of the program.
            self._faults.say(logging.ERROR, "watcher %s makes no sense: %s", row["id"], fault)
            self._reports.note(row["id"], error=str(fault))
            return
        watch.late = watch.late and is_late
        key = f"{definition.type} {definition.interval}" if watch.kind.together else definition.id
        watch.turn = self._schedule.add(watch, definition.interval, key, monotonic(), among)
        self._watches[definition.id] = watch

    def _with_states(self) -> set[str]:
        return {watch.definition.id for watch in self._watches.values() if watch.has_state}
