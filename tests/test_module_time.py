"""time: reading and writing times, zones and durations."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from chunks import error, event, library, output, runtime
from chunks import execute as execute_within

from hook_event_processor.run import ChunkResult

_START = "local time = require('time')\n"


def execute(body: str, *events: list[object]) -> ChunkResult:
    return execute_within(_START + body, *events, within=runtime(library=library()))


def _of(call: str) -> str:
    """The call's results, as print writes them."""
    return output(execute(f"print(time.{call})"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", "0"),
        ("2026-11-21T13:35:11Z", "1795268111"),
        ("2026-11-21t13:35:11z", "1795268111"),
        ("2026-11-21 13:35:11.25+01:30", "1795262711.25"),
        ("1969-12-31T23:59:59-00:00", "-1"),
        ("2016-12-31T23:59:60Z", "1483228800"),
        ("2026-11-21", "1795219200"),
        ("2024-02-29", "1709164800"),
        ("0001-01-01", "-62135596800"),
    ],
)
def test_parsing_rfc_3339_and_dates(text: str, seconds: str) -> None:
    assert _of(f"parse('{text}')") == seconds


def test_an_events_timestamp_is_parsed() -> None:
    assert _of("parse(event.timestamp)") == "946684800.0"


def test_parsing_agrees_with_python_on_any_time() -> None:
    chance = random.Random(0)
    times = []
    for _ in range(300):
        zone = timezone(timedelta(minutes=chance.randint(-1400, 1400)))
        times.append(datetime(1, 1, 3, tzinfo=zone) + timedelta(seconds=chance.randint(0, 315537000000)))
    texts = ", ".join(f"'{at.isoformat()}'" for at in times)
    printed = output(execute(f"for _, text in ipairs({{ {texts} }}) do print(time.parse(text)) end"))
    assert [int(line) for line in printed.split("\n")] == [int(at.timestamp()) for at in times]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-1-1",
        "2026-02-30",
        "2023-02-29",
        "1900-02-29",
        "2026-13-01",
        "2026-00-01",
        "0000-01-01",
        "2026-11-21T",
        "2026-11-21T13:35Z",
        "2026-11-21T13:35:11",
        "2026-11-21T24:00:00Z",
        "2026-11-21T13:60:00Z",
        "2026-11-21T13:35:11.Z",
        "2026-11-21T13:35:11+25:00",
        "2026-11-21T13:35:11Zx",
        "2026-11-21T13:35:11123Z",
    ],
)
def test_what_is_no_time_is_a_reason(text: str) -> None:
    expected = f"nil\ttime.parse: not a time like 2026-11-21T13:35:11Z or a date like 2026-11-21: {text}"
    assert _of(f"parse('{text}')") == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("0", "1970-01-01T00:00:00Z"),
        ("1795268111.75", "2026-11-21T13:35:11Z"),
        ("-1", "1969-12-31T23:59:59Z"),
        ("0, nil, '+05:30'", "1970-01-01T05:30:00+05:30"),
        ("0, nil, 'America/New_York'", "1969-12-31T19:00:00-05:00"),
        ("1795268111, nil, 'UTC'", "2026-11-21T13:35:11Z"),
        ("1795268111.75, '%d.%m.%Y %H:%M:%S.%f'", "21.11.2026 13:35:11.750000"),
        ("1795268111, '%H:%M %z %Z', 'Europe/Berlin'", "14:35 +0100 CET"),
        ("1782000000, '%H:%M %z %Z', 'Europe/Berlin'", "02:00 +0200 CEST"),
        ("0, '%H:%M %z %Z', '-03:00'", "21:00 -0300 -03:00"),
        ("0, '%z %Z %%f %%'", "+0000 UTC %f %"),
        ("0, ''", ""),
    ],
)
def test_formatting(arguments: str, text: str) -> None:
    assert _of(f"format({arguments})") == text


def test_what_was_formatted_is_parsed_again() -> None:
    assert _of("parse(time.format(1795268111, nil, 'Asia/Kolkata'))") == "1795268111"


