"""What the log has of processes whose end nobody tells."""

from __future__ import annotations

import subprocess

import pytest
from watched import Watched

from hook_event_processor.watchers.faults import FaultLog
from hook_event_processor.watchers.host import ending, process_table
from hook_event_processor.watchers.kinds import process


def test_many_processes_that_end_untold_are_a_few_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process_table.TABLE, "_fresh", -1.0)
    monkeypatch.setattr(ending, "_kernel_tells", lambda: False)
    monkeypatch.setattr(ending, "_unit", lambda _: None)
    monkeypatch.setattr(process, "_UNTOLD", FaultLog("how processes ended"))
    programs = [subprocess.Popen(["/bin/sleep", "600"]) for _ in range(25)]
    watchers = [Watched("process", pid=program.pid) for program in programs]
    try:
        for watched in watchers:
            assert watched.look() == []
    finally:
        for program in programs:
            program.kill()
            program.wait()
    monkeypatch.setattr(process_table.TABLE, "_fresh", -1.0)
    for watched in watchers:
        (stopped,) = watched.look()
        assert stopped.data["crash"] == "unknown"
    assert len([record for record in caplog.records if "nobody tells" in record.getMessage()]) == 20
