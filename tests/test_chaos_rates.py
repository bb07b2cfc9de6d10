"""How ops/chaos judges the rate, tested with rows whose times are planted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from psycopg import Connection

from hook_event_processor.store.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent))
from ops.chaos import trial
from ops.chaos.context import Context, Fault, Shift
from ops.chaos.rates import Rates, rates
from ops.chaos.result_table import _recovery
from ops.chaos.scenarios.misbehaviour import Crash

_HOUR = 3600
_STEPS = [step / 10 for step in range(200)]  # twenty seconds, ten events a second


@pytest.fixture
def began() -> int:
    return int(time.time()) - 100


def _process(connection: Connection, moments: Iterable[float]) -> None:
    """An event that was processed at each of these moments."""
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, created_at, processed_at)"
        " SELECT 'chaos', 'plain', TRUE, to_timestamp(at), to_timestamp(at + 0.01) FROM unnest(%s::float8[]) AS at",
        (list(moments),),
    )


def _names(measured: Rates) -> Sequence[str]:
    return [finding.partition(":")[0] for finding in measured.findings()]


def test_recovery_is_counted_from_the_end_of_the_fault(connection: Connection, began: int) -> None:
    """Ten events a second, none for three seconds, and ten again a second and a half after the fault was mended."""
    _process(connection, (began + at for at in _STEPS if not 10 <= at < 14.5))
    faults = [Fault("away", began + 10, began + 13), Fault("for good", began + 19.5)]
    measured = rates(connection, (began, began + 20), faults, 10)
    assert (measured.before, measured.after) == (10, 10)
    assert [name for name, _ in measured.recoveries] == ["away", "for good"]
    assert measured.recoveries[0][1] == pytest.approx(1.4, abs=0.21)
    assert measured.slowest is None
    assert _names(measured) == ["for good"]


def test_a_rate_that_comes_back_late_is_found(connection: Connection, began: int) -> None:
    _process(connection, (began + at for at in _STEPS if not 10 <= at < 16))
    measured = rates(connection, (began, began + 20), [Fault("struck", began + 10)], 10)
    assert _names(measured) == ["struck"]


def test_a_rate_that_does_not_stay_is_not_back(connection: Connection, began: int) -> None:
    """Ten events a second for a second and a half after the fault, and then none for six."""
    _process(connection, (began + at for at in _STEPS if not 11.5 <= at < 17.5))
    measured = rates(connection, (began, began + 25), [Fault("struck", began + 10)], 10)
    assert _names(measured) == ["struck"]


def test_what_catches_up_does_not_stand_for_what_comes_after_it(connection: Connection, began: int) -> None:
    """Forty events in the second after the fault, and then none for five."""
    moments = [at for at in _STEPS if not 10 <= at < 15] + [10 + at / 40 for at in range(40)]
    _process(connection, (began + at for at in moments))
    measured = rates(connection, (began, began + 20), [Fault("struck", began + 10)], 10)
    assert [seconds for _, seconds in measured.recoveries] != [0.0]


def test_a_rate_is_back_until_it_is_disturbed_again(connection: Connection, began: int) -> None:
    _process(connection, (began + at for at in _STEPS if not 12 <= at < 15))
    faults = [Fault("one", began + 10), Fault("other", began + 12, began + 15)]
    measured = rates(connection, (began, began + 20), faults, 10)
    assert [seconds for _, seconds in measured.recoveries] == [0.0, pytest.approx(0, abs=0.21)]


@pytest.mark.parametrize(
    ("processed", "offered"),
    [
        (lambda at: not 5 <= at < 10, 10),  # nothing in the seconds before the fault
        (lambda _: True, 20),  # always, but half of what comes in
    ],
)
def test_without_a_rate_before_nothing_is_taken_for_a_recovery(
    connection: Connection, began: int, processed: Callable[[float], bool], offered: float
) -> None:
    _process(connection, (began + at for at in _STEPS if processed(at)))
    measured = rates(connection, (began, began + 20), [Fault("struck", began + 10)], offered)
    assert _names(measured) == ["no rate to come back to"]
    assert _recovery(cast(Any, SimpleNamespace(rates=measured))) == "?"


def _by_a_clock_that_jumps(began: int, at: float) -> float:
    """An hour ahead from the sixth second on, right again from the twelfth."""
    return began + at + (_HOUR if 6 <= at < 12 else 0)


def _jumps(began: int) -> tuple[list[Fault], list[Shift]]:
    faults = [Fault("ahead", began + 6), Fault("back", began + 12)]
    return faults, [Shift(began + 6, _HOUR), Shift(began + 12, 0)]


@pytest.mark.parametrize(("standstill", "found"), [((0, 0), []), ((6, 11.9), ["ahead"]), ((12, 18), ["back"])])
def test_the_rate_is_judged_beyond_a_jump_of_the_clock_it_is_noted_by(
    connection: Connection, began: int, standstill: tuple[float, float], found: Sequence[str]
) -> None:
    first, last = standstill
    _process(connection, (_by_a_clock_that_jumps(began, at) for at in _STEPS if not first <= at < last))
    faults, shifts = _jumps(began)
    measured = rates(connection, (began, began + 20), faults, 10, shifts)
    assert measured.before == 10
    assert _names(measured) == found


def test_a_clock_may_jump_to_before_the_load_began(connection: Connection, began: int) -> None:
    _process(connection, (began + at - (_HOUR if at >= 10 else 0) for at in _STEPS))
    measured = rates(connection, (began, began + 20), [Fault("back", began + 10)], 10, [Shift(began + 10, -_HOUR)])
    assert (measured.before, measured.after) == (10, 10)
    assert measured.recoveries == [("back", 0.0)]


def test_a_bad_event_disturbs_from_its_insert_on(database: Database, connection: Connection, tmp_path: Path) -> None:
    """The rate before is measured until then, not until a processor has ended by it."""
    unused = cast(Any, None)
    context = Context(
        place=tmp_path,
        seed=1,
        seconds=1,
        server=cast(Any, SimpleNamespace(for_auditor=database.conninfo)),
        processors=[],
        load=unused,
        effects=unused,
        flight=unused,
        account=unused,
    )
    scenario = Crash()
    scenario.prepare(context)
    scenario.insert(context)
    [inserted] = connection.execute("SELECT extract(epoch FROM created_at)::float8 FROM hook_events").fetchone() or (0,)
    assert [fault.name for fault in context.faults] == ["bad.crash"]
    assert context.faults[0].began_at <= inserted
    assert context.blows == []


def test_the_load_goes_on_until_the_rate_can_come_back_after_a_fault_while_it_cools_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "COOL_DOWN_SECONDS", 0.5)
    began = time.time()
    trial._cool_down(cast(Any, SimpleNamespace(faults=[Fault("early", began - 9), Fault("late", began + 0.4)])))
    assert time.time() >= began + 0.9


def test_processors_that_end_again_and_again_do_not_keep_the_load_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_MOST_COOL_DOWN_SECONDS", 0.3)
    began = time.time()
    trial._cool_down(cast(Any, SimpleNamespace(faults=[Fault("late", began + 60)])))
    assert time.time() < began + 30
