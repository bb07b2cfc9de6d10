"""The thread that talks to the database: it sends events, fetches definitions, and says that the host is there."""

from __future__ import annotations

import logging
import os
import select
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import psycopg
from psycopg import Connection
from tenacity import wait_exponential_jitter

from hook_event_processor.errors import HookEventProcessorError, SchemaError
from hook_event_processor.retry import wait_after
from hook_event_processor.settings import Settings
from hook_event_processor.store import hosts, migrate, watchers
from hook_event_processor.store.database import Database, cut, one_line
from hook_event_processor.store.watchers import Looked, Watcher
from hook_event_processor.telemetry.watchdog import Progress
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import WatcherRefused
from hook_event_processor.watchers.daemon import agent, health
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.looks import Looks
from hook_event_processor.watchers.daemon.standing import Standing

logger = logging.getLogger("Watchers")

ROLE = "watcher"
_WAIT = wait_exponential_jitter(multiplier=0.25, max=10.0, jitter=0.25)
_LOOKED_SECONDS = 5.0  # between two writings of when watchers have looked
_FAULT_SECONDS = 0.5
_STORE_SECONDS = 1.0  # until a disk that refuses is tried again
_REVISION_SECONDS = 2.0  # a notification that does not arrive is not missed
_STANDING_SECONDS = 1.0  # between two questions for a lock that another daemon has
_SENDING_SECONDS = 1.0  # of one batch after the other, before anything else has its turn


