"""Where claims read on: behind what others have read, and again where rows were committed late. No row is missed."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection
from running import all_processed, insert, running
from waiting import wait_for

from hook_event_processor.processor.housekeeping import Housekeeping
from hook_event_processor.processor.lookout import Lookout
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.pace import Paces
from hook_event_processor.processor.report import Report
from hook_event_processor.settings import Settings
from hook_event_processor.store import arrays, processors
from hook_event_processor.store.claim import Claim, Claims
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import FULL_PASS_SECONDS, LOOK_SECONDS, WRITERS, Frontier, Read, Writer
from hook_event_processor.store.pipeline import Pipeline
from hook_event_processor.telemetry.metrics import Metrics
from hook_event_processor.telemetry.runs import RunLog
from hook_event_processor.telemetry.watchdog import Progress

INSERT = "INSERT INTO hook_events (source, action) SELECT 'task', 'done' FROM generate_series(1, %s) RETURNING seq"


class Clock:
    """Monotonic seconds that pass by themselves, one look's at a time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += LOOK_SECONDS
        return self.now


@contextmanager
def _reading(frontier: Frontier, now: float, *, at_end: bool = False) -> Iterator[Read]:
    with frontier.read(now, at_end=at_end) as read:
        if read.full:
            frontier.from_floor(read, 0)
        yield read


def _writers(*ids: str) -> list[Writer]:
    return [Writer(id_, prepared=id_.startswith("-1/")) for id_ in ids]


def _read(frontier: Frontier, now: float, upto: int, *writers: str, last: int = 0, to_the_end: bool = False) -> int:
    """A claim that reads up to a seq, while these write and `last` was given; returns where it began."""
    with _reading(frontier, now) as read:
        if read.looks:
            frontier.looked(read, last or upto, _writers(*writers))
        frontier.ended(read, upto, to_the_end=to_the_end)
        return read.start


def test_a_read_goes_on_behind_what_others_have_read() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 0)
    with ExitStack() as stack:
        one, other = (stack.enter_context(_reading(frontier, clock.now)) for _ in range(2))
        frontier.ended(one, 2000, to_the_end=False)
        frontier.ended(other, 1500, to_the_end=False)
    assert _read(frontier, clock.now, 3000) == 2000


def test_what_ended_since_the_last_look_is_read_again_once() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", last=1000)  # the writer's seqs are above 10
    assert frontier.settled == 10
    _read(frontier, clock(), 2000, "3/7", last=2000)
    assert frontier.settled == 10
    _read(frontier, clock(), 3000, last=3000)
    assert frontier.settled == 3000
    assert frontier.has_more
    assert frontier.lowest == 10
    assert _read(frontier, clock.now, 3000) == 10
    assert not frontier.has_more
    assert _read(frontier, clock.now, 3100) == 3000


def test_what_is_read_again_is_read_in_parts_by_one_claim_at_a_time() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", last=1000)
    _read(frontier, clock(), 2000, last=2000)
    with _reading(frontier, clock.now) as again, _reading(frontier, clock.now) as other:
        assert (again.start, other.start) == (10, 2000)
        assert not frontier.has_more
        assert frontier.lowest == 10
        frontier.ended(other, 2500, to_the_end=False)
        frontier.ended(again, 700, to_the_end=False)
    assert frontier.has_more
    assert _read(frontier, clock.now, 2000) == 700
    assert not frontier.has_more


def test_what_is_to_be_read_again_for_several_reasons_is_read_from_the_lowest() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", "3/8", last=1000)
    _read(frontier, clock(), 2000, "3/8", last=2000)
    with _reading(frontier, clock.now) as again:
        assert again.start == 10
        _read(frontier, clock(), 3000, last=3000)
        _read(frontier, clock(), 4000, last=3500)
        _read(frontier, clock(), 5000, last=5000)  # 3501 to 4000 had been read before
        frontier.ended(again, 0, to_the_end=True)
    assert _read(frontier, clock.now, 3000) == 10
    assert _read(frontier, clock.now, 4000) == 3000
    assert not frontier.has_more


