"""The auditor: it holds the database's word against the ledger's, for every event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID

from psycopg import Connection

from ops.chaos.effects import Effect, Effects
from ops.chaos.events import Kind, Numbering
from ops.chaos.flight import Blow
from ops.chaos.ledger import ACKNOWLEDGED, Ledger

_EVENTS = """
SELECT id, processed, failed_at IS NOT NULL FROM hook_events WHERE source = 'chaos' AND action <> 'child'
"""
_RUNS = """
SELECT event_id, hook_name, count(*) FILTER (WHERE success), count(*) FILTER (WHERE success OR result = 'failed'),
       count(*)
FROM event_hook_executions GROUP BY event_id, hook_name
"""
# Children are found by who caused them: their ids are the database's.
_CHILDREN = """
SELECT (metadata ->> 'causation_id')::uuid, count(*), count(*) FILTER (WHERE processed)
FROM hook_events WHERE source = 'chaos' AND action = 'child' GROUP BY 1
"""
_STORY = """
SELECT attempt, node, extract(epoch FROM executed_at)::float8, duration_ms
FROM event_hook_executions WHERE event_id = %s AND hook_name IN ('http', 'file') ORDER BY id
"""
_FETCHED = 10_000
_SAMPLES = 5

# What is known of an event, as bits in one byte.
_ACKNOWLEDGED, _DOUBTFUL, _THERE, _PROCESSED, _DEAD = 1, 2, 4, 8, 16


@dataclass(slots=True)
class Count:
    """How many events something holds of, and the first few of them."""

    total: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.total += 1
        if len(self.samples) < _SAMPLES:
            self.samples.append(what)


@dataclass(slots=True)
class Account:
    """What became of the events. All but the first four, and `extra` within `allowed`, must be zero."""

    acknowledged: int = 0
    doubtful: int = 0  # sent without an answer
    arrived: int = 0  # doubtful ones that are there
    extra: int = 0  # effects seen beyond the recorded runs
    allowed: int = 0  # runs in flight at the blows
    lost: Count = field(default_factory=Count)  # acknowledged, and not there
    torn: Count = field(default_factory=Count)  # batches of which a part is there
    unfinished: Count = field(default_factory=Count)
    dead: Count = field(default_factory=Count)  # attempts used up
    not_run: Count = field(default_factory=Count)  # processed, and a hook has no recorded success
    recorded_twice: Count = field(default_factory=Count)  # two successes of a hook for an event
    children: Count = field(default_factory=Count)  # more or fewer dispatched events than one a success
    effect_missing: Count = field(default_factory=Count)  # a recorded success whose effect nobody saw
    unexplained: Count = field(default_factory=Count)  # extra effects of what was not in flight at any blow

    WRONG = (
        "lost", "torn", "unfinished", "dead", "not_run", "recorded_twice", "children", "effect_missing", "unexplained",
    )  # fmt: skip

    def add(self, other: Account) -> None:
        """Take over what became of other events."""
        for name in ("acknowledged", "doubtful", "arrived", "extra", "allowed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in self.WRONG:
            mine, theirs = getattr(self, name), getattr(other, name)
            mine.total += theirs.total
            mine.samples = (mine.samples + theirs.samples)[:_SAMPLES]

    def findings(self, forgiven: Collection[str] = ()) -> list[str]:
        """What must not be, in words, but for some of WRONG."""
        counts = ((name, getattr(self, name)) for name in self.WRONG if name not in forgiven)
        found = [
            f"{name.replace('_', ' ')}: {count.total} ({'; '.join(count.samples)})"
            for name, count in counts
            if count.total
        ]
        if self.extra > self.allowed:
            found.append(f"extra effects: {self.extra}, with {self.allowed} runs in flight at the blows")
        return found


class _Runs(NamedTuple):
    """Recorded runs of a hook for an event: those that succeeded, those whose function came to its end, and all."""

    successes: int = 0
    returned: int = 0
    all: int = 0


class Audit:
    """Reads both ledgers and the database; change nothing while it does."""

    def __init__(
        self, connection: Connection, ledger: Ledger, numbering: Numbering, effects: Effects, blows: Sequence[Blow]
    ) -> None:
        """`connection` is in autocommit."""
        self._connection = connection
        self._ledger = ledger
        self._numbering = numbering
        self._effects = effects
        self._blows = blows
        # By how far an event's number is from the first.
        self._known = bytearray(ledger.size - ledger.first)
        self._succeeded = bytearray(ledger.size - ledger.first)  # hooks with a success
        self._runs: dict[int, _Runs] = {}  # of the effectful hook

    def account(self) -> Account:
        """All of it."""
        account = Account()
        self._read_ledger(account)
        self._read_events(account)
        self._read_runs(account)
        self._judge_events(account)
        self._judge_batches(account)
        self._judge_children(account)
        self._effects.collect()
        self._judge_effects(account)
        return account

    def _read_ledger(self, account: Account) -> None:
        account.acknowledged, account.doubtful = self._ledger.acknowledged_count, self._ledger.doubtful_count
        for word, batch in self._ledger.batches():
            bit = _ACKNOWLEDGED if word == ACKNOWLEDGED else _DOUBTFUL
            for number in batch:
                self._known[number - self._ledger.first] |= bit

    def _read_events(self, account: Account) -> None:
        for event_id, processed, dead in self._rows(_EVENTS):
            number = self._numbering.number(event_id)
            if not self._was_sent(number):
                account.torn.add(f"event {event_id} was never sent")
                continue
            self._known[number - self._ledger.first] |= (
                _THERE | (_PROCESSED if processed else 0) | (_DEAD if dead else 0)
            )

    def _read_runs(self, account: Account) -> None:
        for event_id, hook, successes, returned, runs in self._rows(_RUNS):
            number = self._numbering.number(event_id)
            if successes > 1:
                account.recorded_twice.add(f"{hook} for {_name(number, event_id)}: {successes} times")
            if not self._was_sent(number):
                continue
            kind = self._numbering.kind(number)
            if successes and hook in kind.hooks:
                self._succeeded[number - self._ledger.first] += 1
            if hook == kind.effect:
                self._runs[number] = _Runs(successes, returned, runs)

    def _judge_events(self, account: Account) -> None:
        for number, known in enumerate(self._known, self._ledger.first):
            if not known & _THERE:
                if known & _ACKNOWLEDGED:
                    account.lost.add(_name(number))
                continue
            if known & _DOUBTFUL:
                account.arrived += 1
            if known & _DEAD:
                account.dead.add(_name(number))
            elif not known & _PROCESSED:
                account.unfinished.add(_name(number))
            elif self._succeeded[number - self._ledger.first] < len(self._numbering.kind(number).hooks):
                account.not_run.add(f"{self._numbering.kind(number).name} {_name(number)}")

    def _judge_batches(self, account: Account) -> None:
        for _, batch in self._ledger.batches():
            there = sum(1 for number in batch if self._known[number - self._ledger.first] & _THERE)
            if there not in (0, len(batch)):
                account.torn.add(f"{there} of {len(batch)} from {_name(batch.start)}")

    def _judge_children(self, account: Account) -> None:
        found: dict[int, int] = {}
        for parent, children, processed in self._rows(_CHILDREN):
            number = self._numbering.number(parent) if parent is not None else None
            if not self._was_sent(number):
                account.children.add(f"{children} of {parent}, which is no event of the load")
                continue
            found[number] = children
            if processed < children:
                account.unfinished.add(f"child of {_name(number)}")
        for number in self._with(_PROCESSED):
            kind = self._numbering.kind(number)
            fewest, most = self._expected_children(number, kind)
            if not fewest <= found.get(number, 0) <= most:
                account.children.add(f"{found.get(number, 0)} instead of {most} of {kind.name} {_name(number)}")

    def _expected_children(self, number: int, kind: Kind) -> tuple[int, int]:
        """The fewest and the most."""
        if not kind.effect or not kind.children:
            return kind.children, kind.children
        # What a failed run has dispatched is published all the same; one that was cut off may have dispatched nothing.
        runs = self._runs.get(number, _Runs())
        return runs.returned, runs.all

    def _judge_effects(self, account: Account) -> None:
        in_flight: dict[int, int] = {}
        for blow in self._blows:
            account.allowed += len(blow.in_flight)
            for number in blow.in_flight:
                in_flight[number] = in_flight.get(number, 0) + 1
        begun: Mapping[int, Sequence[Effect]] = self._effects.runs()
        for number, effects in begun.items():
            extra = len(effects) - self._runs.get(number, _Runs()).all
            if extra > 0:
                account.extra += extra
            if extra > in_flight.get(number, 0):
                account.unexplained.add(self._story(number, effects))
        for number, runs in self._runs.items():
            if runs.successes and not begun.get(number):
                account.effect_missing.add(f"{self._numbering.kind(number).name} {_name(number)}")

    def _story(self, number: int, effects: Sequence[Effect]) -> str:
        """When its effects began, and what is recorded."""
        seen = ", ".join(f"{effect.label} at {effect.began_at:.3f}" for effect in effects)
        runs = self._connection.execute(_STORY, (self._numbering.id(number),)).fetchall()
        recorded = ", ".join(f"attempt {run[0]} by {run[1]} at {run[2]:.3f} for {run[3]:.0f} ms" for run in runs)
        return f"{self._numbering.kind(number).name} {_name(number)}: seen {seen}; recorded {recorded or 'nothing'}"

    def _with(self, bit: int) -> Iterable[int]:
        return (number for number, known in enumerate(self._known, self._ledger.first) if known & bit)

    def _was_sent(self, number: int | None) -> TypeGuard[int]:
        return number is not None and self._ledger.first <= number < self._ledger.size

    def _rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that may have millions, a few thousand at a time."""
        with self._connection.transaction(), self._connection.cursor(name="audit") as cursor:
            cursor.itersize = _FETCHED
            yield from cursor.execute(statement)


def _name(number: int | None, event_id: UUID | None = None) -> str:
    return f"event {number}" if number is not None else f"event {event_id}"
