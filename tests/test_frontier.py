"""What lanes know of how far they have read, and what they read again. No row is missed, whenever it is committed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from hypothesis import given, settings
from hypothesis import strategies as st
from reads import Clock, read_on, reading, writers_of

from hook_event_processor.store.frontier import FULL_PASS_SECONDS, LOOK_SECONDS, Frontier, Read
from hook_event_processor.store.slices import SLICE_SEQS, Slices
from hook_event_processor.store.writers import Writer


def test_a_read_goes_on_behind_what_others_have_read() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 0)
    with ExitStack() as stack:
        one, other = (stack.enter_context(reading(frontier, clock.now)) for _ in range(2))
        frontier.ended(one, 2000, to_the_end=False)
        frontier.ended(other, 1500, to_the_end=False)
    assert read_on(frontier, clock.now, 3000) == 2000


def test_what_ended_since_the_last_look_is_read_again_once() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", last=1000)  # the writer's seqs are above 10
    assert frontier.settled == 10
    read_on(frontier, clock(), 2000, "3/7", last=2000)
    assert frontier.settled == 10
    read_on(frontier, clock(), 3000, last=3000)
    assert frontier.settled == 3000
    assert frontier.has_more
    assert frontier.lowest == 10
    assert read_on(frontier, clock.now, 3000) == 10
    assert not frontier.has_more
    assert read_on(frontier, clock.now, 3100) == 3000


def test_what_is_read_again_is_read_in_parts_by_one_claim_at_a_time() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", last=1000)
    read_on(frontier, clock(), 2000, last=2000)
    with reading(frontier, clock.now) as again, reading(frontier, clock.now) as other:
        assert (again.start, other.start) == (10, 2000)
        assert not frontier.has_more
        assert frontier.lowest == 10
        frontier.ended(other, 2500, to_the_end=False)
        frontier.ended(again, 700, to_the_end=False)
    assert frontier.has_more
    assert read_on(frontier, clock.now, 2000) == 700
    assert not frontier.has_more


def test_what_is_to_be_read_again_for_several_reasons_is_read_from_the_lowest() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", "3/8", last=1000)
    read_on(frontier, clock(), 2000, "3/8", last=2000)
    with reading(frontier, clock.now) as again:
        assert again.start == 10
        read_on(frontier, clock(), 3000, last=3000)
        read_on(frontier, clock(), 4000, last=3500)
        read_on(frontier, clock(), 5000, last=5000)  # 3501 to 4000 had been read before
        frontier.ended(again, 0, to_the_end=True)
    assert read_on(frontier, clock.now, 3000) == 10
    assert read_on(frontier, clock.now, 4000) == 3000
    assert not frontier.has_more


def test_slices_are_of_lanes_of_others_too_and_go_by_the_sessions_there_are() -> None:
    slices, size = Slices(), SLICE_SEQS
    slices.joined("lane 1", 30)
    slices.joined("lane 2", 10)
    assert slices.behind(0) is None
    slices.seen({10, 30})
    assert slices.behind(0) is None, "nobody else is there"
    slices.seen({10, 20, 30, 40})  # the first and the third of four are its own
    assert slices.behind(0) == (0, size - 1)
    assert slices.behind(size - 2) == (size - 2, size - 1)
    assert slices.behind(size - 1) == (2 * size - 1, 3 * size - 1)
    assert slices.behind(3 * size + 5) == (4 * size - 1, 5 * size - 1)
    slices.joined("lane 1", 50)
    slices.seen({10, 20, 40, 50})  # the first and the last
    assert slices.behind(size) == (3 * size - 1, 4 * size - 1)
    assert slices.behind(4 * size - 1) == (4 * size - 1, 5 * size - 1)
    slices.seen({20, 40})
    assert slices.behind(0) is None, "its own are not among them, as behind a pooler"


@given(st.sets(st.integers(1, 40), min_size=2), st.sets(st.integers(1, 40)), st.integers(-50_000, 2_000_000))
def test_every_seq_is_in_a_slice_of_one_lane(pids: set[int], own: set[int], seq: int) -> None:
    ours, theirs = Slices(), Slices()
    for pid in pids:
        (ours if pid in own else theirs).joined(f"lane {pid}", pid)
    ours.seen(pids)
    theirs.seen(pids)
    parts = [part for slices in (ours, theirs) if (part := slices.behind(seq)) is not None]
    assert len(parts) == (2 if 0 < len(own & pids) < len(pids) else 0)
    if parts:
        assert sum(part.behind == seq for part in parts) == 1
        for part in parts:
            assert seq <= part.behind < part.upto
            assert (part.upto + 1) % SLICE_SEQS == 0
            assert part.upto - part.behind <= SLICE_SEQS


def _with_another(frontier: Frontier) -> None:
    """The even slices are its own."""
    frontier.slices.joined("lane 1", 1)
    frontier.slices.seen({1, 2})


def test_of_a_backlog_slices_are_read_and_what_they_pass_by_is_read_when_there_is_no_more_of_them() -> None:
    frontier, clock, size = Frontier(), Clock(), SLICE_SEQS
    _with_another(frontier)
    last = 5 * size
    read_on(frontier, clock(), 1000, last=last)
    with reading(frontier, clock.now, backlog=True) as one, reading(frontier, clock.now, backlog=True) as other:
        assert (one.start, one.upto, other.upto) == (1000, size - 1, size - 1)
        frontier.ended(one, 3000, to_the_end=False)
        frontier.ended(other, 0, to_the_end=True)
    assert frontier.lowest == size - 1
    for start in (2 * size - 1, 4 * size - 1):
        with reading(frontier, clock.now, backlog=True) as read:
            assert (read.start, read.upto) == (start, start + size)
            frontier.ended(read, start + 10, to_the_end=True)
        assert frontier.lowest == size - 1, "what was passed by waits above it"
    with reading(frontier, clock.now, backlog=True) as again:
        assert (again.full, again.again_to, again.of_slice) == (True, last - 1, False)
        frontier.ended(again, 0, to_the_end=True)
    assert not frontier.has_more
    assert frontier.lowest == last - 1


def test_a_slice_that_is_not_full_yet_is_read_no_further_than_seqs_were_given() -> None:
    frontier, clock = Frontier(), Clock()
    _with_another(frontier)
    read_on(frontier, clock(), 1000, last=5000)
    with reading(frontier, clock.now, backlog=True) as read:
        frontier.ended(read, 4500, to_the_end=True)
    assert read_on(frontier, clock.now, 5000) == 5000


def test_slices_of_those_who_have_gone_are_read_at_once() -> None:
    frontier, clock, size = Frontier(), Clock(), SLICE_SEQS
    _with_another(frontier)
    read_on(frontier, clock(), size, last=9 * size)
    with reading(frontier, clock.now, backlog=True) as read:
        assert read.start == 2 * size - 1
        frontier.ended(read, 2 * size + 500, to_the_end=False)
    frontier.slices.seen({1})
    with reading(frontier, clock.now, backlog=True) as again:
        assert (again.full, again.again_to) == (True, 2 * size + 500)


def test_a_full_pass_reads_all_slices() -> None:
    frontier, clock, size = Frontier(), Clock(), SLICE_SEQS
    _with_another(frontier)
    read_on(frontier, clock(), size, last=9 * size)
    with reading(frontier, clock.now, backlog=True) as read:
        frontier.ended(read, 2 * size + 500, to_the_end=False)
    frontier.full_pass()
    with reading(frontier, clock.now, backlog=True) as full:
        assert (full.full, full.of_slice, full.again_to) == (True, False, 2 * size + 500)
        frontier.ended(full, 0, to_the_end=True)
    assert frontier.lowest == 2 * size + 500


def test_a_read_that_began_before_the_look_is_read_again_where_rows_may_have_come_late() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 200, last=100)
    with reading(frontier, clock.now) as early:
        read_on(frontier, clock(), 150, last=400)  # of those that began after the last look the seqs are above 100
        assert read_on(frontier, clock.now, 250) == 100
        assert not frontier.has_more
        frontier.ended(early, 300, to_the_end=False)
    assert read_on(frontier, clock.now, 400) == 200


def test_of_a_backlog_that_is_far_behind_the_inserts_nothing_is_read_twice() -> None:
    frontier, clock = Frontier(), Clock()
    for number in range(1, 20):
        with reading(frontier, clock.now) as slow:
            start = read_on(frontier, clock(), number * 1000, f"3/{number}", last=10**6 + number)
            assert start == (number - 1) * 1000
            frontier.ended(slow, number * 1000 - 500, to_the_end=False)
        assert not frontier.has_more


def test_a_prepared_transaction_is_the_one_that_it_was() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", last=1000)
    read_on(frontier, clock(), 2000, "-1/811", last=2000)
    assert frontier.settled == 10
    read_on(frontier, clock(), 3000, last=3000)
    assert frontier.settled == 3000
    assert read_on(frontier, clock.now, 3000) == 10


def test_near_the_end_reads_begin_where_rows_may_come_at_any_moment() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 20, "3/7", last=20)
    with reading(frontier, clock.now, at_end=True) as read:
        assert read.start == frontier.lowest == 10
        frontier.ended(read, 0, to_the_end=True)
    read_on(frontier, clock(), 20, last=20)
    assert read_on(frontier, clock.now, 20) == 10
    assert frontier.lowest == 20
    assert frontier.at_rest


def test_near_the_end_reads_begin_where_a_slow_writer_began_unless_that_is_far() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    for upto in (20, 30, 1010):
        read_on(frontier, clock(), upto, "3/7", last=upto)
    with reading(frontier, clock.now, at_end=True) as read:
        assert read.start == frontier.lowest == 10
        frontier.ended(read, 1011, to_the_end=True)
    assert frontier.lowest == 30
    read_on(frontier, clock(), 1020, "3/7", last=1020)
    assert frontier.lowest == 1010


def test_there_is_no_rest_before_all_inserts_are_known_to_have_ended() -> None:
    frontier, clock = Frontier(), Clock()
    assert frontier.at_rest
    read_on(frontier, clock(), 20, "3/7", last=20)
    assert not frontier.at_rest
    read_on(frontier, clock(), 20, last=20)
    assert not frontier.at_rest
    read_on(frontier, clock(), 20, last=20, to_the_end=True)
    assert frontier.at_rest
    read_on(frontier, clock.now, 21, to_the_end=True)
    assert not frontier.at_rest


def test_a_full_pass_reads_all_behind_the_tables_floor() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 5000)
    frontier.full_pass()
    assert read_on(frontier, clock(), 4000, last=5000) == 0
    assert read_on(frontier, clock(), 5000) == 4000
    assert read_on(frontier, clock(), 5500) == 5000
    assert read_on(frontier, clock() + FULL_PASS_SECONDS, 6000) == 0


def test_a_table_that_counts_anew_is_read_from_its_floor() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 5000)
    read_on(frontier, clock(), 6000, last=3)
    assert frontier.has_more
    assert read_on(frontier, clock(), 3) == 0
    assert read_on(frontier, clock(), 4) == 3


def test_a_table_that_counts_anew_has_nothing_settled_yet() -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        read_on(frontier, clock(), 5000)
    assert frontier.settled == 5000
    read_on(frontier, clock(), 6000, last=3)
    assert frontier.settled == 0


def test_a_transaction_that_was_prepared_during_the_look_is_seen_by_both_names() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", last=1000)
    read_on(frontier, clock(), 2000, "3/7", "-1/811", last=2000)
    read_on(frontier, clock(), 3000, "-1/811", last=3000)
    assert frontier.settled == 10
    assert read_on(frontier, clock(), 3000) == 10
    assert read_on(frontier, clock(), 4000) == 10


def test_what_was_let_go_waits_as_far_as_anybody_knows() -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        read_on(frontier, clock(), 5000)
    assert frontier.lowest == 5000
    read_on(frontier, clock(), 6000, "3/7", last=6000)
    read_on(frontier, clock(), 6000, last=6000)
    frontier.forget()
    assert frontier.lowest == 0
    assert frontier.has_more
    assert read_on(frontier, clock.now, 5000) == 0
    assert not frontier.has_more


def test_another_server_may_have_given_less() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 5000)
    read_on(frontier, clock(), 5000, "3/7", last=5000)
    with reading(frontier, clock()) as of_the_old:
        frontier.forget()
        read_on(frontier, clock.now, 4000, "3/7", last=4500)
        frontier.looked(of_the_old, 5000, [])
        frontier.ended(of_the_old, 6000, to_the_end=False)
    read_on(frontier, clock(), 4700, "3/7", "3/8", last=5500)
    assert frontier.settled == 0
    read_on(frontier, clock(), 5500, "3/8", last=5500)
    assert frontier.settled == 4500
    assert read_on(frontier, clock(), 6000, last=6000) == 0
    assert read_on(frontier, clock.now, 6000) == 4500


def test_a_read_of_before_does_not_say_where_the_table_begins() -> None:
    frontier, clock = Frontier(), Clock()
    with frontier.read(clock(), at_end=False) as of_the_old:
        frontier.forget()
        frontier.from_floor(of_the_old, 900)
        assert of_the_old.start == 900
        assert frontier.has_more


def test_a_look_that_is_asked_for_during_another_follows_it() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    with reading(frontier, clock()) as early:
        frontier.look_next()
        with reading(frontier, clock.now) as other:
            assert not other.looks
            assert not frontier.has_more
        frontier.looked(early, 20, [])
    assert frontier.has_more
    with reading(frontier, clock.now) as read:
        assert read.looks
    assert not frontier.has_more


def test_whether_there_is_more_can_be_asked_while_reads_begin_and_end() -> None:
    frontier, clock = Frontier(), Clock()
    read_on(frontier, clock(), 10)
    read_on(frontier, clock(), 1000, "3/7", last=1000)
    read_on(frontier, clock(), 2000, last=2000)
    ends = monotonic() + 0.5

    def read() -> None:
        while monotonic() < ends:
            with frontier.read(clock.now, at_end=False):
                pass

    readers = [threading.Thread(target=read) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with reading(frontier, clock.now):  # it reads again
            read_on(frontier, clock(), 3000, "3/8", last=3000)
            read_on(frontier, clock(), 4000, last=4000)  # and so will another
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
            lane.read = lane.stack.enter_context(reading(self.frontier, self.now, at_end=lane.at_end))
        elif lane.answer is None:
            if lane.is_cut:
                self.fail(lane)
                return
            waiting_rows = sorted(seq for seq in self.committed - self.claimed if seq > lane.read.start)
            self.claimed.update(waiting_rows[: self.LIMIT])
            writers = writers_of(*(transaction.name for transaction in self.running if transaction.seqs))
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