@pytest.mark.parametrize(
    "zone", ["Mars/Base", "../../etc/passwd", "/etc/passwd", "", "Europe", "a\\0b", "+25:00", "\\xff"]
)
def test_an_unknown_zone_is_a_reason(zone: str) -> None:
    assert _of(f"format(0, nil, '{zone}')").startswith("nil\ttime.format: there is no zone ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", "5400"),
        ("45s", "45"),
        ("250ms", "0.25"),
        ("1.5h", "5400"),
        ("-5m", "-300"),
        ("1w2d", "777600"),
        ("1m30s500ms", "90.5"),
        ("0s", "0"),
        ("2us", "2e-06"),
        ("30500568904944w", "1.844674407371e+19"),  # a 64-bit integer would wrap around
    ],
)
def test_durations(text: str, seconds: str) -> None:
    assert _of(f"duration('{text}')") == seconds


@pytest.mark.parametrize("text", ["", "-", "1", "s", "5x", "1h1h", "1m1h", "1..5s", "1h 30m", "1h30", "--1s"])
def test_what_is_no_duration_is_a_reason(text: str) -> None:
    assert _of(f"duration('{text}')") == f"nil\ttime.duration: not a duration like 1h30m, 45s or 250ms: {text}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ("0", "0s"),
        ("5400", "1h30m"),
        ("0.25", "250ms"),
        ("0.0001", "0.1ms"),
        ("0.9999999", "1s"),
        ("1e-9", "0s"),
        ("1.5", "1.5s"),
        ("59.9999", "1m"),
        ("90061", "1d1h1m1s"),
        ("-60", "-1m"),
    ],
)
def test_durations_for_people(seconds: str, text: str) -> None:
    assert _of(f"human({seconds})") == text


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("parse(5)", "time.parse takes a string, not a number"),
        ("format('x')", "time.format takes a number of seconds, not x"),
        ("format(0/0)", "time.format takes a number of seconds, not "),
        ("format(1e300)", "time.format takes seconds of the years 1 to 9999, not 1e+300"),
        ("format(math.huge)", "time.format takes seconds of the years 1 to 9999, not inf"),
        ("format(0, ('x'):rep(201))", "time.format takes a layout of at most 200 bytes"),
        ("format(0, 5)", "time.format takes a layout of at most 200 bytes"),
        ("format(0, '*t')", "time.format makes a text: a layout is strftime's, like %Y-%m-%d, and not os.date's *t"),
        ("format(0, '!*t')", "time.format makes a text: a layout is strftime's, like %Y-%m-%d, and not os.date's !*t"),
        ("format(0, '*t\\0x')", "time.format makes a text"),
        ("format(0, '%Q')", "time.format: invalid conversion specifier '%Q'; layouts are strftime's, with %f"),
        ("format(0, '%')", "time.format: invalid conversion specifier '%'"),
        ("format(0, nil, 5)", "time.format takes a string as its zone, not a number"),
        ("duration(5)", "time.duration takes a string, not a number"),
        ("human('5')", "time.human takes a number of seconds, not 5"),
        ("human(1e300)", "time.human takes a number of seconds, not 1e+300"),
        ("sleep('x')", "time.sleep takes a number of seconds"),
    ],
)
def test_misuse_names_function_and_line(call: str, reason: str) -> None:
    assert error(execute(f"local _ = time.{call}")).startswith(f"hook.lua:4: {reason}")


def test_now_is_the_time_of_day() -> None:
    assert abs(float(_of("now()")) - datetime.now(UTC).timestamp()) < 60


def test_a_huge_text_is_refused_at_once() -> None:
    body = """
    for _, part in ipairs({ "1", "1s", ".", "-", "a" }) do
      local huge = part:rep(1e6)
      assert(not time.duration(huge))
      assert(not time.parse(huge))
      assert(not time.parse("2026-11-21T13:35:11" .. huge))
    end
    """
    assert max(execute(body, event()).durations) < 1
