"""Whether this daemon is the one of its host and types: file locks say so for one store, and this for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from psycopg import Connection, errors

from hook_event_processor.store import watcher_locks
from hook_event_processor.store.watcher_locks import Refused, Session
from hook_event_processor.watchers.daemon import agent
from hook_event_processor.watchers.daemon.local_store import LocalStore

logger = logging.getLogger("Watchers")

_AGAIN_SECONDS = 1.0
_IN_BOOT = " in boot "


class Standing:
    """What the database says of it. A daemon that has its locks keeps them through an outage, if nobody else asks."""

    def __init__(self, store: LocalStore, host: str, types: Sequence[str]) -> None:
        self._store = store
        self._host = host
        self._types = types
        self._note = f"session of {min(types)}"  # no other daemon of this store has that type
        self._boot = agent.boot_id()
        self._holds: Connection | None = None
        self._inherits: Connection | None = None
        self._again_at = 0.0
        self.refused: str | None = None

    def is_ours(self, connection: Connection) -> bool:
        """Whether this session has the locks of all our types now. False: `refused` is a type that another has."""
        if connection is self._holds or (connection is self._inherits and monotonic() < self._again_at):
            return True
        refused = watcher_locks.take(connection, self._host, self._types)
        if refused is not None and self._is_left_by_us(refused):
            # Our last session's connection broke, and the server has not missed it, or that session
            # hangs: nobody else has the locks as long as it does.
            with suppress(errors.InsufficientPrivilege):
                watcher_locks.end(connection, self._last_session()[0])
            self._inherits, self._again_at = connection, monotonic() + _AGAIN_SECONDS
            self._say(None)
            return True
        self._say(refused)
        if refused is not None:
            return False
        session = " ".join(map(str, watcher_locks.own_session(connection)))
        self._store.keep_note(self._note, f"{session}{_IN_BOOT}{self._boot}")
        self._holds = connection
        return True

    def _is_left_by_us(self, refused: Refused) -> bool:
        session, boot = self._last_session()
        # The note is copied with the disk: a clone of this machine has it, and the session may be its original's.
        # A machine that lost its power has another boot, too, but not another address.
        return refused.holder == session and (boot == self._boot or refused.from_here)

    def _last_session(self) -> tuple[Session, str]:
        """The session that last had our locks, and which start of the machine that was in."""
        session, _, boot = (self._store.note(self._note) or "0 ").partition(_IN_BOOT)
        pid, _, started = session.partition(" ")
        return Session(int(pid), started), boot

    def _say(self, refused: Refused | None) -> None:
        now = refused.type if refused else None
        if now and self.refused is None:
            logger.warning(
                "another daemon of %s watches %s, with another HEP_HOME or on a machine of the same HOST_NAME:"
                " waiting until it ends",
                self._host,
                now,
            )
        elif self.refused and now is None:
            logger.info("the other daemon of %s has ended", self._host)
        self.refused = now
