"""One claim's events, sorted by how they run, and what the claim's transaction writes about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from uuid import UUID, uuid4

from hook_event_processor.event import DEFAULT_PRIORITY, GOOD
from hook_event_processor.processor.attempt import Attempts, stack_of
from hook_event_processor.processor.executor import Chunk
from hook_event_processor.processor.pace import Paces
from hook_event_processor.registry import Hook, Registry, Route, route_of
from hook_event_processor.store.ack import Failure, lease_sure_until
from hook_event_processor.store.claim import Claim, Row
from hook_event_processor.store.pauses import Held
from hook_event_processor.store.record import Child, Runs

_LAST_GOOD = 96 + GOOD


@dataclass(slots=True)
class ToLease:
    """An event that is to run in worker slots: what is left of its route, and the slots that its widest stage takes."""

    row: Row
    route: Route
    slots: int


@dataclass(slots=True)
class Batch:
    """A claim, sorted. `pure` holds hooks with their rows, urgent rows before all others, by the hooks' priorities."""

    pure: list[tuple[Hook, list[Row]]] = field(default_factory=list)
    pure_rows: list[Row] = field(default_factory=list)
    to_lease: list[ToLease] = field(default_factory=list)
    to_park: list[Row] = field(default_factory=list)
    to_hold: list[Held] = field(default_factory=list)  # only hooks that are paused are left
    held: dict[bytes, Held] = field(default_factory=dict)  # pure rows that wait for paused hooks once the others ran
    token: UUID = field(default_factory=uuid4)
    sure_until: float = field(default_factory=lease_sure_until)


