"""What an installation takes for its own; test_systemd_install.py has the rest, under a real systemd."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from commands import Hep
from psycopg.conninfo import make_conninfo

from hook_event_processor.installation import account, refusals
from hook_event_processor.installation import install as installation
from hook_event_processor.installation.install import instances
from hook_event_processor.installation.places import PATTERNS, for_machine, for_user
from hook_event_processor.installation.settings_file import other_database, template, unquoted
from hook_event_processor.installation.steps import Link, Write

OURS = (
    "hook-event-processor.service",
    "hook-event-processor.target",
    "hook-event-processor@1.service",
    "hook-retention.timer",
    "hook-watcher.service",
    "hook-watcher@file.service",
)
UNITS = Path(__file__).parents[1] / "systemd"
OF_OTHERS = ("hook-event-processor-exporter.service", "hook-watchers.service", "hook-retention-report.timer")


def test_units_of_others_whose_names_begin_like_ours_are_left_alone(tmp_path: Path) -> None:
    for name in (*OURS, *OF_OTHERS):
        link = tmp_path / "default.target.wants" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / name)
    assert instances(replace(for_user(), own_units=tmp_path), "*") == sorted(OURS)


@pytest.mark.parametrize("name", [*OURS, "hook-emit@service.failed:a.service.service", "hook-retention.service"])
def test_each_unit_of_ours_matches_a_pattern(name: str) -> None:
    assert any(fnmatchcase(name, pattern) for pattern in PATTERNS)


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_unit_of_others_matches_none(name: str) -> None:
    assert not any(fnmatchcase(name, pattern) for pattern in PATTERNS)


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda unit: unit.name)
def test_systemd_does_not_try_again_what_misuse_or_a_wrong_setting_ended(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    if "Restart=on-failure" in lines:
        assert "RestartPreventExitStatus=2 78" in lines


def test_where_the_journal_says_nothing_it_is_named_with_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "output", lambda _: None)
    unit = "hook-event-processor.service"
    assert installation._last_words(for_machine(), unit) == f"see 'journalctl -u {unit}'"
    wanted = f"see 'journalctl --user -u {unit}', or root 'journalctl _SYSTEMD_USER_UNIT={unit}'"
    assert installation._last_words(for_user(), unit) == wanted


def test_a_database_that_is_not_taken_over_is_told_by_the_file_that_stays(tmp_path: Path) -> None:
    places = replace(for_machine(), settings=tmp_path, credentials=tmp_path)
    here, elsewhere = "postgresql:///hep?host=/run/postgresql", "postgresql://hep:secret@db.example/hep"
    assert other_database(places, here) is None
    places.environment.write_text("WORKERS=7\n")
    credential = tmp_path / "hook-event-processor.database_url"
    credential.write_text(elsewhere)
    assert other_database(places, elsewhere) is None
    assert other_database(places, here) == credential
    places.environment.write_text('DATABASE_URL="dbname=hep host=/run/postgresql"\n')
    assert other_database(places, here) is None
    assert other_database(places, elsewhere) == places.environment


@pytest.mark.parametrize("name", ["my data", "100%", "a\\b", 'a"b'])
def test_a_users_state_that_a_unit_cannot_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(refusals, "_check_systemd", lambda: None)
    monkeypatch.setattr(refusals, "_check_right", lambda _: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    refusals.check(for_user(), database_is_given=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / name))
    with pytest.raises(refusals.InstallationRefused, match="cannot stand in a unit: set XDG_DATA_HOME to"):
        refusals.check(for_user(), database_is_given=True)
    refusals.check(for_user(), database_is_given=None)


def test_an_account_of_our_name_that_is_anothers_is_neither_taken_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_check_systemd", "_check_right", "_check_program", "_check_state"):
        monkeypatch.setattr(refusals, check, lambda *_: None)
    line = next(line for line in (UNITS / "sysusers.conf").read_text().splitlines() if line.startswith("u "))
    _, name, _, comment, home = shlex.split(line)
    entries = {name: (name, "x", 990, 990, comment, home, "/usr/sbin/nologin")}
    monkeypatch.setattr("pwd.getpwnam", lambda name: pwd.struct_passwd(entries[name]))
    refusals.check(for_machine(), database_is_given=True)
    assert account.is_ours(for_machine())
    for other in (("Hep Burn", home), (comment, "/home/hep"), ("Hook event processor of mine", home)):
        entries[name] = (name, "x", 1000, 1000, *other, "/bin/bash")
        with pytest.raises(refusals.InstallationRefused, match="the account hep of this host is somebody else's"):
            refusals.check(for_machine(), database_is_given=True)
        refusals.check(for_user(), database_is_given=True)
        assert not account.is_ours(for_machine())
    entries.clear()
    refusals.check(for_machine(), database_is_given=True)


@pytest.mark.parametrize("password", ["pa$s", "pa`s", 'pa"s', r"pa\\s", r"pa\'s", "p a'"])
def test_a_connection_string_in_the_settings_is_read_as_systemd_reads_it(tmp_path: Path, password: str) -> None:
    places = replace(for_machine(), settings=tmp_path, credentials=tmp_path)
    given = make_conninfo(host="db.example", dbname="hep", password=password)
    places.environment.write_text(template({"DATABASE_URL": given}, (), of_user=False))
    assert other_database(places, given) is None
    assert other_database(places, "dbname=hep host=db.example") == places.environment


def test_settings_that_were_written_by_half_are_completed(tmp_path: Path) -> None:
    """By whoever installs again: before the credential, which says that nothing is left to say."""
    places = replace(for_machine(), settings=tmp_path / "etc", credentials=tmp_path / "credentials")
    wanted = installation.Wanted("host=db dbname=hep password=secret", database_has_password=True, schema="events")
    whole = [step for step in installation._settings(places, wanted) if isinstance(step, Write)]
    whole[0].take()
    again = [step for step in installation._settings(places, wanted) if isinstance(step, Write)]
    assert [step.path for step in again if step.needed] == [whole[1].path]
    for step in again:
        step.take()
    assert places.environment.read_text().count("DB_SCHEMA") == 1
    assert whole[1].path.read_text() == wanted.database
    assert not any(step.needed for step in installation._settings(places, wanted))


def test_a_file_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for name, content in (("taken", "password=secret"), ("credential", "password=\ud800")):
        with pytest.raises((OSError, UnicodeEncodeError)):
            Write(tmp_path / name, content, 0o600).take()
        assert os.listdir(tmp_path) == ["taken"]


def test_settings_that_are_completed_keep_every_byte_and_their_place(tmp_path: Path) -> None:
    places = replace(for_machine(), settings=tmp_path / "etc", credentials=tmp_path / "credentials")
    kept, old = tmp_path / "kept", b"# caf\xe9\nWORKERS=7\n"
    kept.write_bytes(old)
    places.settings.mkdir()
    places.environment.symlink_to(kept)
    for step in installation._settings(places, installation.Wanted("dbname=hep", schema="events")):
        assert step.needed
        step.take()
    assert places.environment.is_symlink()
    assert kept.read_bytes() == old + b'DATABASE_URL="dbname=hep"\nDB_SCHEMA="events"\n'
    assert not any(step.needed for step in installation._settings(places, installation.Wanted("dbname=hep")))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("host=a dbname=b ", "host=a dbname=b"),
        (r"pa\$s\\", "pa$s\\"),
        (r"'pa\$s'", r"pa\$s"),
        (r'"pa\$s\a\\"', r"pa$s\a" + "\\"),
        ("", ""),
    ],
)
def test_a_value_is_read_as_systemd_reads_it(written: str, value: str) -> None:
    assert unquoted(written) == value


@pytest.mark.parametrize(
    ("started", "is_behind"),
    [
        ("Sun 2026-11-22 11:49:32.400000 UTC", True),
        ("Sun 2026-11-22 11:49:32.600000 UTC", False),
        ("", False),
    ],
)
def test_a_unit_that_was_started_before_its_files_were_written_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str, is_behind: bool
) -> None:
    """However long the machine has slept since."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "InactiveExitTimestamp={started}"\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    link = tmp_path / "default.target.wants/hook-watcher.service"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "unit")
    file = Write(tmp_path / "unit", "")
    file.take()
    written = datetime(2026, 11, 22, 11, 49, 32, 500_000, UTC).timestamp()
    os.utime(file.path, (written, written))
    assert installation.is_behind(replace(for_user(), own_units=tmp_path), [file]) is is_behind