def test_a_read_that_began_before_the_look_is_read_again_where_rows_may_have_come_late() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 200, last=100)
    with _reading(frontier, clock.now) as early:
        _read(frontier, clock(), 150, last=400)  # of those that began after the last look the seqs are above 100
        assert _read(frontier, clock.now, 250) == 100
        assert not frontier.has_more
        frontier.ended(early, 300, to_the_end=False)
    assert _read(frontier, clock.now, 400) == 200


def test_of_a_backlog_that_is_far_behind_the_inserts_nothing_is_read_twice() -> None:
    frontier, clock = Frontier(), Clock()
    for number in range(1, 20):
        with _reading(frontier, clock.now) as slow:
            start = _read(frontier, clock(), number * 1000, f"3/{number}", last=10**6 + number)
            assert start == (number - 1) * 1000
            frontier.ended(slow, number * 1000 - 500, to_the_end=False)
        assert not frontier.has_more


def test_a_prepared_transaction_is_the_one_that_it_was() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", last=1000)
    _read(frontier, clock(), 2000, "-1/811", last=2000)
    assert frontier.settled == 10
    _read(frontier, clock(), 3000, last=3000)
    assert frontier.settled == 3000
    assert _read(frontier, clock.now, 3000) == 10


def test_near_the_end_reads_begin_where_rows_may_come_at_any_moment() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 20, "3/7", last=20)
    with _reading(frontier, clock.now, at_end=True) as read:
        assert read.start == frontier.lowest == 10
        frontier.ended(read, 0, to_the_end=True)
    _read(frontier, clock(), 20, last=20)
    assert _read(frontier, clock.now, 20) == 10
    assert frontier.lowest == 20
    assert frontier.at_rest


def test_there_is_no_rest_before_all_inserts_are_known_to_have_ended() -> None:
    frontier, clock = Frontier(), Clock()
    assert frontier.at_rest
    _read(frontier, clock(), 20, "3/7", last=20)
    assert not frontier.at_rest
    _read(frontier, clock(), 20, last=20)
    assert not frontier.at_rest
    _read(frontier, clock(), 20, last=20, to_the_end=True)
    assert frontier.at_rest
    _read(frontier, clock.now, 21, to_the_end=True)
    assert not frontier.at_rest


def test_a_full_pass_reads_all_behind_the_tables_floor() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 5000)
    frontier.full_pass()
    assert _read(frontier, clock(), 4000, last=5000) == 0
    assert _read(frontier, clock(), 5000) == 4000
    assert _read(frontier, clock(), 5500) == 5000
    assert _read(frontier, clock() + FULL_PASS_SECONDS, 6000) == 0


def test_a_table_that_counts_anew_is_read_from_its_floor() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 5000)
    _read(frontier, clock(), 6000, last=3)
    assert frontier.has_more
    assert _read(frontier, clock(), 3) == 0
    assert _read(frontier, clock(), 4) == 3


def test_a_table_that_counts_anew_has_nothing_settled_yet() -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        _read(frontier, clock(), 5000)
    assert frontier.settled == 5000
    _read(frontier, clock(), 6000, last=3)
    assert frontier.settled == 0


def test_a_transaction_that_was_prepared_during_the_look_is_seen_by_both_names() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", last=1000)
    _read(frontier, clock(), 2000, "3/7", "-1/811", last=2000)
    _read(frontier, clock(), 3000, "-1/811", last=3000)
    assert frontier.settled == 10
    assert _read(frontier, clock(), 3000) == 10
    assert _read(frontier, clock(), 4000) == 10


def test_what_was_let_go_waits_as_far_as_anybody_knows() -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        _read(frontier, clock(), 5000)
    assert frontier.lowest == 5000
    _read(frontier, clock(), 6000, "3/7", last=6000)
    _read(frontier, clock(), 6000, last=6000)
    frontier.forget()
    assert frontier.lowest == 0
    assert frontier.has_more
    assert _read(frontier, clock.now, 5000) == 0
    assert not frontier.has_more


