"""The way of events from the local store into the database, batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import monotonic

import psycopg
from psycopg import Connection, errors

from hook_event_processor.settings import Settings
from hook_event_processor.store import watchers
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.refusals import Refusals
from hook_event_processor.watchers.daemon.spool import SpooledEvent

_SENDING_SECONDS = 1.0  # of one batch after the other, before anything else has its turn


class Delivery:
    """Inserts what waits in the store, and removes there what is inserted."""

    def __init__(self, store: LocalStore, envelopes: Envelopes, taken: Callable[[], None]) -> None:
        """`taken` is called whenever the database has taken a batch."""
        self._store = store
        self._envelopes = envelopes
        self._taken = taken
        self._refusals = Refusals()
        self.more = True  # events may wait in the store; any thread may say so
        self.next_at = 0.0  # when a batch that is not full has waited long enough for more
        self.sent = 0

    def send(self, connection: Connection, settings: Settings, *, hurry: bool) -> None:
        """Send batch after batch; one that is not full waits for its time, unless there is a `hurry`."""
        try:
            self._send(connection, settings, hurry=hurry)
        finally:
            self._refusals.say_others()

    def _send(self, connection: Connection, settings: Settings, *, hurry: bool) -> None:
        began = monotonic()
        self.more = False  # what comes from here on says so
        self._tell_dropped(settings)
        while batch := self._store.first(settings.watch_batch):
            now = monotonic()
            is_full = len(batch) >= settings.watch_batch
            if (now < self.next_at and not is_full and not hurry) or now - began > _SENDING_SECONDS:
                self.more = True
                if is_full:
                    self.next_at = now  # it only lets others have their turn
                return
            self.next_at = now + settings.watch_flush
            self._insert(connection, batch)
            self._store.remove([(seq, event_id) for seq, event_id, _ in batch])
            self.sent += len(batch)
            self._taken()

    def _insert(self, connection: Connection, batch: Sequence[tuple[int, str, bytes]]) -> None:
        try:
            watchers.insert_events(
                connection, [row[1] for row in batch], [row[2].decode(errors="replace") for row in batch]
            )
        except (psycopg.DataError, psycopg.IntegrityError, errors.InsufficientPrivilege) as fault:
            if isinstance(fault, errors.InsufficientPrivilege) and not watchers.is_limited(fault):
                raise  # no event goes in: all wait until somebody grants it again
            if len(batch) == 1:
                self._refusals.say(batch[0][1], fault)
                return
            for row in batch:
                self._insert(connection, [row])

    def _tell_dropped(self, settings: Settings) -> None:
        def event_of(dropped: int) -> SpooledEvent:
            message = f"{dropped} events of watchers were given up while the database was away: the spool was full"
            told = {"component": "watcher", "message": message, "severity": "warning"}
            data = {**told, "dropped": dropped, "policy": settings.spool_policy}
            return self._envelopes.own("system.warning", data, datetime.now(UTC), settings.host)

        self._store.tell_dropped(event_of)
