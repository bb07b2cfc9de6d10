"""Tables and JSON; durations and times as users write them."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from hook_event_processor.cli import output, spans


def test_wide_characters_count_twice(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("Name", "N"), [("東京", "1"), ("ab", "10")], right=("N",))
    assert capsys.readouterr().out == "Name   N\n東京   1\nab    10\n"


def test_json_escapes_what_json_lets_stand(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"text": "\x7f\x9b\u202e\x1b é"})
    assert capsys.readouterr().out == '{\n  "text": "\\u007f\\u009b\\u202e\\u001b é"\n}\n'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("720h", 2_592_000), ("7d", 604_800), ("2m30s", 150), ("1.5h", 5_400), ("250ms", 0.25)],
)
def test_durations(text: str, seconds: float) -> None:
    assert spans.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "5 s", "5x", "1e3s", "5s!", "\u0665s", "9" * 400 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        spans.duration(text)


def test_since_takes_a_time_or_how_long_ago() -> None:
    assert spans.since("2025-10-06T14:23:45Z") == datetime(2025, 10, 6, 14, 23, 45, tzinfo=UTC)
    assert spans.since("2025-10-06T14:23:45+02:00") == datetime(2025, 10, 6, 12, 23, 45, tzinfo=UTC)
    assert abs(datetime.now(UTC) - timedelta(hours=1) - spans.since("1h")) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.042, "0.04ms"), (234.4, "234ms"), (1_234.0, "1.2s"), (150_000.0, "2m30s"), (7_500_000.0, "2h05m")],
)
def test_durations_of_runs(milliseconds: float, text: str) -> None:
    assert output.milliseconds(milliseconds) == text


def test_ages() -> None:
    ages = [output.age(seconds) for seconds in (-3, 12, 192, 18_120, 273_600)]
    assert ages == ["0s", "12s", "3m12s", "5h02m", "3d04h"]