def test_another_server_may_have_given_less() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 5000)
    _read(frontier, clock(), 5000, "3/7", last=5000)
    with _reading(frontier, clock()) as of_the_old:
        frontier.forget()
        _read(frontier, clock.now, 4000, "3/7", last=4500)
        frontier.looked(of_the_old, 5000, [])
        frontier.ended(of_the_old, 6000, to_the_end=False)
    _read(frontier, clock(), 4700, "3/7", "3/8", last=5500)
    assert frontier.settled == 0
    _read(frontier, clock(), 5500, "3/8", last=5500)
    assert frontier.settled == 4500
    assert _read(frontier, clock(), 6000, last=6000) == 0
    assert _read(frontier, clock.now, 6000) == 4500


def test_a_read_of_before_does_not_say_where_the_table_begins() -> None:
    frontier, clock = Frontier(), Clock()
    with frontier.read(clock(), at_end=False) as of_the_old:
        frontier.forget()
        frontier.from_floor(of_the_old, 900)
        assert of_the_old.start == 900
        assert frontier.has_more


def test_a_look_that_is_asked_for_during_another_follows_it() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    with _reading(frontier, clock()) as early:
        frontier.look_next()
        with _reading(frontier, clock.now) as other:
            assert not other.looks
            assert not frontier.has_more
        frontier.looked(early, 20, [])
    assert frontier.has_more
    with _reading(frontier, clock.now) as read:
        assert read.looks
    assert not frontier.has_more