class Sorter:
    """Sorts claims by routes: what is pure runs inside the claim, the rest under a lease."""

    def __init__(self, registry: Registry, paces: Paces, all_slots: int) -> None:
        self._registry = registry
        self._paces = paces
        self._all_slots = all_slots

    def sort(self, claim: Claim, succeeded: set[tuple[bytes, int]], free_slots: int) -> Batch:
        """`succeeded` are the (event, hook) pairs that need not run again; `free_slots` may be leased."""
        batch = Batch()
        # What waits for slots is older than what has just come. While it
        # waits for more slots than are free, nobody else takes those.
        for route, rows in self.by_route(claim.for_slots, succeeded):
            if not route.stages:
                self._run_or_hold(batch, route, rows)  # nothing is left to run: acknowledged as it is
                continue
            left = self._lease(batch, route, rows, free_slots, park=False)
            free_slots = left if free_slots - left == len(rows) * self._slots_of(route) else 0
        urgent = list(takewhile(lambda row: row.priority < DEFAULT_PRIORITY, claim.fresh))
        for part in (urgent, claim.fresh[len(urgent) :] + claim.due):
            free_slots = self._sort_part(batch, part, succeeded, free_slots)
        return batch

    def _sort_part(self, batch: Batch, part: list[Row], succeeded: set[tuple[bytes, int]], free_slots: int) -> int:
        """Add what is to run before the next part; returns the slots that are left."""
        # Python handlers of one name share a row of hooks, and are not the same.
        groups: dict[tuple[int, int], tuple[Hook, list[Row]]] = {}
        for route, rows in self.by_route(part, succeeded):
            if self._needs_lease(route):
                free_slots = self._lease(batch, route, rows, free_slots)
            else:
                self._run_or_hold(batch, route, rows)
                for hook in route.hooks:
                    groups.setdefault((hook.id, id(hook.code)), (hook, []))[1].extend(rows)
        batch.pure += sorted(groups.values(), key=lambda group: (group[0].priority, group[0].name))
        return free_slots

    def _run_or_hold(self, batch: Batch, route: Route, rows: list[Row]) -> None:
        if route.pauses:
            held = [held_for(row, route) for row in rows]
            if not route.stages:
                batch.to_hold += held
                return
            batch.held.update((event.event_id, event) for event in held)
        batch.pure_rows += rows

    def by_route(self, rows: Iterable[Row], succeeded: set[tuple[bytes, int]]) -> Iterable[tuple[Route, list[Row]]]:
        """The rows of each route, which is what is left of it for them."""
        groups: dict[Route, list[Row]] = {}
        events_with_success = {event_id for event_id, _ in succeeded}
        for row in rows:
            routes = self._registry.routes(row.source, row.action)
            route = routes.common or routes.of(stack_of(row))
            if row.id in events_with_success:
                route = route_of(
                    (hook for hook in route.hooks if (row.id, hook.id) not in succeeded),
                    [pause for pause in route.pauses if (row.id, pause[0]) not in succeeded],
                )
            group = groups.get(route)
            if group is None:
                groups[route] = [row]
            else:
                group.append(row)
        return groups.items()

    def _needs_lease(self, route: Route) -> bool:
        return route.effectful or any(self._paces.of(hook.id, hook.version).slow for hook in route.hooks)

    def _lease(self, batch: Batch, route: Route, rows: Sequence[Row], free_slots: int, *, park: bool = True) -> int:
        """Lease what fits; what does not is parked, or left where it is. Returns the slots that are left."""
        slots = self._slots_of(route)
        fitting = min(len(rows), free_slots // slots)
        batch.to_lease += [ToLease(row, route, slots) for row in rows[:fitting]]
        if park:
            batch.to_park += rows[fitting:]
        return free_slots - fitting * slots

    def _slots_of(self, route: Route) -> int:
        return min(route.width, self._all_slots)


@dataclass(slots=True)
class Verdict:
    """What the transaction writes about the pure rows of a batch."""

    runs: Runs = field(default_factory=Runs)
    done: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    children: list[tuple[bytes, Child]] = field(default_factory=list)  # with the event that they come from
    to_park: list[Row] = field(default_factory=list)  # an unfinished run, or one to wait with: in a slot from now on
    to_postpone: list[Row] = field(default_factory=list)  # not begun: to be claimed again as they are
    to_hold: list[Held] = field(default_factory=list)  # done but for hooks that are paused

    def part(self, rows: Iterable[Row]) -> Verdict:
        """What is written about these events, of those that are done or have failed."""
        ids = {row.id for row in rows}
        return Verdict(
            self.runs.only(ids),
            [row for row in self.done if row.id in ids],
            [failure for failure in self.failures if failure.event_id in ids],
            [(parent, child) for parent, child in self.children if parent in ids],
            to_hold=[held for held in self.to_hold if held.event_id in ids],
        )

    def add(self, part: Verdict) -> None:
        """Take over what was written about other events."""
        for index, number in enumerate(part.runs.hook_numbers):
            one = slice(index, index + 1)
            self.runs.add(
                part.runs.hooks[number - 1],
                part.runs.event_ids[one],
                part.runs.attempts[one],
                part.runs.codes[one],
                part.runs.durations[one],
                part.runs.outputs[one],
                part.runs.errors[one],
            )
        self.done += part.done
        self.failures += part.failures
        self.children += part.children
        self.to_hold += part.to_hold


def judge(
    batch: Batch, finished: Sequence[Chunk], overran: Sequence[Chunk], unbegun: Sequence[Chunk], attempts: Attempts
) -> Verdict:
    """Turn the results of a batch's chunks into what is written.

    The runs that finished are recorded in any case; an event with one that
    overran, or did not begin, is left to a later claim.
    """
    verdict = _judged(batch, finished, overran, unbegun, attempts)
    if batch.held:
        verdict.to_hold = [batch.held[row.id] for row in verdict.done if row.id in batch.held]
        verdict.done = [row for row in verdict.done if row.id not in batch.held]
    return verdict


def held_for(row: Row, route: Route) -> Held:
    """The row as it waits for the pauses of its route."""
    return Held(row.id, row.seq, tuple(pause_id for _, pause_id in route.pauses))


def _judged(
    batch: Batch, finished: Sequence[Chunk], overran: Sequence[Chunk], unbegun: Sequence[Chunk], attempts: Attempts
) -> Verdict:
    verdict = Verdict()
    failed: dict[bytes, list[tuple[Hook, bytes]]] = {}
    by_id: dict[bytes, Row] = {}
    for chunk in finished:
        _add_runs(verdict, chunk, attempts, failed, by_id)
    late = {row.id: row for chunk in overran for row in chunk.rows}
    waiting = {row.id: row for chunk in unbegun for row in chunk.rows if row.id not in late}
    verdict.to_park, verdict.to_postpone = list(late.values()), list(waiting.values())
    if not failed and not late and not waiting:
        verdict.done = batch.pure_rows
        return verdict
    left = late.keys() | waiting.keys()
    verdict.done = [row for row in batch.pure_rows if row.id not in failed and row.id not in left]
    for event_id, hooks in failed.items():
        if event_id not in left:
            failure = attempts.failure(by_id[event_id], hooks, needs_slot=False)
            verdict.failures.append(failure)
            letter = attempts.dead_letter(by_id[event_id], failure, hooks)
            verdict.children += [(event_id, letter)] if letter else []
    return verdict


def _add_runs(
    verdict: Verdict,
    chunk: Chunk,
    attempts: Attempts,
    failed: dict[bytes, list[tuple[Hook, bytes]]],
    by_id: dict[bytes, Row],
) -> None:
    result, rows = chunk.result, chunk.rows
    assert result is not None  # noqa: S101 - it has finished
    verdict.runs.add(
        chunk.hook,
        [row.id for row in rows],
        [row.attempt for row in rows],
        result.codes,
        result.durations,
        result.outputs,
        result.errors,
    )
    if max(result.codes) > _LAST_GOOD:
        for row, code, error in zip(rows, result.codes, result.errors, strict=True):
            if code > _LAST_GOOD:
                failed.setdefault(row.id, []).append((chunk.hook, error or b""))
                by_id[row.id] = row
    if result.accessed:
        verdict.children += attempts.own_events(rows, chunk.hook, result)
    for index, dispatched in result.dispatched.items():
        row = rows[index]
        verdict.children += [(row.id, attempts.child(row, chunk.hook, item)) for item in dispatched]
