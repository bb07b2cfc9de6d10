"""The log: plain lines on a terminal, entries with fields in the journal, and never a flood, a secret or a wait."""

import logging
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clock import Clock

from hook_event_processor.telemetry.journal import JournalHandler, fields, mask, set_up, stderr_is_the_journal
from hook_event_processor.telemetry.lines import LineFormatter, printable
from hook_event_processor.telemetry.runs import RunLog

EVENT = "01936fd2-1c3e-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, whose handlers and level are as before when the test ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield root
    root.handlers = handlers
    root.setLevel(level)


class Journal:
    """A stand-in for journald's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1_000_000, 1)
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as memory:
                memory.seek(0)
                data = memory.read()
        entry = {}
        while data:
            name, data = data.split(b"\n", 1)
            (length,) = struct.unpack("<Q", data[:8])
            entry[name.decode()] = data[8 : 8 + length].decode()
            data = data[9 + length :]
        return entry


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.socket.close()


@pytest.fixture
def logger(journal: Journal, root_logger: logging.Logger) -> Iterator[logging.Logger]:
    """A logger that writes to the stand-in journal."""
    handler = JournalHandler(journal.path)
    handler.setFormatter(LineFormatter())
    root_logger.addHandler(handler)
    root_logger.setLevel("INFO")
    yield logging.getLogger("HookEventProcessor")
    handler.close()


def test_a_line_on_a_terminal_has_time_level_name_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("INFO")
    logging.getLogger("HookEventProcessor").info("HookEventProcessor initialized")
    logging.getLogger("HookEventProcessor").debug("unseen")
    expected = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[INFO\] HookEventProcessor: HookEventProcessor initialized\n"
    assert re.fullmatch(expected, capsys.readouterr().err)


def test_setting_up_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("INFO")
    set_up("WARNING")
    logging.getLogger().warning("once")
    logging.getLogger().info("never")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b]0;title\x07", r"a\x1b[31mred\x1b]0;title\x07"),
        ("over\rwritten", r"over\rwritten"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("turned \u202e", r"turned \u202e"),
        ("line\u2028separator", r"line\u2028separator"),
        ("half \ud800", r"half \ud800"),
        ("two\r\nlines\n", "two\n    lines"),
        ("tab\tand é, 漢字 and 🚀 stay", "tab\tand é, 漢字 and 🚀 stay"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_message_can_pose_as_another_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("INFO")
    logging.getLogger("a").info("bad\n2025-10-19 18:00:00 [ERROR] HookEventProcessor: forged")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("    2025")


def test_secrets_are_hidden_in_messages_arguments_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("INFO")
    mask(["p@ss/wo'rd", ""])
    log = logging.getLogger("x")
    log.info("postgresql://u:%s@h/ and password='%s'", "p%40ss%2Fwo%27rd", r"p@ss/wo\'rd")
    try:
        raise ValueError("using p@ss/wo'rd")
    except ValueError:
        log.exception("failed")
    shown = capsys.readouterr().err
    assert "ss/wo" not in shown
    assert "ss%2F" not in shown
    assert "ValueError: using ***" in shown
    assert "postgresql://u:***@h/" in shown


def test_an_entry_has_its_fields(journal: Journal, logger: logging.Logger) -> None:
    extra = fields(event_id=EVENT, hook="greet", source="task", action="failed", outcome="continue", duration_ms=1.5)
    logger.warning("ran\nwell", extra=extra)
    entry = journal.entry()
    assert entry["MESSAGE"] == "[WARNING] HookEventProcessor: ran\n    well"
    assert entry["PRIORITY"] == "4"
    assert entry["SYSLOG_IDENTIFIER"] == "hook-event-processor"
    assert entry["LOGGER"] == "HookEventProcessor"
    assert entry["CODE_FUNC"] == "test_an_entry_has_its_fields"
    assert entry["CODE_FILE"] == __file__
    assert (entry["EVENT_ID"], entry["HOOK"], entry["DURATION_MS"]) == (EVENT, "greet", "1.500")
    assert "AGENT_ID" not in entry


def test_a_field_cannot_add_a_field(journal: Journal, logger: logging.Logger) -> None:
    logger.info("x", extra=fields(hook="a\nPRIORITY=0\n\ud800"))
    entry = journal.entry()
    assert entry["HOOK"] == "a\nPRIORITY=0\n\\ud800"
    assert entry["PRIORITY"] == "6"


def test_secrets_are_hidden_in_entries(journal: Journal, logger: logging.Logger) -> None:
    mask(["sesame"])
    logger.info("open sesame", extra=fields(session_id="sesame"))
    entry = journal.entry()
    assert entry["MESSAGE"].endswith("open ***")
    assert entry["SESSION_ID"] == "***"


def test_an_entry_too_large_for_a_datagram_arrives(journal: Journal, logger: logging.Logger) -> None:
    logger.error("x" * 2_000_000)
    assert len(journal.entry()["MESSAGE"]) > 2_000_000


def test_a_journal_that_is_not_there_leaves_the_line_on_stderr(
    tmp_path: Path, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = JournalHandler(tmp_path / "absent")
    handler.setFormatter(LineFormatter())
    root_logger.addHandler(handler)
    root_logger.error("still here")
    assert capsys.readouterr().err == "<3>[ERROR] root: still here\n"


def test_a_restarted_journal_gets_the_next_line(tmp_path: Path, journal: Journal, logger: logging.Logger) -> None:
    journal.socket.close()
    journal.path.unlink()
    again = Journal(journal.path)
    logger.info("hello again")
    assert again.entry()["MESSAGE"].endswith("hello again")
    again.socket.close()


def test_a_journal_that_stands_still_delays_nobody_and_hears_what_was_lost(
    journal: Journal, logger: logging.Logger
) -> None:
    began = time.monotonic()
    for _ in range(5_000):
        logger.info("x" * 1000)
    assert time.monotonic() - began < 3
    deadline = time.monotonic() + 10
    seen = ""
    while "log lines were lost" not in seen and time.monotonic() < deadline:
        journal.socket.setblocking(False)
        try:
            while True:
                seen = journal.entry()["MESSAGE"]
                if "log lines were lost" in seen:
                    break
        except BlockingIOError:
            time.sleep(0.1)
        logger.info("next")
    assert re.search(r"\d+ log lines were lost", seen)


def test_a_record_that_cannot_be_formatted_does_not_raise(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    handler = JournalHandler(journal.path)
    handler.setFormatter(LineFormatter())
    handler.handle(logging.LogRecord("x", logging.INFO, __file__, 1, "%d", ("not a number",), None))
    assert "Logging error" in capsys.readouterr().err


def test_stderr_is_the_journal_only_if_it_is_that_very_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        stat = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        assert stderr_is_the_journal()
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino + 1}")
        assert not stderr_is_the_journal()
        monkeypatch.setenv("JOURNAL_STREAM", "nonsense")
        assert not stderr_is_the_journal()
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not stderr_is_the_journal()
    monkeypatch.setattr(sys, "stderr", None)
    assert not stderr_is_the_journal()


def log_runs(run_log: RunLog, runs: int, error: str | None = None) -> None:
    for _ in range(runs):
        if run_log.allows(error is not None):
            run_log.run(
                event_id=EVENT,
                event_type="task.failed",
                source="task",
                action="failed",
                hook="greet",
                outcome="failed" if error else "continue",
                duration_ms=1.25,
                error=error,
            )


def test_a_run_is_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log_runs(RunLog(logging.getLogger("Executor")), 1)
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == f"greet: continue after 1.25 ms, event task.failed {EVENT}"
    assert record.journal["HOOK"] == "greet"  # type: ignore[attr-defined]


def test_a_failed_run_is_a_warning_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    log_runs(RunLog(logging.getLogger("Executor")), 1, error="boom %s\ntraceback")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith("\nboom %s\ntraceback")


def test_runs_past_the_rate_are_counted_and_failures_still_seen(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level("INFO")
    run_log = RunLog(logging.getLogger("Executor"), rate=100, burst=200, clock=clock)
    log_runs(run_log, 500)
    log_runs(run_log, 1, error="boom")
    assert len(caplog.records) == 201
    caplog.clear()
    run_log.summarize()
    assert not caplog.records, "not before a second has passed"
    clock.now += 1
    run_log.summarize()
    assert [record.getMessage() for record in caplog.records] == [
        "runs not logged one by one: 300 more; event_hook_executions has them"
    ]
    caplog.clear()
    log_runs(run_log, 150)
    assert len(caplog.records) == 100
    run_log.close()
    assert "50 more" in caplog.records[-1].getMessage()
    run_log.close()
    assert len(caplog.records) == 101


def test_a_batch_asks_once(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level("WARNING", logger="Executor")
    run_log = RunLog(logging.getLogger("Executor"), rate=10, burst=20, clock=clock)
    assert run_log.allowed(100, failed=True) == 20
    assert run_log.allowed(100, failed=False) == 0, "nothing is counted that the level hides"
    run_log.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