def test_whether_there_is_more_can_be_asked_while_reads_begin_and_end() -> None:
    frontier, clock = Frontier(), Clock()
    _read(frontier, clock(), 10)
    _read(frontier, clock(), 1000, "3/7", last=1000)
    _read(frontier, clock(), 2000, last=2000)
    ends = monotonic() + 0.5

    def read() -> None:
        while monotonic() < ends:
            with frontier.read(clock.now, at_end=False):
                pass

    readers = [threading.Thread(target=read) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with _reading(frontier, clock.now):  # it reads again
            _read(frontier, clock(), 3000, "3/8", last=3000)
            _read(frontier, clock(), 4000, last=4000)  # and so will another
            for reader in readers:
                reader.start()
            while monotonic() < ends:
                assert not frontier.has_more
            for reader in readers:
                reader.join()
        assert frontier.has_more
    finally:
        sys.setswitchinterval(interval)


@dataclass
class _Transaction:
    """`seqs` empty: it has rolled back to before its inserts, and holds no lock."""

    name: str
    seqs: list[int] = field(default_factory=list)


@dataclass
class _Lane:
    at_end: bool = False
    stack: ExitStack = field(default_factory=ExitStack)
    read: Read | None = None
    answer: tuple[int, list[Writer], list[int]] | None = None  # what the server said
    is_taken_in: bool = False  # the answer; its rows are locked until the lane commits
    is_cut: bool = False  # the server is gone, which it has not noticed yet


class _Model:
    """A server, its writers, and lanes whose claims are sent, answered and taken in at different moments."""

    LIMIT = 3

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.lanes = [_Lane() for _ in range(3)]
        self.running: list[_Transaction] = []
        self.committed: set[int] = set()
        self.claimed: set[int] = set()
        self.last = 0
        self.begun = 0
        self.now = 100.0

    def insert(self, which: int) -> None:
        if which >= len(self.running):
            self.begun += 1
            self.running.append(_Transaction(f"3/{self.begun}"))
        self.last += 1
        self.running[min(which, len(self.running) - 1)].seqs.append(self.last)

    def end(self, which: int, *, commits: bool) -> None:
        if self.running:
            ended = self.running.pop(which % len(self.running))
            self.committed.update(ended.seqs if commits else ())

    def prepare(self, which: int) -> None:
        if self.running:
            prepared = self.running[which % len(self.running)]
            prepared.name = prepared.name if prepared.name.startswith("-1/") else f"-1/{prepared.name[2:]}"

    def to_savepoint(self, which: int) -> None:
        if self.running:
            partly = self.running[which % len(self.running)]
            if not partly.name.startswith("-1/"):
                del partly.seqs[which:]

    def step(self, lane: _Lane) -> None:
        if lane.read is None:
            lane.read = lane.stack.enter_context(_reading(self.frontier, self.now, at_end=lane.at_end))
        elif lane.answer is None:
            if lane.is_cut:
                self.fail(lane)
                return
            waiting_rows = sorted(seq for seq in self.committed - self.claimed if seq > lane.read.start)
            self.claimed.update(waiting_rows[: self.LIMIT])
            writers = _writers(*(transaction.name for transaction in self.running if transaction.seqs))
            lane.answer = (self.last, writers, waiting_rows[: self.LIMIT])
        elif not lane.is_taken_in:
            last, writers, rows = lane.answer
            if lane.read.looks:
                self.frontier.looked(lane.read, last, writers)
            lane.at_end = len(rows) < self.LIMIT
            self.frontier.ended(lane.read, rows[-1] if rows else 0, to_the_end=lane.at_end)
            lane.stack.close()
            lane.is_taken_in = True
        elif lane.is_cut:
            self.fail(lane)
        else:
            lane.read, lane.answer, lane.is_taken_in = None, None, False

    def fail(self, lane: _Lane) -> None:
        """Whatever the lane was about, it has come to nothing."""
        if lane.answer is not None and not lane.is_cut:
            self.claimed.difference_update(lane.answer[2])
        lane.stack.close()
        lane.read, lane.answer = None, None
        lane.at_end = lane.is_taken_in = lane.is_cut = False
        self.frontier.forget()

    def fail_over(self, which: int) -> None:
        """To a server that has not heard of the last commits; the housekeeping notices before it raises a floor."""
        self.running.clear()
        for lane in self.lanes:
            if lane.answer is not None and not lane.is_cut:
                self.claimed.difference_update(lane.answer[2])
            lane.is_cut = True
        self.last = max(self.last - which * self.LIMIT, 0)
        self.committed = {seq for seq in self.committed if seq <= self.last}
        self.claimed &= self.committed
        self.frontier.forget()

    def claim(self, lane: _Lane) -> bool:
        """A claim, or the rest of one; whether there was anything to claim."""
        before = len(self.claimed)
        self.step(lane)
        while lane.read is not None:
            self.step(lane)
        return len(self.claimed) > before

    def pass_time(self) -> None:
        self.now += LOOK_SECONDS


_MOVES: dict[str, Callable[[_Model, int], None]] = {
    "insert": _Model.insert,
    "commit": partial(_Model.end, commits=True),
    "abort": partial(_Model.end, commits=False),
    "prepare": _Model.prepare,
    "to_savepoint": _Model.to_savepoint,
    "fail": lambda model, which: model.fail(model.lanes[which % 3]),
    "fail_over": _Model.fail_over,
    "step": lambda model, which: model.step(model.lanes[which % 3]),
    "step_on": lambda model, which: model.step(model.lanes[which % 3]),
    "time": lambda model, _: model.pass_time(),
}


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(_MOVES)), st.integers(0, 3)), min_size=30, max_size=150))
def test_every_row_is_claimed_whenever_it_is_committed(moves: list[tuple[str, int]]) -> None:
    model = _Model()
    for name, which in moves:
        _MOVES[name](model, which)
        assert all(seq > model.frontier.settled for one in model.running for seq in one.seqs)
    while model.running:
        model.end(0, commits=True)
    for lane in model.lanes:
        if lane.is_cut:
            model.fail(lane)
        elif lane.read is not None:
            model.claim(lane)
    model.pass_time()
    model.claim(model.lanes[0])
    model.pass_time()
    while model.claim(model.lanes[0]) or model.frontier.has_more:
        pass
    assert model.now < 100.0 + FULL_PASS_SECONDS  # none came to help
    assert model.claimed == model.committed
    assert model.frontier.at_rest


def _pipeline(lane: Connection) -> Pipeline:
    return Pipeline(lane, may_prepare=lambda: True)


def _finish(connection: Connection, claim: Claim) -> None:
    ids = [UUID(bytes=row.id) for row in claim.rows]
    connection.execute("UPDATE hook_events SET processed = TRUE WHERE id = ANY(%s)", (ids,))


