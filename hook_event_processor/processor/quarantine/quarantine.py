"""The quarantine: which events run in cells, under leases of their own, and what their ends tell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, sleep
from uuid import UUID, uuid4

from psycopg import Connection

from hook_event_processor.processor.attempt import Attempts
from hook_event_processor.processor.batch import Batch, Sorter, ToLease
from hook_event_processor.processor.lease_recording import Finished, LeaseRecorder, Written
from hook_event_processor.processor.leases import Leases
from hook_event_processor.registry import Route
from hook_event_processor.store import ack, suspects
from hook_event_processor.store.claim import Claim, Row
from hook_event_processor.store.suspects import Past, Suspicion

logger = logging.getLogger("Quarantine")

CELLS = 4
# Events that wait here for a cell. What finds no room comes back a little later.
ROOM = 500
DEFERRED_SECONDS = 2.0
# A cell that died with its processor is no proof, however often MAX_RETRY_COUNT lets others try; this often it is.
SPENT_DEATHS = 10
_LOOK_SECONDS = 0.01


@dataclass(slots=True)
class Picked:
    """Of a claim: what runs in cells, what is to wait for room there, and all the others."""

    rest: Claim
    items: list[ToLease] = field(default_factory=list)
    deferred: list[Row] = field(default_factory=list)
    token: UUID = field(default_factory=uuid4)
    sure_until: float = field(default_factory=ack.lease_sure_until)


class Quarantine:
    """Where lanes leave suspects, and all events of hooks that have ended several processes."""

    def __init__(self, node: str, attempts: Attempts) -> None:
        self._node = node
        self._attempts = attempts
        self._spent: set[bytes] = set()
        self.hooks: frozenset[int] = frozenset()  # that run apart altogether
        self.recorder = SuspectRecorder(node, attempts, self.learn)
        self.leases: Leases  # set by whoever builds it: its runs are done in cells

    def learn(self, connection: Connection) -> None:
        """Read which hooks run apart."""
        hooks = suspects.deadly_hooks(connection)
        for hook_id in hooks - self.hooks:
            logger.error("several events of hook %d have each ended a process: all its runs have their own", hook_id)
        for hook_id in self.hooks - hooks:
            logger.info("hook %d runs among the others again", hook_id)
        self.hooks = hooks

    def pick(self, claim: Claim, past: Past, sorter: Sorter) -> Picked:
        """Take out of the claim what runs in cells; nothing is looked at while nothing is suspected."""
        picked = Picked(claim)
        if not past.suspects and not self.hooks:
            return picked
        room = max(self.leases.free, 0)
        taken: set[bytes] = set()
        for route, rows in sorter.by_route(claim.rows, past.succeeded):
            for row in rows if route.stages else ():
                if row.id in past.suspects or not self.hooks.isdisjoint([hook.id for hook in route.hooks]):
                    taken.add(row.id)
                    if len(picked.items) < room:
                        picked.items.append(self._item(row, route, past.suspects.get(row.id, 0)))
                    else:
                        picked.deferred.append(row)
        if taken:
            fresh, due, for_slots = (_without(taken, rows) for rows in (claim.fresh, claim.due, claim.for_slots))
            picked.rest = replace(claim, fresh=fresh, due=due, for_slots=for_slots)
        return picked

    def _item(self, row: Row, route: Route, deaths: int) -> ToLease:
        """A suspect has a run of its own in any case: the attempts before may have ended by somebody else's fault."""
        before = row._replace(attempt=row.attempt - 1)
        if deaths >= SPENT_DEATHS and self._attempts.exhausted(before, [(hook, b"") for hook in route.hooks]):
            self._spent.add(row.id)
        else:
            self._spent.discard(row.id)
        return ToLease(row, route, 1)

    def spent(self, row: Row) -> bool:
        """Whether it has ended too many processes, its own or with them the processor, and no attempt is left."""
        return row.id in self._spent

    def write(self, connection: Connection, picked: Picked) -> None:
        """In the claim's transaction."""
        ack.leased(connection, [item.row.id for item in picked.items], picked.token, self._node)
        suspects.defer(connection, [row.id for row in picked.deferred], DEFERRED_SECONDS)

    def start(self, picked: Picked) -> None:
        """The transaction is committed."""
        if picked.items:
            self.leases.give_back(-len(picked.items))
            self.leases.start(Batch(to_lease=picked.items, token=picked.token, sure_until=picked.sure_until))

    def await_verdicts(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Wait until all that is in cells has ended, but no longer than this."""
        ends = monotonic() + seconds
        while not self.leases.idle and monotonic() < ends:
            meanwhile()
            sleep(_LOOK_SECONDS)


def _without(taken: Container[bytes], rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.id not in taken]


class SuspectRecorder(LeaseRecorder):
    """Records runs in cells: also who has ended one, and who is a suspect no more."""

    def __init__(self, node: str, attempts: Attempts, learn: Callable[[Connection], None]) -> None:
        super().__init__(node, attempts)
        self._learn = learn

    def _write(
        self,
        connection: Connection,
        finished: Sequence[Finished],
        written: Written,
        *,
        tell: bool = True,
    ) -> None:
        super()._write(connection, finished, written, tell=tell)
        ours = [one for one in finished if one.event.row.id not in written.lost | written.locked]
        died = {one.event.row.id: one for one in ours if is_deadly(one.result.errors[0])}
        deadly = [_suspicion(one) for one in died.values()]
        suspects.suspect(connection, deadly, self._node)
        suspects.clear(connection, [one.event.row.id for one in ours if one.last and not _stays(one)])
        if deadly:
            self._learn(connection)


def _suspicion(one: Finished) -> Suspicion:
    return Suspicion(one.event.row.id, one.hook.id, one.hook.name, one.hook.version, apart=True)


def _stays(one: Finished) -> bool:
    """Whether the event is a suspect still: a stage of it has ended its process, or had none."""
    errors = [one.result.errors[0] or b"", *(error for _, error in one.event.failed)]
    return any(is_deadly(error) or error.startswith(suspects.NO_CELL.encode()) for error in errors)


def is_deadly(error: bytes | None) -> bool:
    """Whether a run ended so that among others it would have ended the processor: by its death, or by being killed."""
    return error is not None and (error.startswith(suspects.DIED.encode()) or error.endswith(suspects.KILLED.encode()))
