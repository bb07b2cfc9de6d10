"""Whether notifications arrive: asked at the start, and again and again, by some that a session sends to itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from time import monotonic

from psycopg import Connection, OperationalError

from hook_event_processor.store import watch
from hook_event_processor.store.database import Database, answering

logger = logging.getLogger("HookEventProcessor")

_ANSWER_SECONDS = 2.0  # at the start
_ASK_SECONDS = 3.0
_AGAIN_SECONDS = 10.0  # without LISTEN, once there was


class Hearing:
    """What the lookout knows of notifications; `seconds` may be read from any thread."""

    def __init__(self, database: Database, *, may_listen: bool, otherwise: str) -> None:
        """`otherwise` says what is done instead where none arrive."""
        self._database = database
        self._may_listen = may_listen
        self._otherwise = otherwise
        self._asked: str | None = None
        self._heard: str | None = None
        self._heard_at: float | None = None
        self._ask_at = 0.0
        self._has_tried = False
        self.listening = False

    @property
    def seconds(self) -> float | None:
        """Since a notification last came back; None if none ever has, as behind a transaction pooler."""
        heard_at = self._heard_at
        return None if heard_at is None else monotonic() - heard_at

    @property
    def is_deaf(self) -> bool:
        """Whether it was to listen, has tried, and nothing has ever come back."""
        return self._may_listen and self._has_tried and self._heard_at is None

    def lost(self) -> None:
        """The session is gone."""
        self.listening = False
        self._asked = None

    def begin(self, connection: Connection, table: str, sleep: Callable[[Connection, float], None]) -> None:
        """Listen, and find out whether notifications arrive here. Behind a transaction pooler they do not.

        The notification comes from another session: the pooler may lend the
        same server session to one client again and again, and a session hears
        itself at once. `sleep` waits for notifications, so many seconds at most.
        """
        self.listening, self._asked = False, None
        if not self._may_listen:
            return
        watch.listen(connection, table)
        question = self._next_question()
        with self._database.session("probe") as other, answering(other):
            watch.notify(other, table, question)
        ends = monotonic() + _ANSWER_SECONDS
        while self._heard != question and (left := ends - monotonic()) > 0:
            sleep(connection, left)
        self.listening = self._heard == question
        self._has_tried = True
        self._ask_at = monotonic() + (_ASK_SECONDS if self.listening else _AGAIN_SECONDS)
        if not self.listening:
            logger.warning("no notification arrives (a transaction pooler?): %s", self._otherwise)
            watch.release_keys(connection)

    def heard(self, message: str) -> bool:
        """A notification; whether it was a question, of this processor or another."""
        if message.startswith("probe"):
            if message.startswith(f"probe {os.getpid()} {id(self)} "):
                self._heard, self._heard_at = message, monotonic()
            return True
        return False

    def question(self, now: float) -> str | None:
        """What is to be notified now, if anything is. Raises OperationalError when the last did not come back."""
        if not self.listening or now < self._ask_at:
            return None
        if self._asked is not None and self._asked != self._heard:
            raise OperationalError(f"no notification has come back for {self.seconds or 0:.0f} s")
        self._ask_at = now + _ASK_SECONDS
        self._asked = self._next_question()
        return self._asked

    def is_worth_another_try(self, now: float) -> bool:
        """Whether to begin() again: notifications did arrive once, and for a while none has."""
        return self._may_listen and not self.listening and self._heard_at is not None and now >= self._ask_at

    @property
    def ask_at(self) -> float:
        """When there is a question to ask next."""
        return self._ask_at if self.listening else float("inf")

    def _next_question(self) -> str:
        return f"probe {os.getpid()} {id(self)} {monotonic()}"