def _fresh(claims: Claims, now: float) -> list[int]:
    return [row.seq for row in claims.take(10, 0, now).fresh]


@pytest.mark.store
def test_lanes_share_a_backlog_and_find_what_came_late_and_what_was_let_go(database: Database) -> None:
    with (
        database.session("first") as first,
        database.session("second") as second,
        database.session("late") as late,
        database.session("tests") as connection,
    ):
        for session in (first, second):
            arrays.register(session)
            session.autocommit = False
        late.autocommit = False
        unborn = [row[0] for row in late.execute(INSERT, (1,))]
        seqs = [row[0] for row in connection.execute(INSERT, (60,))]
        frontier, clock = Frontier(), Clock()
        one, other = (Claims(_pipeline(session), frontier, 1_000) for session in (first, second))
        assert _fresh(one, clock()) == seqs[:10]
        assert _fresh(other, clock()) == seqs[10:20]
        assert _fresh(one, clock()) == seqs[20:30]
        assert frontier.settled < unborn[0]
        late.commit()
        assert _fresh(other, clock()) == seqs[30:40], "it looks, and finds that the writer has ended"
        assert _fresh(other, clock()) == unborn + seqs[10:19], "and what it has locked itself"
        first.rollback()
        frontier.full_pass()
        assert _fresh(other, clock()) == unborn + seqs[:9]


@pytest.mark.store
def test_what_is_found_late_by_a_claim_that_reads_again_is_read_at_once(database: Database) -> None:
    with (
        database.session("lane") as lane,
        database.session("one") as one,
        database.session("other") as other,
        database.session("tests") as connection,
    ):
        arrays.register(lane)
        lane.autocommit = one.autocommit = other.autocommit = False
        frontier, clock = Frontier(), Clock()
        claims = Claims(_pipeline(lane), frontier, 1_000)
        for late in (one, other):
            late.execute(INSERT, (1,))
        connection.execute(INSERT, (1,))
        for _ in range(3):
            claimed = claims.take(10, 0, clock())
            lane.commit()
            _finish(connection, claimed)
        one.rollback()
        assert claims.take(10, 0, clock()).again
        other.commit()
        reads_again = claims.take(10, 0, clock())
        assert (len(reads_again.fresh), reads_again.again) == (1, True)
        lane.rollback()


@pytest.mark.store
def test_a_floor_above_all_that_was_given_keeps_no_lane_busy(database: Database) -> None:
    """Once a seq of its writer's choice was the highest of a history, say."""
    with database.session("lane") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        connection.execute("UPDATE hook_events_floor SET seq = 5000")
        claims = Claims(_pipeline(lane), Frontier(), 1_000)
        assert [claims.take(10, 0, 100.0).again for _ in range(4)][-2:] == [False, False]


@pytest.mark.store
def test_only_writers_of_events_hold_up_what_is_settled(database: Database) -> None:
    with (
        database.session("lane") as lane,
        database.session("other") as other,
        database.session("tests") as connection,
    ):
        arrays.register(lane)
        lane.autocommit = other.autocommit = False
        other.execute("SELECT pg_current_xact_id()")
        other.execute("SELECT FROM hook_events FOR UPDATE")
        frontier, clock = Frontier(), Clock()
        claims = Claims(_pipeline(lane), frontier, 1_000)
        seqs = [row[0] for row in connection.execute(INSERT, (5,))]
        for _ in range(2):
            _fresh(claims, clock())
            lane.commit()
        assert frontier.settled == seqs[-1]
        other.execute(INSERT, (1,))
        seqs += [row[0] for row in connection.execute(INSERT, (5,))]
        for _ in range(2):
            _fresh(claims, clock())
            lane.commit()
        assert frontier.settled == seqs[4]
        (writer,) = [Writer(*row) for row in connection.execute(WRITERS)]
        assert not writer.prepared


