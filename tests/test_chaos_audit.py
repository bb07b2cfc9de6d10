"""The auditor of ops/chaos, tested by planting what it must find."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb

from hook_event_processor.store.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent))
from ops.chaos.audit import Account, Audit
from ops.chaos.effects import Effects
from ops.chaos.events import FILE, FLAKY, HTTP, PARENT, PLAIN, Numbering
from ops.chaos.flight import Blow
from ops.chaos.ledger import Ledger
from ops.chaos.load import Load
from ops.chaos.scenario import scenarios

COUNT = 100


@dataclass
class World:
    """A load that was inserted and processed without a fault, and what was noted of it."""

    connection: Connection
    ledger: Ledger
    numbering: Numbering
    effects: Effects

    def account(self, *blows: Blow) -> Account:
        return Audit(self.connection, self.ledger, self.numbering, self.effects, blows).account()

    def numbers(self, kind: object) -> list[int]:
        return [number for number in range(self.ledger.size) if self.numbering.kind(number) is kind]

    def first(self, kind: object) -> int:
        return self.numbers(kind)[0]

    def id(self, number: int) -> UUID:
        return self.numbering.id(number)

    def run(self, number: int, hook: str, result: str = "continue") -> None:
        """Record a run, as a processor does."""
        self.connection.execute(
            "INSERT INTO event_hook_executions (event_id, hook_id, hook_name, success, result, duration_ms)"
            " VALUES (%s, 1, %s, %s, %s, 1)",
            (self.id(number), hook, result == "continue", result),
        )

    def child(self, number: int) -> None:
        self.connection.execute(
            "INSERT INTO hook_events (source, action, metadata, processed, processed_at)"
            " VALUES ('chaos', 'child', %s, TRUE, now())",
            (Jsonb({"causation_id": str(self.id(number))}),),
        )

    def process(self, number: int) -> None:
        """What a processor leaves of an event that went well."""
        kind = self.numbering.kind(number)
        for hook in kind.hooks:
            self.run(number, hook)
        for _ in range(kind.children):
            self.child(number)
        if kind.effect:
            self.effects.begun(number, "p1.1")
            self.effects.ended(number, "p1.1")


@pytest.fixture
def world(connection: Connection, database: Database, tmp_path: Path) -> Iterator[World]:
    ledger, effects = Ledger(tmp_path / "ledger"), Effects(tmp_path / "effects.log", tmp_path / "effects")
    numbering = Numbering(7)
    Load(lambda: database.conninfo, ledger, numbering, 0).burst(COUNT, batch=25)
    made = World(connection, ledger, numbering, effects)
    with connection.transaction(), connection.pipeline():
        for number in range(COUNT):
            made.process(number)
        connection.execute("UPDATE hook_events SET processed = TRUE, processed_at = clock_timestamp()")
    yield made
    ledger.close()
    effects.close()


def test_a_load_that_was_processed_without_a_fault_has_no_findings(world: World) -> None:
    account = world.account()
    assert account.findings() == []
    assert (account.acknowledged, account.doubtful, account.extra, account.allowed) == (COUNT, 0, 0, 0)


def test_one_lost_event_is_found(world: World) -> None:
    number = world.first(PLAIN)
    world.connection.execute("DELETE FROM hook_events WHERE id = %s", (world.id(number),))
    account = world.account()
    assert account.lost.total == 1
    assert f"lost: 1 (event {number})" in account.findings()


def test_one_duplicate_effect_is_found(world: World) -> None:
    """An effect that was seen twice for one recorded run, though no blow had its event in flight."""
    number = world.first(HTTP)
    world.effects.begun(number, "p2.1")
    account = world.account(Blow("kill", time.time(), in_flight={number + 1}))
    assert (account.extra, account.allowed, account.unexplained.total) == (1, 1, 1)
    assert "p1.1 at " in account.unexplained.samples[0]
    assert "p2.1 at " in account.unexplained.samples[0]


def test_an_extra_effect_of_what_was_in_flight_is_allowed_once(world: World) -> None:
    number = world.first(HTTP)
    blow = Blow("kill", time.time(), in_flight={number})
    world.effects.begun(number, "p2.1")
    assert world.account(blow).findings() == []
    world.effects.begun(number, "p2.1")
    account = world.account(blow)
    assert (account.extra, account.allowed, account.unexplained.total) == (2, 1, 1)
    assert len(account.findings()) == 2


def _record_again(world: World) -> None:
    world.run(world.first(PLAIN), "plain")


def _record_a_child_again(world: World) -> None:
    [child] = world.connection.execute("SELECT id FROM hook_events WHERE action = 'child' LIMIT 1").fetchone() or (
        None,
    )
    for _ in range(2):
        world.connection.execute(
            "INSERT INTO event_hook_executions (event_id, hook_id, hook_name, success, duration_ms)"
            " VALUES (%s, 1, 'child', TRUE, 1)",
            (child,),
        )


def _leave_a_hook_out(world: World) -> None:
    world.connection.execute(
        "DELETE FROM event_hook_executions WHERE event_id = %s AND hook_name = 'steady'",
        (world.id(world.first(FLAKY)),),
    )


def _dispatch_again(world: World) -> None:
    world.child(world.first(PARENT))


def _dispatch_nothing(world: World) -> None:
    world.connection.execute(
        "DELETE FROM hook_events WHERE metadata ->> 'causation_id' = %s", (str(world.id(world.first(PARENT))),)
    )


def _dispatch_from_nowhere(world: World) -> None:
    world.connection.execute("INSERT INTO hook_events (source, action, processed) VALUES ('chaos', 'child', TRUE)")


def _leave_pending(world: World) -> None:
    _set(world, PLAIN, "processed = FALSE, processed_at = NULL")


def _leave_a_child_pending(world: World) -> None:
    world.connection.execute(
        "UPDATE hook_events SET processed = FALSE"
        " WHERE id = (SELECT id FROM hook_events WHERE action = 'child' LIMIT 1)"
    )


def _give_up(world: World) -> None:
    _set(world, PLAIN, "processed = FALSE, processed_at = NULL, failed_at = now()")


def _record_what_nobody_saw(world: World) -> None:
    [batch] = [world.ledger.reserve(100)]
    number = next(number for number in batch if world.numbering.kind(number) is FILE)
    world.ledger.acknowledged(range(number, number + 1))
    world.connection.execute(
        "INSERT INTO hook_events (id, source, action, processed, processed_at)"
        " VALUES (%s, 'chaos', 'file', TRUE, now())",
        (world.id(number),),
    )
    world.run(number, "file")


def _tear(world: World) -> None:
    """A transaction of which half is there."""
    batch = world.ledger.reserve(2)
    world.ledger.doubtful(batch)
    number = batch.start
    world.connection.execute(
        "INSERT INTO hook_events (id, source, action, processed, processed_at) VALUES (%s, 'chaos', %s, TRUE, now())",
        (world.id(number), world.numbering.kind(number).name),
    )
    world.process(number)


def _set(world: World, kind: object, columns: str) -> None:
    world.connection.execute(f"UPDATE hook_events SET {columns} WHERE id = %s", (world.id(world.first(kind)),))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (_record_again, "recorded_twice"),
        (_record_a_child_again, "recorded_twice"),
        (_leave_a_hook_out, "not_run"),
        (_dispatch_again, "children"),
        (_dispatch_nothing, "children"),
        (_dispatch_from_nowhere, "children"),
        (_leave_pending, "unfinished"),
        (_leave_a_child_pending, "unfinished"),
        (_give_up, "dead"),
        (_record_what_nobody_saw, "effect_missing"),
        (_tear, "torn"),
    ],
)
def test_what_is_planted_is_found_and_nothing_else(world: World, plant: Callable[[World], None], name: str) -> None:
    plant(world)
    account = world.account()
    assert {wrong: getattr(account, wrong).total for wrong in account.WRONG if getattr(account, wrong).total} == {
        name: 1
    }
    assert len(account.findings()) == 1


def test_a_doubtful_batch_may_be_there_or_not(world: World, database: Database) -> None:
    """A commit whose answer was lost: neither outcome is a finding, and what is there must be processed, too."""
    world.ledger.doubtful(world.ledger.reserve(10))
    batch = world.ledger.reserve(1)
    world.ledger.doubtful(batch)
    world.connection.execute(
        "INSERT INTO hook_events (id, source, action) VALUES (%s, 'chaos', %s)",
        (world.id(batch.start), world.numbering.kind(batch.start).name),
    )
    account = world.account()
    assert (account.doubtful, account.arrived) == (11, 1)
    assert [finding.partition(":")[0] for finding in account.findings()] == ["unfinished"]


def test_a_failed_run_that_was_recorded_explains_its_effect(world: World) -> None:
    number = world.first(HTTP)
    world.effects.begun(number, "p1.1")
    world.run(number, "http", "failed")
    assert world.account().children.total == 1  # what a failed run has dispatched is published all the same
    world.child(number)
    assert world.account().findings() == []


@pytest.mark.parametrize("dispatched", [True, False])
def test_a_run_that_was_cut_off_may_have_dispatched_or_not(world: World, dispatched: bool) -> None:
    number = world.first(HTTP)
    world.effects.begun(number, "p1.1")
    world.run(number, "http", "stuck")
    if dispatched:
        world.child(number)
    assert world.account().findings() == []


def test_effects_of_files_are_read_as_they_grow(tmp_path: Path) -> None:
    effects = Effects(tmp_path / "log", tmp_path / "effects")
    written = effects.root("p1.1") / "effects"
    written.write_text("begun 3 100.5\nbegun 4 10")
    effects.collect()
    assert sorted(effects.runs()) == [3]
    with written.open("a") as file:
        file.write("1.5\nended 3 100.6\n")
    effects.collect()
    assert {number: [(e.label, e.began_at) for e in seen] for number, seen in effects.runs().items()} == {
        3: [("p1.1", 100.5)],
        4: [("p1.1", 101.5)],
    }
    effects.close()


def test_numbers_and_ids_belong_together_by_seed() -> None:
    one, other = Numbering(1), Numbering(2)
    ids = [one.id(number) for number in range(1000)]
    assert [one.number(event_id) for event_id in ids] == list(range(1000))
    assert {event_id.version for event_id in ids} == {8}
    assert other.number(ids[0]) is None
    assert [Numbering(1).kind(number) for number in range(100)] == [one.kind(number) for number in range(100)]


def test_the_page_has_every_scenario() -> None:
    """docs/reliability.md says of each what ops/chaos/run --list says."""
    page = (Path(__file__).parent.parent / "docs/reliability.md").read_text().splitlines()
    listed = {f"| `{name}` | {scenario.about} |" for name, scenario in scenarios().items() if name != "soak"}
    assert {line for line in page if line.startswith("| `")} >= listed
