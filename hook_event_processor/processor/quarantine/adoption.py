"""Adoption: what processors of this host were running as they died becomes suspects, before anybody runs it again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from psycopg import Connection

from hook_event_processor.processor.batch import Sorter
from hook_event_processor.processor.quarantine.in_flight import Legacy, legacies
from hook_event_processor.processor.quarantine.keeper import Keeper
from hook_event_processor.processor.quarantine.quarantine import Picked, Quarantine
from hook_event_processor.store import arrays, suspects
from hook_event_processor.store.claim import Claim, Row
from hook_event_processor.store.database import Database
from hook_event_processor.store.pipeline import Pipeline
from hook_event_processor.store.suspects import Suspicion

logger = logging.getLogger("Quarantine")
_REST_SECONDS = 60.0
_SWEEP_SECONDS = 60.0


class Adoption:
    """Looks for the files of the dead, and takes their events over into the quarantine."""

    def __init__(
        self,
        directory: Path | None,
        database: Database,
        quarantine: Quarantine,
        keeper: Keeper,
        max_payload: int,
        sorter: Callable[[], Sorter | None],
    ) -> None:
        """`sorter` is None while everything is paused."""
        self._directory = directory
        self._database = database
        self._quarantine = quarantine
        self._keeper = keeper
        self._max_payload = max_payload
        self._sorter = sorter
        self._rests_at = self._sweep_at = 0.0
        self._pending: list[tuple[Legacy, list[Suspicion]]] = []  # with what somebody else has locked

    def look(self, connection: Connection) -> None:
        """Take over what is there, learn which hooks run apart, and forget old suspicions; `connection` autocommits."""
        if self._directory is not None:
            ours = {legacy.path for legacy, _ in self._pending}
            for legacy in legacies(self._directory, self._database, ours):
                self._pending.append((legacy, _suspicions(connection, legacy)))
        for number, (legacy, suspicions) in enumerate(self._pending):
            left = self._adopt(connection, legacy, suspicions)
            self._pending[number] = legacy, left
            if not left:
                legacy.forget()
        self._pending = [one for one in self._pending if one[1]]
        self._quarantine.learn(connection)
        now = monotonic()
        if now >= self._sweep_at:
            suspects.sweep(connection)
            self._sweep_at = now + _SWEEP_SECONDS
        self._let_rest()

    def prepare(self, connection: Connection) -> None:
        """At the start, while the process has one thread: look, and have the keeper ready if it will be needed."""
        self.look(connection)
        if self._quarantine.hooks or suspects.counts(connection).waiting:
            self._keeper.start()
            self._rests_at = monotonic() + _REST_SECONDS

    def _let_rest(self) -> None:
        """End the keeper some time after the last run in a cell."""
        now = monotonic()
        if self._quarantine.hooks or not self._quarantine.leases.idle:
            self._rests_at = now + _REST_SECONDS
        elif now >= self._rests_at:
            self._keeper.rest()

    def _adopt(self, connection: Connection, legacy: Legacy, suspicions: list[Suspicion]) -> list[Suspicion]:
        """Returns what others have locked: if they finish it, it was no poison."""
        node = legacy.left_behind.node
        arrays.register(connection)
        with connection.transaction():
            adopted = suspects.adopt(connection, node, suspicions, self._max_payload)
            picked = self._picked(connection, adopted.rows)
            self._quarantine.write(connection, picked)
        if adopted.rows:
            logger.warning("%s died while %d events ran: they run in processes of their own", node, len(adopted.rows))
            self._keeper.start()
        self._quarantine.start(picked)
        return [one for one in suspicions if one.event_id in adopted.locked]

    def _picked(self, connection: Connection, rows: Sequence[Row]) -> Picked:
        """As a lane would pick them; but what has no room is due now, for any lane."""
        claim = Claim([], [], list(rows), again=False, more_for_slots=False)
        sorter = self._sorter()
        if not rows or sorter is None:
            return Picked(claim)
        past = suspects.past(Pipeline(connection), arrays.uuids([row.id for row in rows]))
        picked = self._quarantine.pick(claim, past, sorter)
        picked.deferred = []
        return picked


def _suspicions(connection: Connection, legacy: Legacy) -> list[Suspicion]:
    names = suspects.hook_names(connection, {flight.hook_id for flight in legacy.left_behind.flights})
    return [
        Suspicion(event_id, flight.hook_id, names.get(flight.hook_id, "a hook"), flight.version, flight.apart)
        for flight in legacy.left_behind.flights
        for event_id in flight.event_ids
    ]