@pytest.mark.store
def test_what_is_not_hurried_is_claimed_where_there_is_room(database: Database) -> None:
    with database.session("first") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        prioritized = (
            "INSERT INTO hook_events (source, action, priority) SELECT 'task', 'done', 8 FROM generate_series(1, 7)"
        )
        connection.execute(prioritized)
        claims = Claims(_pipeline(lane), Frontier(), 1_000)
        nothing = claims.take(10, 0, 100.0)
        assert (nothing.rows, nothing.again) == ([], True)
        connection.execute(INSERT, (14,))
        first = claims.take(10, 0, 100.1)
        assert ([row.priority for row in first.fresh], first.again) == ([5] * 10, True), (
            "there was room, and is none now"
        )
        lane.commit()
        _finish(connection, first)
        second = claims.take(10, 0, 100.2)
        assert ([row.priority for row in second.fresh], second.again) == ([5] * 4, True)
        lane.commit()
        _finish(connection, second)
        third = claims.take(10, 0, 100.3)
        assert ([row.priority for row in third.fresh], third.again) == ([8] * 7, False)


@pytest.mark.store
def test_a_seq_of_its_writers_choice_does_not_hide_those_that_are_given_after_it(database: Database) -> None:
    with database.session("lane") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        frontier, clock = Frontier(), Clock()
        claims = Claims(_pipeline(lane), frontier, 1_000)
        first = [row[0] for row in connection.execute(INSERT, (1,))]
        connection.execute("INSERT INTO hook_events (source, action, seq) VALUES ('a', 'b', 2 ^ 50)")
        for _ in range(4):  # it is read, looked at, and nothing below it is under way
            claimed = claims.take(10, 0, clock())
            lane.commit()
            _finish(connection, claimed)
        assert frontier.settled == first[0]
        assert frontier.at_rest
        late = [row[0] for row in connection.execute(INSERT, (1,))]
        assert _fresh(claims, clock()) == late


@pytest.mark.store
def test_what_rounds_that_fail_have_let_go_is_known_to_wait(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The processor says how long the oldest event waits, though it has claimed each of them, again and again."""
    connection.execute("CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE disk_full; END $$ LANGUAGE plpgsql")
    with running(database, tmp_path) as processor:
        assert all_processed(connection)
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON hook_events"
            " FOR EACH ROW WHEN (NEW.processed) EXECUTE FUNCTION refuse()"
        )
        insert(connection, "task.done", count=5)
        wait_for(lambda: processor.said("a round failed"), 10)
        # Longer than a measurement is told for: the first may be of before a claim.
        wait_for(lambda: [p for p in processors.processors(connection) if p.health.get("waiting", 0) > 7], 25)


@pytest.mark.store
def test_with_the_key_in_hand_a_claim_looks_at_who_is_writing(database: Database) -> None:
    """What was inserted before notifies nobody, and may have been committed since the last look, a moment ago."""
    frontier, progress = Frontier(), Progress("lookout", 10.0)
    lookout = Lookout(
        database,
        Outage(),
        lanes=1,
        poll_interval=60.0,
        may_listen=True,
        frontier=frontier,
        free_slots=lambda: False,
        reload=lambda _: None,
        paused=lambda: False,
    )
    now = monotonic()
    _read(frontier, now, 10)
    with frontier.read(now, at_end=True) as read:
        assert not read.looks
    watching = threading.Thread(target=lookout.run, args=(progress,))
    watching.start()
    try:
        lookout.idle(progress)
        with frontier.read(now, at_end=True) as read:
            assert read.looks
            frontier.looked(read, 20, _writers("3/7"))
            frontier.ended(read, 20, to_the_end=True)
        assert not frontier.at_rest
        lookout.due_in(0.0)
        wait_for(lambda: frontier.has_more, 10)  # it asks for another look
    finally:
        lookout.stop()
        watching.join()


@pytest.mark.store
def test_a_new_session_of_the_housekeeping_raises_no_floor_to_where_another_server_was(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        _read(frontier, clock(), 5000)
    report = Report(Metrics(), RunLog(logging.getLogger("HookRun")), Paces())
    chosen = Settings(home=tmp_path, conninfo=database.conninfo)
    housekeeping = Housekeeping(database, report, Outage(), dict, frontier, chosen)
    housekeeping._begin(connection)
    assert frontier.settled == 0
