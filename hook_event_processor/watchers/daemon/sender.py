"""The thread that talks to the database: events go there, definitions come from there, and the host is known there."""

from __future__ import annotations

import logging
import os
import select
import sqlite3
from collections.abc import Callable, Mapping, Sequence
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
from hook_event_processor.telemetry.watchdog import Progress
from hook_event_processor.watchers.daemon import agent, health
from hook_event_processor.watchers.daemon.definitions import Definitions
from hook_event_processor.watchers.daemon.delivery import Delivery
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.looks import Looks
from hook_event_processor.watchers.daemon.standing import Standing

logger = logging.getLogger("Watchers")

ROLE = "watcher"
_WAIT = wait_exponential_jitter(multiplier=0.25, max=10.0, jitter=0.25)
_STEADY_SECONDS = 10.0  # a connection that is lost before was lost too soon: the next is waited for longer
_STORE_SECONDS = 1.0  # until a disk that refuses is tried again
_STANDING_SECONDS = 1.0  # between two questions for a lock that another daemon has


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
        self._types = types
        self._version = version
        self._facts = facts
        self._definitions = Definitions(settings.host, types, looks)
        self._delivery = Delivery(store, envelopes, self._taken)
        self._standing = Standing(store, settings.host, types)
        self._taken_at: float | None = None
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._connection: Connection | None = None
        self._failures = 0  # since the database last took what there was
        self._losses = 0  # of connections in a row that were lost too soon
        self._back_at: float | None = None  # when this connection first did what it is for
        self._away_since: float | None = None
        self._refusal_said = False  # of a database that is there and takes nothing, in this outage
        self._beat_at = 0.0
        self._unlocked_at = 0.0  # when it is tried again to say anything of the host
        self._registered: Settings | None = None  # what of the host the database has been told
        self._ends_at: float | None = None
        self._ever_connected, self._store_fault = False, ""
        self.schema_fault = ""  # why the schema is not one to work with, while it is so
        self.fatal = False  # it is not, and there is nothing to do without the database

    @property
    def sent(self) -> int:
        """Events since the start."""
        return self._delivery.sent

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
        self._delivery.more = True
        self.ring()

    def faulty(self) -> None:
        """From any thread: what keeps a watcher from looking is to be told soon."""
        self._definitions.faulty()
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
        self._progress = progress
        while not self._is_over():
            progress.mark()
            try:
                connection = self._connected()
                # Behind a transaction pooler, where nobody listens, a session's locks would be anybody's.
                if not self.settings.listen or self._standing.is_ours(connection):
                    self._step(connection, monotonic())
                    self._is_back()
                    self._store_fault = ""
                    self._wait(connection)
                else:
                    self._is_back()
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
        is_idle = not self._delivery.more or self._away_since is not None or self.refused is not None
        return is_idle or monotonic() >= ends_at

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect(ROLE, autocommit=True)
            self._connection = connection
            migrate.check(connection)
            if self.settings.listen:
                watchers.listen(connection)
            self._definitions.forget()
            self._registered = None
            self.schema_fault = ""
            self._ever_connected = True
        return self._connection

    def _is_back(self) -> None:
        """The database takes what there is: one that is read-only, or whose disk is full, lets everybody in."""
        if self._back_at is None:
            self._back_at = monotonic()
        if self._away_since is not None:
            logger.info("the database is back after %.1f s", self.away_seconds or 0.0)
        self._away_since = None
        self._failures = 0
        self._refusal_said = False

    def _register(self, connection: Connection) -> None:
        settings = self.settings  # others may come meanwhile
        agent.register(connection, agent.describe(settings, self._version, agent.address_of(connection)))
        self._registered = settings
        self._beat_at = 0.0  # the health comes with it

    def _step(self, connection: Connection, now: float) -> None:
        self._definitions.fetch(connection, now)
        if now >= self._unlocked_at:
            self._be_known(connection, now)
        self._definitions.tell(connection, now)
        if self._delivery.more:
            self._delivery.send(connection, self.settings, hurry=self._ends_at is not None)

    def _be_known(self, connection: Connection, now: float) -> None:
        """Say that the host is there; somebody who is changing its row may take hours, and events go on meanwhile."""
        try:
            if now >= self._beat_at:
                self._beat_at = now + hosts.HEARTBEAT_SECONDS
                if self._registered is not None and not self._beat(connection):
                    self._registered = None
                self._taken_at = monotonic()
            if self._registered is not self.settings:
                self._register(connection)
        except psycopg.errors.LockNotAvailable as fault:
            logger.warning("the host's row is locked, its heartbeat waits: %s", one_line(fault))
            self._unlocked_at = monotonic() + hosts.HEARTBEAT_SECONDS

    def _taken(self) -> None:
        """The database has taken a batch."""
        self._is_back()
        self._taken_at = monotonic()
        self._progress.mark()

    def _beat(self, connection: Connection) -> bool:
        """Whether the host is still known."""
        return hosts.beat(connection, self.settings.host, health.name_of(self._types), self._facts())

    def _stand_by(self, progress: Progress) -> None:
        """Leave everything to the other daemon, for a moment."""
        self._looks.rest()
        self._definitions.forget()
        self._taken_at = monotonic()  # the database is there
        self._pause(_STANDING_SECONDS, progress)

    def _wait(self, connection: Connection) -> None:
        """Until something is to be done, a notification comes, or the bell rings."""
        times = [self._definitions.next_at, max(self._beat_at, self._unlocked_at)]
        if self._delivery.more:
            times.append(self._delivery.next_at)
        if self._ends_at is not None:
            times.append(self._ends_at if self._delivery.more else 0.0)
        if connection.fileno() in self._ready(max(min(times) - monotonic(), 0.0), connection.fileno()):
            connection.pgconn.consume_input()
            while connection.pgconn.notifies():
                self._definitions.changed()

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
        if self._connection is not None:
            self._is_back()  # it is not the database that refuses
        self._delivery.more = True
        if str(fault) != self._store_fault:
            logger.error("the spool cannot be emptied, trying again: %s", fault)
        self._store_fault = str(fault)

    def _failed(self, fault: Exception) -> float:
        """Give the connection up, and say so once; returns seconds until the next attempt."""
        is_refusal = self._connection is not None and not self._connection.closed
        self.close()
        if self._back_at is not None:
            self._losses = self._losses + 1 if monotonic() - self._back_at < _STEADY_SECONDS else 0
            self._back_at = None
        self._delivery.more = True
        self._failures += 1
        said, self.schema_fault = self.schema_fault, str(fault) if isinstance(fault, SchemaError) else ""
        if self.schema_fault and not self._ever_connected and not self._has_copy():
            self.fatal = True
            logger.error("%s", fault)
        is_news = is_refusal and not self._refusal_said and not self.schema_fault
        if self._away_since is None or is_news or self.schema_fault not in ("", said):
            logger.warning("events wait on the disk, trying again: %s", one_line(fault))
        self._refusal_said |= is_refusal
        if self._away_since is None:
            self._away_since = monotonic()
            if self.refused is None:
                self._looks.define_as_before()
        return wait_after(_WAIT, max(self._failures, self._losses))

    def _has_copy(self) -> bool:
        """Whether there are watchers to go on with until the schema fits."""
        try:
            return bool(self._store.definitions())
        except (sqlite3.Error, ValueError):
            return False

    def _leave(self) -> None:
        """Say goodbye, if anybody is there to hear it."""
        if self._connection is None or self.refused:
            return
        try:
            self._definitions.tell_now(self._connection)
            hosts.say_stopped(self._connection, self.settings.host, health.name_of(self._types))
        except (psycopg.Error, sqlite3.Error) as fault:
            logger.warning("leaving without a word to the database: %s", one_line(fault))
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
