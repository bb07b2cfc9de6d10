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

from hook_event_processor.processor.due import RELOOK_SECONDS, Due
from hook_event_processor.processor.hearing import Hearing
from hook_event_processor.processor.idlers import Idlers
from hook_event_processor.processor.keys import Keys
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.own_connection import OwnConnection
from hook_event_processor.store import watch
from hook_event_processor.store.database import PLAN_ONCE, PREPARE_AFTER, Database
from hook_event_processor.store.frontier import FULL_PASS_SECONDS, HIGHEST_SEQ, Frontier
from hook_event_processor.telemetry.watchdog import Progress

logger = logging.getLogger("HookEventProcessor")

_PEERS_SECONDS, _PEERS_COME_SECONDS = 2.0, 0.2  # the latter where some have come or gone: others may follow
_PATIENCE_SECONDS = 2.0  # of idle lanes, past the poll interval, with a lookout that hangs
_REVISION_SECONDS = 0.5  # without LISTEN: hooks change within a second all the same
_FROZEN_SECONDS = 6.0
_BUSY_SECONDS = 0.02  # with lanes that see to what comes: then inserts need not notify
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
        lanes: int,
        poll_interval: float,
        may_listen: bool,
        frontier: Frontier,
        free_slots: Callable[[], bool],
        reload: Callable[[Connection], None],
        paused: Callable[[], bool],
    ) -> None:
        """`reload` reads the hooks anew.

        While it is `paused` no lane is woken: none would claim.
        """
        self._own = OwnConnection(database, outage, "lookout", autocommit=True, begin=self._begin)
        self._poll_interval = poll_interval
        self.hearing = Hearing(database, may_listen=may_listen, otherwise=f"polling every {poll_interval:g} s")
        self._frontier = frontier
        self._keys = Keys(poll_interval)
        self._due = Due(free_slots)
        self._reload = reload
        self._paused = paused
        self._idlers = Idlers(lanes, poll_interval + _PATIENCE_SECONDS)
        self._table = ""
        self._peers: frozenset[int] = frozenset()
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """What holds for one connection only."""
        self._keys.forget()
        self._due.forget()
        self._busy_since: float | None = None
        self._look_at = self._peers_at = self._full_look_at = self._rush_until = 0.0
        self._revision: int | None = None
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
        self._own.cut()

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

    def claiming(self) -> None:
        """Called by a lane: it begins to claim."""
        self._idlers.claims()

    def help(self) -> None:
        """There is more work than one lane does: wake another if one is idle."""
        self._idlers.wake_another()

    def found(self) -> None:
        """Called by a lane that has found work."""
        self._keys.found()

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
        if self._due.slots_freed():
            self._idlers.ring()

    def run(self, progress: Progress) -> None:
        """Watch until stop()."""
        while not self.stopping:
            progress.mark()
            self._idlers.tend()
            try:
                self._step(self.connected())
                self._own.worked()
            except Exception as fault:
                delay = self.lost(fault)
                progress.mark()
                self.pause(delay)
                self._idlers.wake()  # a lane may fare better, and is not to wait for us
        self._own.close()  # and with the session its keys end

    def lost(self, fault: Exception) -> float:
        """Give the session up, what it was is learned anew with the next; returns seconds until then."""
        self.hearing.lost()
        return self._own.lost(fault, "the lookout failed")

    def connected(self) -> Connection:
        """The session; a new one listens if it can, and has read the hooks."""
        return self._own.connected()

    def _begin(self, connection: Connection) -> None:
        self._forget()
        connection.add_notify_handler(self._notified)
        self._table = watch.qualified_table(connection)
        self._listen(connection)
        self._look(connection)

    def _listen(self, connection: Connection) -> None:
        self.hearing.begin(connection, self._table, self._sleep)
        connection.prepare_threshold = PREPARE_AFTER if self.may_prepare else None
        if self.may_prepare:
            connection.execute(PLAN_ONCE)

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
            self._look_by(now + RELOOK_SECONDS)
            self._idlers.wake()

    def _step(self, connection: Connection) -> None:
        now = monotonic()
        if now >= min(self._look_at, self.hearing.ask_at):
            self._look(connection)
        if now >= self._peers_at:
            self._see_peers(watch.lanes(connection, _FROZEN_SECONDS))
        if self.hearing.is_worth_another_try(now):
            self._listen(connection)
        if self._paused():
            self._keys.let_go(connection)
            self._sleep(connection, self._until_next(now))
            return
        if self._due.is_now(now):
            self._look_by(now + self._due.give())
            self._idlers.wake()
        unneeded = self._idlers.unneeded_seconds
        if unneeded:
            self._while_busy(connection, now, unneeded)
        elif now < self._rush_until:
            self._idlers.wake()
            self._sleep(connection, _RUSH_NAP_SECONDS)
        elif not self.listening:
            self._sleep(connection, self._until_next(now))
        else:
            self._while_idle(connection, now)

    def _while_busy(self, connection: Connection, now: float, unneeded: float) -> None:
        if self._busy_since is None:
            self._busy_since = now
        if now - self._busy_since >= _BUSY_SECONDS:
            self._keys.let_go(connection)
        longest = _BUSY_SECONDS if self._keys.holding else min(0.25, self._until_next(now))
        self._sleep(connection, min(longest, unneeded))

    def _while_idle(self, connection: Connection, now: float) -> None:
        self._busy_since = None
        if len(self._recent) == _RUSH_NOTIFICATIONS and now - self._recent[0] < _RUSH_WINDOW_SECONDS:
            self._recent.clear()
            self._keys.let_go(connection)
            self._rush_until = now + _RUSH_SECONDS
            return
        keys = self._keys
        if not keys.holding and now >= keys.retry_at:
            keys.take(connection, self._table, now)
            if keys.holding:
                self._look_by(now)  # a claim does not see what was inserted for later
                self._frontier.look_next()  # of those that inserted without notifying the last has ended
            if keys.is_lookout:
                # The one more claim; or, after a nap, the next look at what has been committed.
                self._idlers.wake()
        wait = self._until_next(now)
        self._sleep(connection, wait if keys.holding else min(wait, max(keys.retry_at - now, 0.0)))

    def _look(self, connection: Connection) -> None:
        began = monotonic()
        # Then a look would come past all that has been done since, and lanes make full passes by themselves.
        is_known = self._frontier.knows_of_more
        full = began >= self._full_look_at and not is_known
        if full:
            self._full_look_at = began + FULL_PASS_SECONDS
        with self._lock:
            # Before the look: what lanes say while it goes on is for the next.
            interval = self._poll_interval if self.listening else min(self._poll_interval, _REVISION_SECONDS)
            self._look_at = began + interval
        question = self.hearing.question(began)
        frozen = _FROZEN_SECONDS if began >= self._peers_at - _PEERS_SECONDS / 4 else None
        notify = None if question is None else (self._table, question)
        above = HIGHEST_SEQ if is_known else 0 if full else self._frontier.lowest
        look = watch.look(connection, above, notify, frozen)
        if look.lanes is not None:
            self._see_peers(look.lanes)
        self._due.seen(look)
        if look.revision != self._revision:
            self._reload(connection)
            self._revision = look.revision
        if (is_known or look.fresh) and not self._paused():
            if full:
                self._frontier.full_pass()
            self._idlers.wake()
        elif not self._frontier.at_rest:
            self._frontier.look_next()  # the next look of ours may be far
            self._idlers.wake()  # to raise the floor: looks begin there

    def _until_next(self, now: float) -> float:
        """Seconds until something is to be done if nobody rings and nothing is notified."""
        times = [self._look_at, self._peers_at, self.hearing.ask_at]
        if not self._paused():
            times.append(self._due.next)
        return max(min(times) - now, 0.0)

    def _see_peers(self, lanes: watch.Lanes) -> None:
        self._peers_at = monotonic() + (_PEERS_SECONDS if lanes.pids == self._peers else _PEERS_COME_SECONDS)
        if lanes.ended:
            logger.warning("ended %d sessions of processors that no longer read", lanes.ended)
        if self._peers - lanes.pids:
            self._frontier.full_pass()
            self._idlers.wake()
        self._peers = lanes.pids
        self._frontier.slices.seen(lanes.pids)

    def _sleep(self, connection: Connection, seconds: float) -> None:
        """Wait for notifications, for the bell, or until the time is up."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._idlers.bell, select.POLLIN)
        ready = poll.poll(min(seconds, self._idlers.tend_seconds) * 1000)
        if any(fd == self._idlers.bell for fd, _ in ready):
            self._idlers.hush()
        if any(fd != self._idlers.bell for fd, _ in ready):
            connection.pgconn.consume_input()
            while notification := connection.pgconn.notifies():
                self._notified(Notify(notification.relname.decode(), notification.extra.decode(), notification.be_pid))