def test_a_link_that_leads_nowhere_is_put_right_and_any_other_stays(tmp_path: Path) -> None:
    program, another, path = tmp_path / "program", tmp_path / "another", tmp_path / "bin/hep"
    for file in (program, another):
        file.touch()
    link = Link(path, program)
    for before in (None, tmp_path / "removed"):
        if before is not None:
            path.unlink()
            path.symlink_to(before)
        assert link.needed
        link.take()
        assert path.readlink() == program
        assert not link.needed
    path.unlink()
    path.symlink_to(another)
    assert not link.needed


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ("all,file", "all stands alone: write it, or the types to watch"),
        ("file, none", "none stands alone: write it, or the types to watch"),
        ("flie,all", "'flie' is no type: there are all, none, "),
    ],
)
def test_the_words_for_all_and_no_watchers_stand_alone(offline_hep: Hep, types: str, said: str) -> None:
    finished = offline_hep.run("install", "--watchers", types)
    assert finished.status == 2
    assert said in finished.errors


# `hep` where a systemd seems to run, and the processor to start.
_HEP = """
import sys
from hook_event_processor.cli import main
from hook_event_processor.installation import install, refusals

refusals.check = lambda *_, **__: None
install.await_processor = lambda _: "0 processed"
sys.exit(main(sys.argv[1:]))
"""


