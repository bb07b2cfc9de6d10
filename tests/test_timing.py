"""The times of schedules: cron expressions in time zones, and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hook_event_processor.errors import ScheduleRefused
from hook_event_processor.timing import Timing

START = datetime(2026, 11, 22, 21, 7, 30, tzinfo=UTC)


def times(timing: Timing, count: int, after: datetime = START) -> list[str]:
    return [time.strftime("%m-%d %H:%M:%S") for time in islice(timing.after(after), count)]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/5 * * * *", ["11-22 21:10:00", "11-22 21:15:00"]),
        ("30 4 * * 1-5", ["11-23 04:30:00", "11-24 04:30:00"]),
        ("0 0 1 jan *", ["01-01 00:00:00", "01-01 00:00:00"]),
        ("@hourly", ["11-22 22:00:00", "11-22 23:00:00"]),
        ("@DAILY", ["11-23 00:00:00", "11-24 00:00:00"]),
        ("0 12 L * *", ["11-30 12:00:00", "12-31 12:00:00"]),
    ],
)
def test_a_cron_expressions_times_follow(cron: str, expected: list[str]) -> None:
    assert times(Timing(cron), 2) == expected


def test_a_fixed_hour_fires_once_when_clocks_are_changed() -> None:
    berlin = Timing("30 2 * * *", timezone="Europe/Berlin")
    # 2026-03-29 has no 02:30, and 2026-10-25 has it twice.
    assert times(berlin, 3, datetime(2026, 3, 27, 12, tzinfo=UTC)) == [
        "03-28 01:30:00",
        "03-29 01:00:00",
        "03-30 00:30:00",
    ]
    assert times(berlin, 3, datetime(2026, 10, 23, 12, tzinfo=UTC)) == [
        "10-24 00:30:00",
        "10-25 00:30:00",
        "10-26 01:30:00",
    ]


@given(
    st.sampled_from(["30 2 * * *", "0 2 * * *", "30 1 * * *", "*/10 2 * * *", "15 * * * *", "59 23 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.datetimes(min_value=datetime(2026, 10, 20), max_value=datetime(2026, 11, 5), timezones=st.just(UTC)),
)
@example("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC))
@example("30 1 * * *", "America/New_York", datetime(2026, 11, 1, 6, 10, tzinfo=UTC))
def test_times_lie_ahead_when_an_hour_comes_twice(cron: str, zone: str, moment: datetime) -> None:
    ahead = list(islice(Timing(cron, timezone=zone).after(moment), 3))
    assert [moment, *ahead] == sorted({moment, *ahead})


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("Australia/Lord_Howe", ["2026-10-03", "2027-04-03"]),
        ("Europe/Berlin", ["2026-10-24", "2027-03-27"]),
        ("Antarctica/Troll", ["2026-10-24", "2027-03-27"]),
    ],
)
@pytest.mark.parametrize(
    ("cron", "minutes", "hours"),
    [
        ("*/10 5 * * *", range(0, 60, 10), [5]),
        ("15 */6 * * *", [15], range(0, 24, 6)),
        ("15 * * * *", [15], range(24)),
        ("45 * * * *", [45], range(24)),
        ("0 */2 * * *", [0], range(0, 24, 2)),
        ("*/20 0 * * *", range(0, 60, 20), [0]),
        ("*/10 1,2 * * *", range(0, 60, 10), [1, 2]),
        ("* * * * *", range(60), range(24)),
    ],
)
def test_every_time_that_clocks_show_comes_when_they_are_changed(
    zone: str, days: list[str], cron: str, minutes: Sequence[int], hours: Sequence[int]
) -> None:
    """On Lord Howe, by half an hour; in Troll, by two hours."""
    for day in days:
        start = datetime.fromisoformat(f"{day}T00:00Z")
        moments = [start + timedelta(minutes=number) for number in range(1, 2 * 24 * 60)]
        shown = [(moment, moment.astimezone(ZoneInfo(zone))) for moment in moments]
        expected = [moment for moment, local in shown if local.minute in minutes and local.hour in hours]
        assert list(islice(Timing(cron, timezone=zone).after(start), len(expected))) == expected


@pytest.mark.parametrize(
    ("every", "expected", "text"),
    [
        (900.0, ["11-22 21:15:00", "11-22 21:30:00"], "every 15m"),
        (86_400.0, ["11-23 00:00:00", "11-24 00:00:00"], "every 1d"),
        (5_400.0, ["11-22 22:30:00", "11-23 00:00:00"], "every 1h30m"),
        (1.5, ["11-22 21:07:31", "11-22 21:07:33"], "every 1.5s"),
    ],
)
def test_an_intervals_times_are_its_multiples(every: float, expected: list[str], text: str) -> None:
    assert times(Timing(every=every), 2) == expected
    assert Timing(every=every).text == text


@given(
    st.floats(min_value=1, max_value=1e9),
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),
)
def test_an_intervals_times_go_on_and_on(every: float, moment: datetime) -> None:
    first, second = islice(Timing(every=every).after(moment), 2)
    assert moment < first < second
    assert (first - moment).total_seconds() <= every + 1e-5
    assert next(Timing(every=every).after(first)) == second


def test_times_are_counted_with_both_ends_up_to_a_bound() -> None:
    hourly = Timing("@hourly")
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert hourly.count(noon, noon, 100) == 1
    assert hourly.count(noon, noon + timedelta(hours=3), 100) == 4
    assert hourly.count(noon, noon + timedelta(days=30), 100) == 100


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "'' is no cron expression: write minute, hour"),
        ("5", "'5' is no cron expression: write minute, hour, day of month, month and day of week, such as '30 4 *"),
        ("* * * * * *", "write minute, hour"),
        ("61 * * * *", "'61 * * * *' is no cron expression: bad minute"),
        ("* * 31 2 *", "bad day-of-month"),
        ("0 0 * * 2#1/3", "is no cron expression"),
        ("0 0 * * mondays", "bad day-of-week"),
        ("@reboot", "'@reboot' is no cron expression"),
        (f"{'1,' * 300}1 * * * *", "is no cron expression: write minute"),
    ],
)
def test_what_is_no_cron_expression_is_refused(cron: str, said: str) -> None:
    with pytest.raises(ScheduleRefused) as refusal:
        Timing(cron)
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 500


@given(st.text(alphabet="0123456789*/,-#LW @AMONJ", max_size=40))
def test_any_text_has_times_or_is_refused(cron: str) -> None:
    try:
        timing = Timing(cron)
    except ScheduleRefused:
        return
    assert next(timing.after(START)) > START


@pytest.mark.parametrize("zone", ["Nowhere", "Europe/Berlim", "/etc/localtime", "../../etc/passwd", "", "x" * 300])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleRefused, match="there is no time zone"):
        Timing("@daily", timezone=zone)


@pytest.mark.parametrize("every", [0.5, 0.0, -3.0, 1e11, float("nan"), float("inf")])
def test_an_interval_is_from_a_second_to_a_hundred_years(every: float) -> None:
    with pytest.raises(ScheduleRefused, match="takes a second to a hundred years"):
        Timing(every=every)


def test_it_is_one_or_the_other() -> None:
    for timing in ({}, {"cron": "@daily", "every": 60.0}):
        with pytest.raises(ScheduleRefused, match="either a cron expression or an interval"):
            Timing(**timing)  # type: ignore[arg-type]