class Sender:
    """One connection for all; when it is lost, everything waits in the store."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: LocalStore,
        looks: Looks,
        envelopes: Envelopes,
        types: Sequence[str],
        version: str,
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        """`facts` are those of the daemon's health, for the host's row."""
        self.settings = settings
        self._database = database
        self._store = store
        self._looks = looks
        self._envelopes = envelopes
        self._types = types
        self._version = version
        self._facts = facts
        self._standing = Standing(store, settings.host, types)
        self._taken_at: float | None = None
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._connection: Connection | None = None
        self._failures = 0
        self._away_since: float | None = None
        self._revision: int | None = None
        self._revision_at = self._beat_at = self._looked_at = self._send_at = 0.0
        self._more = True  # events may wait in the store
        self._registered: Settings | None = None  # what of the host the database has been told
        self._unsaid: dict[str, Looked] = {}
        self._ends_at: float | None = None
        self._ever_connected, self._store_fault = False, ""
        self.fatal = False  # the schema is not one to work with
        self.sent = 0

    @property
    def away_seconds(self) -> float | None:
        """How long the database has been away; None when it is there."""
        since = self._away_since
        return None if since is None else monotonic() - since

    @property
    def taken_seconds(self) -> float | None:
        """How long ago the database last took something; None if it never has."""
        taken_at = self._taken_at
        return None if taken_at is None else monotonic() - taken_at

    def hurry(self) -> None:
        """From any thread: the host's health is to be said soon."""
        self._beat_at = 0.0
        self.ring()

    @property
    def refused(self) -> str | None:
        """A type that another daemon of this host watches by the database's word; None: there is none."""
        return self._standing.refused

    def spooled(self) -> None:
        """From any thread: there are new events in the store."""
        self._more = True
        self.ring()

    def faulty(self) -> None:
        """From any thread: what keeps a watcher from looking is to be said soon."""
        self._looked_at = min(self._looked_at, monotonic() + _FAULT_SECONDS)
        self.ring()

    def ring(self) -> None:
        """From any thread: end a wait."""
        os.eventfd_write(self._bell, 1)

    def reload(self, settings: Settings) -> None:
        """From any thread: other settings, and all that is said of the host anew."""
        self.settings = settings
        self.ring()

    def cut(self) -> None:
        """From any thread: end the connection under a wait for a server that no longer answers."""
        cut(self._connection)

    def stop(self, seconds: float) -> None:
        """From any thread: send what there is, for so many seconds, then end."""
        self._ends_at = monotonic() + seconds
        self.ring()

    def run(self, progress: Progress) -> None:
        """Send until stop()."""
        while not self._is_over():
            progress.mark()
            try:
                connection = self._connected()
                # Behind a transaction pooler, where nobody listens, a session's locks would be anybody's.
                if not self.settings.listen or self._standing.is_ours(connection):
                    self._step(connection, monotonic(), progress)
                    self._store_fault = ""
                    self._wait(connection)
                else:
                    self._stand_by(progress)
            except sqlite3.Error as fault:
                self._refused_by_store(fault)
                self._pause(_STORE_SECONDS, progress)
            except (psycopg.Error, HookEventProcessorError, OSError) as fault:
                self._pause(self._failed(fault), progress)
        self._leave()

    def _is_over(self) -> bool:
        ends_at = self._ends_at
        if ends_at is None:
            return False
        is_idle = not self._more or self._away_since is not None or self.refused is not None
        return is_idle or monotonic() >= ends_at

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect(ROLE, autocommit=True)
            self._connection = connection
            migrate.check(connection)
            if self.settings.listen:
                watchers.listen(connection)
            self._revision = None
            self._registered = None
            if self._away_since is not None:
                logger.info("the database is back after %.1f s", self.away_seconds or 0.0)
            self._away_since = None
            self._failures = 0
            self._ever_connected = True
        return self._connection

    def _register(self, connection: Connection) -> None:
        settings = self.settings  # others may come meanwhile
        agent.register(connection, agent.describe(settings, self._version, agent.address_of(connection)))
        self._registered = settings
        self._beat_at = 0.0  # the health comes with it

    def _step(self, connection: Connection, now: float, progress: Progress) -> None:
        if now >= self._revision_at or self._revision is None:
            self._refresh(connection)
        if now >= self._beat_at:
            self._beat_at = now + hosts.HEARTBEAT_SECONDS
            if self._registered is not None and not self._beat(connection):
                self._registered = None
            self._taken_at = monotonic()
        if self._registered is not self.settings:
            self._register(connection)
        if now >= self._looked_at:
            self._say_looked(connection)
        if self._more:
            self._send(connection, progress)

    def _beat(self, connection: Connection) -> bool:
        """Whether the host is still known."""
        return hosts.beat(connection, self.settings.host, health.name_of(self._types), self._facts())

    def _stand_by(self, progress: Progress) -> None:
        """Leave everything to the other daemon, for a moment."""
        self._looks.rest()
        self._revision = None
        self._taken_at = monotonic()  # the database is there
        self._pause(_STANDING_SECONDS, progress)

    def _refresh(self, connection: Connection) -> None:
        """Read the definitions if they are other ones than before."""
        self._revision_at = monotonic() + _REVISION_SECONDS
        # Before the rows: a change in between is found the next time.
        revision = watchers.revision(connection)
        if revision != self._revision:
            is_all = set(self._types) >= set(kinds.NAMES)
            rows = watchers.to_watch(connection, self.settings.host, None if is_all else self._types)
            self._looks.define([_row(watcher) for watcher in rows if watcher.type in self._types])
            self._refuse([watcher for watcher in rows if watcher.type not in self._types])
            self._revision = revision

    def _refuse(self, unknown: Sequence[Watcher]) -> None:
        """Watchers of types that there are not, written past the command line, say so."""
        for watcher in unknown:
            try:
                kinds.kind(watcher.type)
            except WatcherRefused as fault:
                self._unsaid[watcher.id] = Looked(watcher.id, datetime.now(UTC), None, str(fault))

    def _say_looked(self, connection: Connection) -> None:
        self._looked_at = monotonic() + _LOOKED_SECONDS
        self._unsaid.update((looked.id, looked) for looked in self._looks.take_looked())
        if self._unsaid:
            watchers.say_looked(connection, list(self._unsaid.values()))
            self._unsaid = {}

    def _send(self, connection: Connection, progress: Progress) -> None:
        """Send batch after batch; one that is not full waits for its time."""
        began = monotonic()
        self._more = False  # what comes from here on says so
        self._tell_dropped()
        while batch := self._store.first(self.settings.watch_batch):
            now = monotonic()
            is_full = len(batch) >= self.settings.watch_batch
            if (now < self._send_at and not is_full and self._ends_at is None) or now - began > _SENDING_SECONDS:
                self._more = True
                return
            self._send_at = now + self.settings.watch_flush
            self._insert(connection, batch)
            self._taken_at = monotonic()
            self._store.remove([seq for seq, _, _ in batch])
            self.sent += len(batch)
            progress.mark()

    def _insert(self, connection: Connection, batch: Sequence[tuple[int, str, bytes]]) -> None:
        try:
            watchers.insert_events(
                connection, [row[1] for row in batch], [row[2].decode(errors="replace") for row in batch]
            )
        except (psycopg.DataError, psycopg.IntegrityError) as fault:
            if len(batch) == 1:
                logger.error("the database refuses the event %s, which is given up: %s", batch[0][1], one_line(fault))
                return
            for row in batch:
                self._insert(connection, [row])

    def _tell_dropped(self) -> None:
        dropped = self._store.total().dropped
        if dropped:
            message = f"{dropped} events of watchers were given up while the database was away: the spool was full"
            told = {"component": "watcher", "message": message, "severity": "warning"}
            data = {**told, "dropped": dropped, "policy": self.settings.spool_policy}
            event = self._envelopes.own("system.warning", data, datetime.now(UTC), self.settings.host)
            self._store.tell_dropped(event, dropped)

    def _wait(self, connection: Connection) -> None:
        """Until something is to be done, a notification comes, or the bell rings."""
        times = [self._revision_at, self._beat_at, self._looked_at]
        if self._more:
            times.append(self._send_at)
        if self._ends_at is not None:
            times.append(self._ends_at if self._more else 0.0)
        if connection.fileno() in self._ready(max(min(times) - monotonic(), 0.0), connection.fileno()):
            connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                self._revision_at = 0.0

    def _pause(self, seconds: float, progress: Progress) -> None:
        ends = monotonic() + seconds
        while self._ends_at is None and (left := ends - monotonic()) > 0:
            progress.mark()
            self._ready(min(left, 1.0))

    def _ready(self, seconds: float, *descriptors: int) -> set[int]:
        poll = select.poll()
        for descriptor in (self._bell, *descriptors):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        if self._bell in ready:
            os.eventfd_read(self._bell)
        return ready

    def _refused_by_store(self, fault: sqlite3.Error) -> None:
        """The disk is full, say: what was sent stays there, is sent again, and is known in the database."""
        self._more = True
        if str(fault) != self._store_fault:
            logger.error("the spool cannot be emptied, trying again: %s", fault)
        self._store_fault = str(fault)

    def _failed(self, fault: Exception) -> float:
        """Give the connection up, and say so once; returns seconds until the next attempt."""
        self.close()
        self._more = True
        self._failures += 1
        if isinstance(fault, SchemaError) and not self._ever_connected:
            self.fatal = True
            logger.error("%s", fault)
        if self._away_since is None:
            self._away_since = monotonic()
            logger.warning("events wait on the disk, trying again: %s", one_line(fault))
            if self.refused is None:
                self._looks.define_as_before()
        return wait_after(_WAIT, self._failures)

    def _leave(self) -> None:
        """Say goodbye, if anybody is there to hear it."""
        if self._connection is None or self.refused:
            return
        try:
            self._say_looked(self._connection)
            hosts.say_stopped(self._connection, self.settings.host, health.name_of(self._types))
        except (psycopg.Error, sqlite3.Error) as fault:
            logger.warning("leaving without a word to the database: %s", one_line(fault))
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _row(watcher: Watcher) -> Mapping[str, Any]:
    """A definition as the local store keeps it."""
    return {
        "id": watcher.id,
        "type": watcher.type,
        "conditions": watcher.conditions,
        "options": watcher.options,
        "interval": watcher.interval,
        "name": watcher.name,
        "stack": watcher.stack,
    }