def _hep(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command line with `hep` in it; systemctl does nothing, and each line that hep prints is written at once."""
    programs = home / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in (("systemctl", ""), ("hep", f'exec {sys.executable} {home}/hep.py "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (home / "hep.py").write_text(_HEP)
    return subprocess.run(
        ["bash", "-c", command],
        env={
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": "postgresql:///hep?host=/run/postgresql",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 141, ""),
        (">/dev/full", 1, "hep: standard output cannot be written: No space left on device; all was done\n"),
    ],
)
def test_what_changes_the_host_is_done_though_nobody_reads_it(tmp_path: Path, how: str, status: int, said: str) -> None:
    settings = tmp_path / ".config/hook-event-processor/environment"
    for command, is_there in (("install", True), ("uninstall --purge", False)):
        done = _hep(tmp_path, f"hep {command} --user {how}")
        assert done.returncode == status, done
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert settings.exists() == is_there
        again = _hep(tmp_path, f"hep {command} --user --dry-run").stdout
        assert not [line for line in again.splitlines() if line.startswith(("would write", "would remove"))]


def test_a_database_that_is_kept_keeps_the_key_of_its_secrets(tmp_path: Path) -> None:
    state = tmp_path / ".local/share/hook-event-processor"
    for folder in ("postgresql/data", "files", "watchers"):
        (state / folder).mkdir(parents=True)
    (state / "secret.key").write_text("a key")
    done = _hep(tmp_path, "hep uninstall --user --purge")
    assert done.returncode == 0, done
    assert sorted(os.listdir(state)) == ["postgresql", "secret.key"]
    wanted = f"{state} stays: an embedded database is in it, and secret.key, without which its secrets are lost"
    assert wanted in done.stderr
    (state / "secret.key").unlink()
    assert f"{state} stays: an embedded database is in it\n" in _hep(tmp_path, "hep uninstall --user --purge").stderr


def test_what_fails_is_said_though_nobody_reads_what_is_done(tmp_path: Path) -> None:
    (tmp_path / ".local/share/systemd").mkdir(parents=True)
    (tmp_path / ".local/share/systemd/user").write_text("no directory")
    done = _hep(tmp_path, "hep install --user | true; exit ${PIPESTATUS[0]}")
    assert done.returncode == 1
    assert done.stderr.startswith("hep: ")
    assert ".local/share/systemd/user" in done.stderr
