"""Where lanes read on: behind what another lane holds, and never past what a pass has yet to see."""

from __future__ import annotations

from uuid import UUID

import pytest
from psycopg import Connection

from hook_event_processor.store import arrays
from hook_event_processor.store.claim import FULL_PASS_SECONDS, PASS_SECONDS, Claim, Claims, Cursor
from hook_event_processor.store.database import Database
from hook_event_processor.store.pipeline import Pipeline

pytestmark = pytest.mark.store
INSERT = "INSERT INTO hook_events (source, action) SELECT 'task', 'done' FROM generate_series(1, %s) RETURNING seq"


def test_a_cursor_goes_on_behind_what_another_has_read() -> None:
    cursor = Cursor()
    cursor.skip(1000)
    cursor.advance(2000, to_the_end=False)
    cursor.skip(1500)
    assert cursor.position == 2000


def test_a_pass_reads_all_that_had_been_reached_when_it_began() -> None:
    cursor = Cursor()
    cursor.start_pass(reached=1000)
    cursor.skip(3000)
    assert cursor.position == 0
    cursor.advance(999, to_the_end=False)
    cursor.skip(3000)
    assert cursor.position == 999
    cursor.advance(1500, to_the_end=False)
    cursor.skip(3000)
    assert cursor.position == 3000


def test_the_floor_rises_to_what_a_whole_pass_has_read_though_the_lane_that_marked_it_has_ended() -> None:
    cursor = Cursor()
    cursor.mark(1000, xid=5)  # which another lane had reached
    cursor.start_pass(reached=200)  # and is gone
    cursor.ended_before(6)
    cursor.advance(200, to_the_end=False)
    cursor.skip(5000)
    assert (cursor.position, cursor.floor) == (200, 0)
    cursor.advance(1000, to_the_end=False)
    assert cursor.floor == 1000


def _finish(connection: Connection, claim: Claim) -> None:
    ids = [UUID(bytes=row.id) for row in claim.rows]
    connection.execute("UPDATE hook_events SET processed = TRUE WHERE id = ANY(%s)", (ids,))


def _fresh(claims: Claims, now: float, reached: int = 0) -> list[int]:
    return [row.seq for row in claims.take(10, 0, now, reached).fresh]


def test_lanes_share_a_backlog_and_a_pass_finds_what_was_let_go_and_what_came_late(database: Database) -> None:
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
        one, other = (Claims(Pipeline(session, may_prepare=lambda: True), 1_000) for session in (first, second))
        assert _fresh(one, 100.0) == seqs[:10]
        assert _fresh(other, 100.0, one.reached) == seqs[10:20], "the first claim of all is a pass"
        assert _fresh(one, 100.1, other.reached) == seqs[20:30]
        assert _fresh(other, 100.1, one.reached) == seqs[30:40]
        first.rollback()
        late.commit()
        again = 100.0 + PASS_SECONDS + 1.0
        assert again < 100.0 + FULL_PASS_SECONDS
        assert _fresh(other, again, one.reached) == unborn + seqs[:9]
        assert other.floor < unborn[0]


def test_what_is_not_hurried_is_claimed_where_there_is_room(database: Database) -> None:
    with database.session("first") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        prioritized = (
            "INSERT INTO hook_events (source, action, priority) SELECT 'task', 'done', 8 FROM generate_series(1, 7)"
        )
        connection.execute(prioritized)
        claims = Claims(Pipeline(lane, may_prepare=lambda: True), 1_000)
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


def test_a_seq_of_its_writers_choice_does_not_hide_those_that_are_given_after_it(database: Database) -> None:
    with database.session("lane") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        claims = Claims(Pipeline(lane, may_prepare=lambda: True), 1_000)
        first = [row[0] for row in connection.execute(INSERT, (1,))]
        connection.execute("INSERT INTO hook_events (source, action, seq) VALUES ('a', 'b', 2 ^ 50)")
        for now in (100.0, 101.0, 102.0, 103.0):  # it is read, marked, passed, and nothing below it is under way
            claimed = claims.take(10, 0, now)
            lane.commit()
            _finish(connection, claimed)
        assert 100.0 + FULL_PASS_SECONDS > 103.0
        assert claims.floor == first[0]
        late = [row[0] for row in connection.execute(INSERT, (1,))]
        assert _fresh(claims, 104.0) == late
