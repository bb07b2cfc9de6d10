"""Where claims read on in a real table: behind what others have read, and again where rows were committed late."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection
from reads import Clock, read_on, reading, writers_of
from running import all_processed, insert, running
from waiting import wait_for

from hook_event_processor.processor.housekeeping import Housekeeping
from hook_event_processor.processor.lookout import Lookout
from hook_event_processor.processor.outage import Outage
from hook_event_processor.processor.pace import Paces
from hook_event_processor.processor.report import Report
from hook_event_processor.settings import Settings
from hook_event_processor.store import arrays, processors, slices, watch
from hook_event_processor.store.claim import BACKLOG_CLAIMS, Claim, Claims
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import HIGHEST_SEQ, Frontier
from hook_event_processor.store.pipeline import Pipeline
from hook_event_processor.store.writers import WRITERS, Writer
from hook_event_processor.telemetry.metrics import Metrics
from hook_event_processor.telemetry.runs import RunLog
from hook_event_processor.telemetry.watchdog import Progress

pytestmark = pytest.mark.store
INSERT = "INSERT INTO hook_events (source, action) SELECT 'task', 'done' FROM generate_series(1, %s) RETURNING seq"


def _pipeline(lane: Connection) -> Pipeline:
    return Pipeline(lane, may_prepare=lambda: True)


def _finish(connection: Connection, claim: Claim) -> None:
    ids = [UUID(bytes=row.id) for row in claim.rows]
    connection.execute("UPDATE hook_events SET processed = TRUE WHERE id = ANY(%s)", (ids,))


def _fresh(claims: Claims, now: float) -> list[int]:
    return [row.seq for row in claims.take(10, 0, now).fresh]


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


def test_processors_read_their_slices_of_a_backlog_and_what_is_left_when_there_is_no_more_of_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1_000
    monkeypatch.setattr(slices, "SLICE_SEQS", size)
    with (
        database.session("mine") as mine,
        database.session("theirs") as theirs,
        database.session("tests") as connection,
    ):
        arrays.register(mine)
        mine.autocommit = False
        seqs = [row[0] for row in connection.execute(INSERT, (6 * size,))]
        frontier, clock = Frontier(), Clock()
        pids = [mine.info.backend_pid, theirs.info.backend_pid]
        frontier.slices.joined("lane 1", mine.info.backend_pid)
        frontier.slices.seen(pids)
        place = sorted(pids).index(mine.info.backend_pid)
        claims = Claims(_pipeline(mine), frontier, 1_000)
        taken: list[int] = []

        def claim() -> list[int]:
            claimed = claims.take(300, 0, clock())
            mine.commit()
            _finish(connection, claimed)
            taken.extend(row.seq for row in claimed.fresh)
            assert claimed.again or len(taken) == len(seqs)
            return taken[len(taken) - len(claimed.fresh) :]

        for number in range(BACKLOG_CLAIMS):
            assert claim() == seqs[300 * number : 300 * (number + 1)]
        begun = frontier.lowest
        own = [seq for seq in seqs[300 * BACKLOG_CLAIMS :] if seq // size % 2 == place]
        while own:
            of_slice = claim()
            assert of_slice == own[: len(of_slice)]
            del own[: len(of_slice)]
            assert frontier.lowest <= max(begun, of_slice[0] if of_slice else 0)
        for _ in range(100):
            claim()
        assert sorted(taken) == seqs


def test_a_floor_above_all_that_was_given_keeps_no_lane_busy(database: Database) -> None:
    """Once a seq of its writer's choice was the highest of a history, say."""
    with database.session("lane") as lane, database.session("tests") as connection:
        arrays.register(lane)
        lane.autocommit = False
        connection.execute("UPDATE hook_events_floor SET seq = 5000")
        claims = Claims(_pipeline(lane), Frontier(), 1_000)
        assert [claims.take(10, 0, 100.0).again for _ in range(4)][-2:] == [False, False]


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


@contextmanager
def _watching(database: Database, frontier: Frontier, progress: Progress, *, lanes: int = 1) -> Iterator[Lookout]:
    lookout = Lookout(
        database,
        Outage(),
        lanes=lanes,
        poll_interval=60.0,
        may_listen=True,
        frontier=frontier,
        free_slots=lambda: False,
        reload=lambda _: None,
        paused=lambda: False,
    )
    watching = threading.Thread(target=lookout.run, args=(progress,))
    watching.start()
    try:
        yield lookout
    finally:
        lookout.stop()
        watching.join()


def test_with_the_key_in_hand_a_claim_looks_at_who_is_writing(database: Database) -> None:
    """What was inserted before notifies nobody, and may have been committed since the last look, a moment ago."""
    frontier, progress = Frontier(), Progress("lookout", 10.0)
    now = monotonic()
    read_on(frontier, now, 10)
    with frontier.read(now, at_end=True) as read:
        assert not read.looks
    with _watching(database, frontier, progress) as lookout:
        lookout.idle(progress)
        with frontier.read(now, at_end=True) as read:
            assert read.looks
            frontier.looked(read, 20, writers_of("3/7"))
            frontier.ended(read, 20, to_the_end=True)
        assert not frontier.at_rest
        lookout.due_in(0.0)
        wait_for(lambda: frontier.has_more, 10)  # it asks for another look


def test_what_lanes_come_back_to_by_themselves_is_not_looked_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look would come past all that is done between the slices; lanes are woken all the same."""
    looked_above: list[int] = []

    def look(connection: Connection, above: int, *others: Any) -> watch.Look:
        looked_above.append(above)
        return look_really(connection, above, *others)

    look_really = watch.look
    monkeypatch.setattr(watch, "look", look)
    frontier, clock, progress = Frontier(), Clock(), Progress("lookout", 10.0)
    last = 3 * slices.SLICE_SEQS
    read_on(frontier, clock(), 1000, last=last)
    frontier.slices.joined("lane 1", 1)
    frontier.slices.seen({1, 2})
    for _ in range(2):
        assert not frontier.knows_of_more
        with reading(frontier, clock.now, backlog=True) as read:
            assert read.of_slice
            frontier.ended(read, read.upto, to_the_end=True)
    assert frontier.knows_of_more
    with _watching(database, frontier, progress) as lookout:
        lookout.idle(progress)
    assert looked_above == [HIGHEST_SEQ]
    with reading(frontier, clock.now, backlog=True) as read:
        assert read.full
        assert frontier.knows_of_more
        frontier.ended(read, 0, to_the_end=True)
    assert not frontier.knows_of_more


def test_a_new_session_of_the_housekeeping_raises_no_floor_to_where_another_server_was(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    frontier, clock = Frontier(), Clock()
    for _ in range(2):
        read_on(frontier, clock(), 5000)
    report = Report(Metrics(), RunLog(logging.getLogger("HookRun")), Paces())
    chosen = Settings(home=tmp_path, conninfo=database.conninfo)
    housekeeping = Housekeeping(database, report, Outage(), dict, frontier, chosen)
    housekeeping._begin(connection)
    assert frontier.settled == 0
