"""A cleanup gives way: to a backlog that is being worked off, and with steps that take no longer than they should."""

from __future__ import annotations

from dataclasses import dataclass, field

from factories import ago, insert_event
from psycopg import Connection

from hook_event_processor.store.cleanup.pace import Pace


@dataclass
class Clock:
    """Time that passes when it is slept, or when it is said to; `slept` may be told to do something meanwhile."""

    now: float = 100.0
    naps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def read(self) -> float:
        return self.now


def paced(connection: Connection, clock: Clock) -> Pace:
    return Pace(connection, clock.sleep, clock.read)


def test_long_steps_become_smaller_and_short_ones_larger(connection: Connection) -> None:
    clock = Clock()
    pace = paced(connection, clock)
    first = pace.pages
    with pace.step():
        clock.now += 1.0
    assert pace.pages == first // 2
    for _ in range(3):
        with pace.step():
            pass
    assert pace.pages == first * 4


def test_it_rests_as_long_as_it_worked(connection: Connection) -> None:
    clock = Clock()
    with paced(connection, clock).step():
        clock.now += 0.2
    assert len(clock.naps) == 1
    assert abs(clock.naps[0] - 0.2) < 0.001


def test_it_waits_while_a_backlog_is_worked_off(connection: Connection) -> None:
    backlog = [insert_event(connection, created_at=ago(seconds=10)) for _ in range(4)]
    clock = Clock()

    class Worked(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if seconds > 0 and backlog:
                connection.execute("UPDATE hook_events SET processed = TRUE WHERE id = %s", (backlog.pop(0),))

    clock = Worked()
    pace = paced(connection, clock)
    with pace.step():
        pass
    assert backlog == []
    assert pace.waited_seconds > 1


def test_slow_hooks_work_off_a_backlog_too(connection: Connection) -> None:
    backlog = [insert_event(connection, created_at=ago(seconds=10)) for _ in range(3)]

    class Claimed(Clock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.naps) % 3 == 0 and backlog:  # a claim is held for more than a second
                connection.execute("UPDATE hook_events SET processed = TRUE WHERE id = %s", (backlog.pop(0),))

    with paced(connection, Claimed()).step():
        pass
    assert backlog == []


def test_it_waits_for_events_that_nobody_takes_once_and_not_for_long(connection: Connection) -> None:
    insert_event(connection, created_at=ago(seconds=10))
    clock = Clock()
    pace = paced(connection, clock)
    for _ in range(20):
        with pace.step():
            clock.now += 0.2
    assert pace.waited_seconds == 0
    assert sum(nap for nap in clock.naps if nap == 0.5) == 2
