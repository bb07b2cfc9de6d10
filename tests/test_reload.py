"""Settings read anew while a processor runs: what is taken over at once, what waits, and what a wrong one does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from commands import Hep

from hook_event_processor import handover, settings
from hook_event_processor.handover import Reader, change

GIVEN = {"HEP_HOME": "/var/lib/nowhere", "DATABASE_URL": "postgresql:///one"}


def load(**variables: str) -> settings.Settings:
    return settings.load({**GIVEN, **variables}, Path("/nonexistent"))


def test_log_level_and_grants_are_taken_over_and_the_rest_waits() -> None:
    changed = change(load(), load(LOG_LEVEL="DEBUG", HOOK_EXEC="make", WORKERS="7", DATABASE_URL="postgresql:///two"))
    assert changed.taken == ("HOOK_EXEC", "LOG_LEVEL")
    assert changed.waiting == ("DATABASE_URL", "WORKERS")
    assert changed.settings.log_level == "DEBUG"
    assert changed.settings.policy.grants("any", None).exec == ("make",)
    assert changed.settings.workers == load().workers
    assert changed.settings.conninfo == load().conninfo


def test_a_policy_file_with_another_content_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[hook.a]\nexec = ["make"]\n')
    before = load(HOOK_POLICY=str(file))
    file.write_text('[hook.a]\nexec = ["ls"]\n')
    changed = change(before, load(HOOK_POLICY=str(file)))
    assert (changed.taken, changed.waiting) == (("HOOK_POLICY",), ())
    assert changed.settings.policy.grants("a", None).exec == ("ls",)


def test_what_a_processor_does_not_use_is_passed_over() -> None:
    changed = change(load(), load(RETENTION="off", HOST_TAGS="web", SPOOL_MAX_MB="10", WATCH_BATCH="5"))
    assert (changed.taken, changed.waiting) == ((), ())


def test_what_is_handed_over_is_read_once_and_by_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("WORKERS", "3")
    reader, late = Reader(), Reader()
    handover.hand_over({**GIVEN, "WORKERS": "5"}, tmp_path)
    assert (tmp_path / "settings").stat().st_mode & 0o777 == 0o600
    assert reader.read().workers == 5
    assert late.read().workers == 3, "its own environment"


def test_what_was_handed_to_a_process_that_is_no_more_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory outlives a restart; what was withdrawn since would come back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "settings.new").write_text("half of it")
    handover.hand_over({**GIVEN, "HOOK_EXEC": "sh"}, tmp_path)
    (tmp_path / "settings.new").write_text("half of it")
    reader = Reader()
    assert list(tmp_path.iterdir()) == []
    assert reader.read().hook_exec == settings.load(GIVEN).hook_exec


def test_a_signal_alone_does_not_give_back_what_a_reload_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("HOOK_EXEC", "sh")
    reader = Reader()
    assert reader.read().hook_exec == settings.load({**GIVEN, "HOOK_EXEC": "sh"}).hook_exec
    handover.hand_over(GIVEN, tmp_path)
    revoked = settings.load(GIVEN).hook_exec
    assert reader.read().hook_exec == revoked
    assert reader.read().hook_exec == revoked


def test_credentials_are_the_services_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "database_url").write_text("postgresql://hep:secret@localhost/hep")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    before, reader = settings.load(), Reader()
    handover.hand_over({"HEP_HOME": str(before.home), "LOG_LEVEL": "DEBUG"}, tmp_path)
    assert change(before, reader.read()).waiting == ()


def test_reload_hands_over_and_signals(offline_hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: signals.append(number))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    try:
        monkeypatch.setenv("WORKERS", "many")
        refused = offline_hep.run("reload")
        assert (refused.status, "WORKERS" in refused.errors) == (78, True)
        assert signals == []
        monkeypatch.setenv("WORKERS", "6")
        offline_hep("reload")
        assert signals == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Reader().read().workers == 6


def test_reload_by_hand_says_what_to_use(offline_hep: Hep) -> None:
    assert "systemctl reload" in offline_hep.fault("reload")
