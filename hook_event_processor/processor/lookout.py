"""The lookout: sleeps for the lanes, and wakes them.

Waking costs inserts their concurrency (NOTIFY makes commits wait for each
other), so only sleepers are woken: the trigger on hook_events notifies only
while somebody holds advisory key 2. Key 1 elects, among idle processors, the
one that holds it. With key 2 in hand one more claim finds what was inserted
before; whatever comes later notifies.
"""

from __future__ import annotations

import logging
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from psycopg import Connection, Notify

from hook_event_processor.processor.floors import Floors
from hook_event_processor.processor.hearing import Hearing
from hook_event_processor.processor.idlers import Idlers
from hook_event_processor.processor.outage import Outage, reconnect_delay
from hook_event_processor.store import watch
from hook_event_processor.store.claim import FULL_PASS_SECONDS
from hook_event_processor.store.database import PREPARE_AFTER, Database, cut
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_PEERS_SECONDS = 2.0
_PATIENCE_SECONDS = 2.0  # of idle lanes, past the poll interval, with a lookout that hangs
_REVISION_SECONDS = 0.5  # without LISTEN: hooks change within a second all the same
_FROZEN_SECONDS = 6.0
_BUSY_SECONDS = 0.02  # without an idle lane: then inserts need not notify
# While an insert is in flight, nobody is notified of what it inserts: naps stay
# short as long as lanes find something after them, and double while they do not.
_NAP_SECONDS, _LONGEST_NAP_SECONDS = 0.002, 0.25
_RELOOK_SECONDS, _LONGEST_RELOOK_SECONDS = 0.05, 1.0
# So many notifications in a tenth of a second slow the writers down: for a
# while the lanes look by themselves instead.
_RUSH_NOTIFICATIONS, _RUSH_WINDOW_SECONDS = 100, 0.1
_RUSH_SECONDS, _RUSH_NAP_SECONDS = 1.0, 0.005


class Lookout:
    """Watches for work on a connection of its own, while at least one lane is idle."""

    def __init__(
        self,
        database: Database,
        outage: Outage,
        *,
        poll_interval: float,
        may_listen: bool,
        floors: Floors,
        free_slots: Callable[[], bool],
        reload: Callable[[Connection], None],
        full_pass: Callable[[], None],
        paused: Callable[[], bool],
    ) -> None:
        """`reload` reads the hooks anew; `full_pass` lets lanes look for rows behind the floor.

        While it is `paused` no lane is woken: none would claim.
        """
        self._database = database
        self._outage = outage
        self._poll_interval = poll_interval
        self.hearing = Hearing(database, may_listen=may_listen, otherwise=f"polling every {poll_interval:g} s")
        self._floors = floors
        self._free_slots = free_slots
        self._reload = reload
        self._full_pass = full_pass
        self._paused = paused
        self._idlers = Idlers(poll_interval + _PATIENCE_SECONDS)
        self._connection: Connection | None = None
        self._table = ""
        self._revision: int | None = None
        self._peers: frozenset[int] = frozenset()
        self._failures = self._outages = 0
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """What holds for one connection only."""
        self._is_lookout = self._holding = False
        self._busy_since: float | None = None
        self._nap = _NAP_SECONDS
        self._found = False
        self._retry_at = self._look_at = self._peers_at = self._full_look_at = self._rush_until = 0.0
        self._relook = _RELOOK_SECONDS
        self._oldest: float | None = None
        self._due_at: float | None = None
        self._slot_due_at: float | None = None
        self._recent: deque[float] = deque(maxlen=_RUSH_NOTIFICATIONS)

    @property
    def stopping(self) -> bool:
        return self._idlers.stopping

    @property
    def listening(self) -> bool:
        """Whether notifications arrive; otherwise it polls."""
        return self.hearing.listening

    def cut(self) -> None:
        """From another thread: end a wait for a server that no longer answers."""
        cut(self._connection)

    @property
    def may_prepare(self) -> bool:
        """Whether sessions are really ours: behind a transaction pooler they are not, nor are prepared statements."""
        return self.listening

    def stop(self) -> None:
        """Let lanes and the lookout itself end."""
        self._idlers.stopping = True
        self._idlers.wake_all()
        self._idlers.ring()

    def idle(self, progress: Progress) -> None:
        """Called by a lane: wait until there may be work."""
        self._idlers.wait(progress)

    def help(self) -> None:
        """There is more work than one lane does: wake another if one is idle."""
        self._idlers.wake(remember=False)

    def found(self) -> None:
        """Called by a lane that has found work."""
        self._found = True

    def pause(self, seconds: float) -> None:
        """Wait, but not past the end."""
        ends = monotonic() + seconds
        while not self.stopping and (left := ends - monotonic()) > 0:
            threading.Event().wait(min(left, 0.1))

    def due_in(self, seconds: float) -> None:
        """Something will be due in so many seconds."""
        self._look_by(monotonic() + seconds)
        self._idlers.ring()

    def _look_by(self, moment: float) -> None:
        with self._lock:
            self._look_at = min(self._look_at, moment)

    def slots_freed(self) -> None:
        """Worker slots have become free: what waits for one may be due."""
        self._oldest = None
        if self._slot_due_at is not None:
            self._idlers.ring()

    def run(self, progress: Progress) -> None:
        """Watch until stop()."""
        while not self.stopping:
            progress.mark()
            self._idlers.tend()
            try:
                self._step(self.connected())
                self._failures = 0
            except Exception as fault:
                self.lost(fault)
                progress.mark()
                self.pause(reconnect_delay(self._failures))
                self._idlers.wake(remember=True)  # a lane may fare better, and is not to wait for us
        self.close()

    def close(self) -> None:
        """End the session, and with it the keys."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def lost(self, fault: Exception) -> None:
        """Give the session up; what it was is learned anew with the next."""
        self._outage.notice(fault, "the lookout failed", self._connection, self._outages)
        self.close()
        self.hearing.lost()
        self._failures += 1

    def connected(self) -> Connection:
        """The session; a new one listens if it can, and has read the hooks."""
        if self._connection is None:
            self._forget()
            connection = self._database.connect("lookout", autocommit=True)
            connection.add_notify_handler(self._notified)
            self._connection = connection
            self._table = watch.qualified_table(connection)
            self.hearing.begin(connection, self._table, self._sleep)
            connection.prepare_threshold = PREPARE_AFTER if self.listening else None
            self._outages = self._outage.end()
            self._revision = None
            self._look(connection)
        return self._connection

    def _notified(self, notification: Notify) -> None:
        message = notification.payload
        if self.hearing.heard(message):
            return
        if message == "hooks":
            self._look_by(0.0)
        else:
            now = monotonic()
            self._recent.append(now)
            # The row may be one for later.
            self._look_by(now + _RELOOK_SECONDS)
            self._idlers.wake(remember=True)

    def _step(self, connection: Connection) -> None:
        now = monotonic()
        if now >= min(self._look_at, self.hearing.ask_at):
            self._look(connection)
        if now >= self._peers_at:
            self._see_peers(watch.lanes(connection, _FROZEN_SECONDS))
        if self.hearing.is_worth_another_try(now):
            self.hearing.begin(connection, self._table, self._sleep)
        if self._paused():
            self._let_go(connection)  # inserts need not notify
            self._sleep(connection, self._until_next(now))
            return
        self._wake_if_due(now)
        if not self._idlers.any:
            self._while_busy(connection, now)
        elif now < self._rush_until:
            self._idlers.wake(remember=False)
            self._sleep(connection, _RUSH_NAP_SECONDS)
        elif not self.listening:
            self._sleep(connection, self._until_next(now))
        else:
            self._while_idle(connection, now)

    def _while_busy(self, connection: Connection, now: float) -> None:
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since >= _BUSY_SECONDS:
            self._let_go(connection)
        self._sleep(connection, _BUSY_SECONDS if self._holding else min(0.25, self._until_next(now)))

    def _while_idle(self, connection: Connection, now: float) -> None:
        self._busy_since = None
        if len(self._recent) == _RUSH_NOTIFICATIONS and now - self._recent[0] < _RUSH_WINDOW_SECONDS:
            self._recent.clear()
            self._let_go(connection)
            self._rush_until = now + _RUSH_SECONDS
            return
        if not self._holding and now >= self._retry_at:
            self._take_keys(connection, now)
        wait = self._until_next(now)
        self._sleep(connection, wait if self._holding else min(wait, max(self._retry_at - now, 0.0)))

    def _take_keys(self, connection: Connection, now: float) -> None:
        self._is_lookout = self._is_lookout or watch.try_key(connection, self._table, 1)
        if not self._is_lookout:
            self._retry_at = now + self._poll_interval
            return
        self._holding = watch.try_key(connection, self._table, 2)
        if self._holding:
            self._nap = _NAP_SECONDS
            self._look_by(now)  # a claim does not see what was inserted for later
        else:
            self._nap = _NAP_SECONDS if self._found else min(self._nap * 2, _LONGEST_NAP_SECONDS)
            self._found = False
            self._retry_at = now + self._nap
        # The one more claim; or, after a nap, the next look at what has been committed.
        self._idlers.wake(remember=False)

    def _let_go(self, connection: Connection) -> None:
        if self._is_lookout:
            watch.release_keys(connection)
        self._is_lookout = self._holding = False
        self._retry_at = 0.0

    def _look(self, connection: Connection) -> None:
        began = monotonic()
        full = began >= self._full_look_at
        if full:
            self._full_look_at = began + FULL_PASS_SECONDS
        with self._lock:
            # Before the look: what lanes say while it goes on is for the next.
            interval = self._poll_interval if self.listening else min(self._poll_interval, _REVISION_SECONDS)
            self._look_at = began + interval
        question = self.hearing.question(began)
        frozen = _FROZEN_SECONDS if began >= self._peers_at - _PEERS_SECONDS / 4 else None
        notify = None if question is None else (self._table, question)
        look = watch.look(connection, 0 if full else self._floors.lowest, notify, frozen)
        if look.lanes is not None:
            self._see_peers(look.lanes)
        now = monotonic()
        self._due_at = None if look.due is None else now + look.due
        self._slot_due_at = None if look.slot_due is None else now + look.slot_due
        if look.revision != self._revision:
            self._reload(connection)
            self._revision = look.revision
        if look.fresh and not self._paused():
            if full:
                self._full_pass()
            self._idlers.wake(remember=False)
        elif not self._floors.settled:
            self._idlers.wake(remember=False)  # to raise the floor: looks begin there

    def _wake_if_due(self, now: float) -> None:
        slot_due = self._slot_due_at is not None and now >= self._slot_due_at and self._free_slots()
        if slot_due or (self._due_at is not None and now >= self._due_at):
            self._look_by(now + self._next_relook())
            self._due_at = None
            self._slot_due_at = None
            self._idlers.wake(remember=False)

    def _next_relook(self) -> float:
        """Seconds until the next look at what is due: the more, the longer it is the same that nobody can take.

        It may be locked by somebody else, or wait for more slots than are free.
        """
        oldest = min(at for at in (self._due_at, self._slot_due_at) if at is not None)
        same = self._oldest is not None and abs(oldest - self._oldest) < _RELOOK_SECONDS
        self._relook = min(self._relook * 2, _LONGEST_RELOOK_SECONDS) if same else _RELOOK_SECONDS
        self._oldest = oldest
        return self._relook

    def _until_next(self, now: float) -> float:
        """Seconds until something is to be done if nobody rings and nothing is notified."""
        times = [self._look_at, self._peers_at, self.hearing.ask_at]
        if self._paused():
            return max(min(times) - now, 0.0)
        if self._due_at is not None:
            times.append(self._due_at)
        if self._slot_due_at is not None and self._free_slots():
            times.append(self._slot_due_at)
        return max(min(times) - now, 0.0)

    def _see_peers(self, lanes: watch.Lanes) -> None:
        self._peers_at = monotonic() + _PEERS_SECONDS
        if lanes.ended:
            logger.warning("ended %d sessions of processors that no longer read", lanes.ended)
        if self._peers - lanes.pids:
            self._full_pass()
            self._idlers.wake(remember=True)
        self._peers = lanes.pids

    def _sleep(self, connection: Connection, seconds: float) -> None:
        """Wait for notifications, for the bell, or until the time is up."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._idlers.bell, select.POLLIN)
        ready = poll.poll(seconds * 1000)
        if any(fd == self._idlers.bell for fd, _ in ready):
            self._idlers.hush()
        if any(fd != self._idlers.bell for fd, _ in ready):
            connection.pgconn.consume_input()
            while notification := connection.pgconn.notifies():
                self._notified(Notify(notification.relname.decode(), notification.extra.decode(), notification.be_pid))
