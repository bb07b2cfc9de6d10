"""Watchers of logs: real files that are written to, rotated and truncated."""

from __future__ import annotations

import errno
import gc
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from waiting import wait_for
from watched import Watched

from hook_event_processor.watchers.check import CheckFailed, WatcherRefused
from hook_event_processor.watchers.host import birth, follow, log_reader, rotations
from hook_event_processor.watchers.host.birth import birth_ns
from hook_event_processor.watchers.host.line_pattern import LinePattern
from hook_event_processor.watchers.kinds import log as log_kind


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log that is there already."""
    path = tmp_path / "app.log"
    path.write_text("ERROR before\n")
    return path


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look ends with what there is to read, however busy the machine is."""
    monkeypatch.setattr(follow, "LOOK_SECONDS", 60.0)


def append(path: Path, text: str | bytes) -> None:
    with open(path, "ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def errors(log: Path, **options: object) -> Watched:
    """A watcher for errors that has had its first look."""
    watched = Watched("log", path=log, pattern="ERROR (.*)", **options)
    assert watched.look() == []
    return watched


def lines(watched: Watched) -> list[str]:
    return [each.data["line"] for each in watched.look()]


def held(log: Path) -> list[str]:
    """The files beginning with the log's path that this process has open."""
    gc.collect()
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    paths = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [path for path in paths if path.startswith(str(log))]


def rotate(log: Path, old: str) -> None:
    """As a program does after a while: no two of its files came into being at the same tick of the clock."""
    log.rename(f"{log}{old}")
    make(log, f"{log}{old}")


def make(path: Path, than: str) -> None:
    """Make a file that is younger than another."""
    born = birth_ns(than)
    assert born is not None

    def is_younger() -> bool:
        path.unlink(missing_ok=True)
        path.touch()
        return (birth_ns(str(path)) or 0) > born

    wait_for(is_younger, 5)


def test_lines_that_match_are_told_once(log: Path) -> None:
    watched = errors(log)
    append(log, "fine\nERROR one\nfine\nan ERROR two\n")
    first, second = watched.look()
    assert (first.type, first.resource) == ("log.pattern_matched", str(log))
    assert first.data == {
        "path": str(log),
        "pattern": "ERROR (.*)",
        "line": "ERROR one",
        "offset": 18,
        "groups": ["one"],
        "watcher_id": "watcher-1",
    }
    assert second.data["line"] == "an ERROR two"
    assert watched.look() == []


def test_named_groups_and_numbers_of_lines(tmp_path: Path) -> None:
    log = tmp_path / "new.log"
    watched = Watched("log", path=log, pattern=r"(?P<level>WARN|ERROR) (?P<code>\d+)?")
    watched.look()
    append(log, "x\ny\nERROR 7\n")
    data = watched.one()
    assert data["fields"] == {"level": "ERROR", "code": "7"}
    assert data["line_number"] == 3
    append(log, "z\nWARN -\n")
    data = watched.one()
    assert (data["fields"], data["line_number"]) == ({"level": "WARN", "code": None}, 5)


def test_a_text_is_found_as_it_stands(log: Path) -> None:
    watched = Watched("log", "contains", path=log, pattern="[a-z]+ (")
    watched.look()
    append(log, "abc (\n[a-z]+ (here)\n")
    assert lines(watched) == ["[a-z]+ (here)"]


def test_a_line_is_told_when_it_has_ended(log: Path) -> None:
    append(log, "ERR")
    watched = errors(log)
    append(log, "OR half")
    assert watched.look() == []
    append(log, " and half\nERROR next")
    assert lines(watched) == ["ERROR half and half"]
    append(log, "\n")
    assert lines(watched) == ["ERROR next"]


def test_a_log_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "later.log"
    watched = errors(log)
    append(log, "ERROR first\n")
    assert lines(watched) == ["ERROR first"]


def test_rotation_by_rename(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    log.rename(f"{log}.1")
    append(log, "ERROR 3\n")
    # The program has the old one open for a moment longer.
    append(Path(f"{log}.1"), "ERROR 2\n")
    assert lines(watched) == ["ERROR 1", "ERROR 2", "ERROR 3"]
    append(Path(f"{log}.1"), "ERROR 4")
    append(log, "ERROR 5\n")
    assert lines(watched) == ["ERROR 5"]
    append(Path(f"{log}.1"), " ends\n")
    assert lines(watched) == ["ERROR 4 ends"]
    assert watched.look() == []


def test_a_rotated_log_is_read_until_nobody_has_written_to_it_for_a_minute(log: Path) -> None:
    """As a server does that ends its old connections in their time."""
    watched = errors(log)
    old = Path(f"{log}.1")
    log.rename(old)
    log.touch()
    for number in range(10):
        assert [lines(watched) for _ in range(number % 5)] == [[]] * (number % 5)
        append(old, f"ERROR {number}\n")
        append(log, f"ERROR new {number}\n")
        assert lines(watched) == [f"ERROR {number}", f"ERROR new {number}"]
        if number % 3 == 0:
            watched.restart()
    append(old, "ERROR never ended")
    assert [lines(watched) for _ in range(7)] == [*[[]] * 6, ["ERROR never ended"]]
    assert held(log) == [str(log)]


def test_a_renamed_log_is_read_until_another_is_at_its_path(log: Path) -> None:
    """However long that takes, and after a restart, too."""
    watched = errors(log)
    old = Path(f"{log}.1")
    log.rename(old)
    watched.restart()
    assert [lines(watched) for _ in range(20)] == [[]] * 20
    append(old, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    assert [lines(watched) for _ in range(20)] == [[]] * 20
    make(log, str(old))
    assert watched.look() == []
    append(old, "ERROR 2\n")
    append(log, "ERROR 3\n")
    assert lines(watched) == ["ERROR 2", "ERROR 3"]
    assert [lines(watched) for _ in range(7)] == [[]] * 7
    assert held(log) == [str(log)]


def test_a_renamed_log_that_is_removed_is_not_held_open(log: Path) -> None:
    watched = errors(log)
    log.rename(f"{log}.1")
    watched.restart()
    assert watched.look() == []
    Path(f"{log}.1").unlink()
    assert watched.look() == []
    assert held(log) == []


def test_only_so_many_rotated_logs_are_read_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotations, "MAX_FILES", 2)
    watched = errors(log)
    for number in range(5):
        log.rename(f"{log}.{number}")
        append(log, f"ERROR {number}\n")
        assert lines(watched) == [f"ERROR {number}"]
    assert watched.look() == []
    assert sorted(held(log)) == [str(log), f"{log}.3", f"{log}.4"]
    append(Path(f"{log}.3"), "ERROR late\n")
    assert lines(watched) == ["ERROR late"]


def test_the_rest_of_a_log_that_was_rotated_and_removed(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    log.unlink()
    assert lines(watched) == ["ERROR 1"]
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]


def test_a_removed_log_is_not_held_open(log: Path) -> None:
    watched = errors(log)
    log.unlink()
    watched.look()
    assert held(log) == []


def test_truncation(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    os.truncate(log, 0)
    assert watched.look() == []
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]


@pytest.mark.parametrize("text", ["ERROR other!\n", "ERROR longer than all that was there\nERROR more\n"])
def test_truncation_that_is_grown_over(log: Path, text: str) -> None:
    """To the same size, or beyond: it is told by what stands where the reading ended."""
    watched = errors(log)
    os.truncate(log, 0)
    append(log, text)
    assert lines(watched) == text.splitlines()
    assert watched.look() == []


def test_truncation_that_is_grown_over_to_the_same_place_twice(log: Path) -> None:
    watched = errors(log)
    for text in ("ERROR second\n", "ERROR third!\n"):
        os.truncate(log, 0)
        append(log, text)
        assert lines(watched) == [text.strip()]
    watched.restart()
    assert watched.look() == []
    append(log, "ERROR last\n")
    assert lines(watched) == ["ERROR last"]


def test_a_rotation_after_a_truncation_while_nobody_looked(log: Path) -> None:
    watched = errors(log)
    os.truncate(log, 0)
    append(log, "ERROR 1, and more than there was\n")
    log.rename(f"{log}.1")
    append(log, "ERROR 2\n")
    watched.restart()
    assert lines(watched) == ["ERROR 1, and more than there was", "ERROR 2"]


def test_who_writes_on_behind_a_truncation_leaves_a_hole_that_is_passed_over(log: Path) -> None:
    watched = errors(log)
    with open(log, "r+b") as file:
        file.seek(1 << 32)
        os.truncate(log, 0)
        file.write(b"ERROR behind\n")
    assert lines(watched) == ["ERROR behind"]
    append(log, "ERROR next\n")
    assert lines(watched) == ["ERROR next"]


def test_space_that_was_made_beforehand_is_not_passed_over(log: Path) -> None:
    watched = errors(log)
    size = log.stat().st_size
    os.truncate(log, 1 << 20)
    assert watched.look() == []
    with open(log, "r+b") as file:
        file.seek(size)
        file.write(b"ERROR in place\n")
    assert lines(watched) == ["ERROR in place"]


def test_a_restart_goes_on_where_the_reading_ended(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    append(log, "ERROR 2\nERR")
    watched.restart()
    told = watched.one()
    assert (told["line"], told["seen_late"]) == ("ERROR 2", True)
    append(log, "OR 3\n")
    watched.restart()
    assert lines(watched) == ["ERROR 3"]


def test_a_rotation_while_nobody_looked(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    log.rename(f"{log}.1")
    append(log, "ERROR 2\n")
    watched.restart()
    assert lines(watched) == ["ERROR 1", "ERROR 2"]
    assert watched.look() == []


@pytest.mark.parametrize("is_down", [True, False])
def test_rotations_one_after_the_other_while_nobody_looked(log: Path, is_down: bool) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    log.with_name("app.log.7").write_text("ERROR of long ago\n")  # it is younger, but not a rotation's
    os.utime(log.with_name("app.log.7"), (1, 1))
    rotate(log, ".1")
    append(log, "ERROR 2\n")
    Path(f"{log}.1").rename(f"{log}.2")
    rotate(log, ".1")
    append(log, "ERROR 3\n")
    for number in (2, 1):
        Path(f"{log}.{number}").rename(f"{log}.{number + 1}")
    rotate(log, ".1")
    append(log, "ERROR 4\n")
    if is_down:
        watched.restart()
    assert lines(watched) == [f"ERROR {number}" for number in (1, 2, 3, 4)]
    assert watched.look() == []
    watched.restart()
    assert watched.look() == []


def test_a_log_that_was_rotated_and_compressed_while_nobody_looked_is_missed(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    rotate(log, ".2")
    append(log, "ERROR 2\n")
    rotate(log, ".1")
    append(log, "ERROR 3\n")
    Path(f"{log}.2").unlink()
    Path(f"{log}.2.gz").write_text("ERROR 1\n")
    watched.restart()
    assert lines(watched) == ["ERROR 2", "ERROR 3"]
    with pytest.raises(CheckFailed, match="lines may have been missed"):
        watched.look()
    assert watched.look() == []


@pytest.mark.parametrize("is_down", [True, False])
def test_copies_and_other_logs_beside_one_are_not_taken_for_it(log: Path, is_down: bool) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    shutil.copy(log, f"{log}.1")  # before it is as long as it will be
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 1", "ERROR 2"]
    shutil.copy(log, f"{log}.20240101")
    Path(f"{log}.errors").write_text("ERROR of another log\n")
    Path(f"{log}.9").symlink_to(f"{log}.errors")
    rotate(log, ".2")
    append(log, "ERROR 3\n")
    if is_down:
        watched.restart()
    assert lines(watched) == ["ERROR 3"]
    assert watched.look() == []


def test_another_log_of_the_same_age_and_a_name_like_it_is_not_taken_for_it(log: Path) -> None:
    watched = errors(log)
    make(log.with_name("app.log-2.1"), str(log))
    append(log.with_name("app.log-2.1"), "ERROR of another log\n")
    rotate(log, ".1")
    os.utime(f"{log}.1", (time.time() + 7200,) * 2)  # it was written to for two hours
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    assert watched.look() == []


def test_a_copy_of_a_log_that_is_gone_is_not_read_again(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    shutil.copy(log, f"{log}.1")
    rotate(log, ".2")
    Path(f"{log}.2").unlink()
    append(log, "ERROR 2\n")
    watched.restart()
    assert lines(watched) == ["ERROR 2"]
    with pytest.raises(CheckFailed, match="lines may have been missed"):
        watched.look()


@pytest.mark.parametrize("truncated", ["before", "seen", "unseen"])
@pytest.mark.parametrize("is_down", [True, False])
def test_copies_of_what_a_log_was_before_it_was_truncated_are_not_read_again(
    log: Path, truncated: str, is_down: bool
) -> None:
    def truncate() -> None:
        make(Path(f"{log}.1"), str(log))
        shutil.copyfile(log, f"{log}.1")
        make(log.with_name("later"), f"{log}.1")  # no two of these at the same tick of the clock
        os.truncate(log, 0)

    if truncated == "before":
        truncate()
    watched = errors(log)
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    if truncated != "before":
        if truncated == "unseen":
            watched.restart()
        truncate()
        assert lines(watched) == []
    if is_down:
        watched.restart()
    log.unlink()
    if not is_down:
        assert watched.look() == []
    make(log, str(log.with_name("later")))
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]


def test_where_files_have_no_time_of_birth_what_may_have_been_the_log_is_missed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("birth_ns", "birth_ns_of"):
        monkeypatch.setattr(birth, name, lambda _: None)
    watched = errors(log)
    Path(f"{log}.2").write_text("ERROR of long ago\n")
    os.utime(f"{log}.2", (1, 1))
    append(log, "ERROR 1\n")
    log.rename(f"{log}.1")
    append(log, "ERROR 2\n")
    watched.restart()
    assert lines(watched) == ["ERROR 1", "ERROR 2"]
    assert watched.look() == []
    log.rename(f"{log}.3")
    append(log, "ERROR 3\n")
    os.utime(log, (time.time() + 60,) * 2)
    log.rename(f"{log}.4")
    append(log, "ERROR 4\n")
    assert lines(watched) == ["ERROR 4"]
    with pytest.raises(CheckFailed, match="lines may have been missed"):
        watched.look()


def test_a_truncation_while_nobody_looked(log: Path) -> None:
    watched = errors(log)
    os.truncate(log, 0)
    append(log, "ERROR a new one, longer than before\n")
    watched.restart()
    assert lines(watched) == ["ERROR a new one, longer than before"]


def test_a_file_that_was_given_the_inode_of_another_is_not_that(log: Path) -> None:
    watched = errors(log)
    state = watched.state()
    assert isinstance(state, dict)
    log.unlink()
    append(log, "ERROR of another file\n")
    state["marks"][0][0] = log.stat().st_ino
    watched.state = lambda: state  # type: ignore[method-assign]
    watched.restart()
    del watched.__dict__["state"]
    assert lines(watched) == ["ERROR of another file"]


def test_a_log_that_cannot_be_read_keeps_its_place(log: Path, tmp_path: Path) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    log.rename(tmp_path / "aside")
    log.mkdir()
    # What there was to read is told before what is wrong.
    assert lines(watched) == ["ERROR 1"]
    with pytest.raises(CheckFailed, match="is not a regular file"):
        watched.look()
    log.rmdir()
    (tmp_path / "aside").rename(log)
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes of files that can be opened, but not read."""
    inodes: set[int] = set()
    pread = os.pread

    def reading(descriptor: int, size: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino in inodes:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", reading)
    return inodes


def test_a_log_that_could_not_be_read_for_a_while_is_opened_anew_and_read_on(log: Path, broken: set[int]) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    assert lines(watched) == ["ERROR 1"]
    append(log, "ERROR 2\n")
    broken.add(log.stat().st_ino)
    with pytest.raises(CheckFailed, match=r"log could not be read \(Stale file handle\): lines may have been missed"):
        watched.look()
    assert held(log) == []
    for _ in range(2):
        with pytest.raises(CheckFailed, match="cannot read"):
            watched.look()
    broken.clear()
    append(log, "ERROR 3\n")
    assert lines(watched) == ["ERROR 2", "ERROR 3"]
    assert watched.look() == []


def test_a_log_that_cannot_be_read_any_more_is_followed_by_the_next(log: Path, broken: set[int]) -> None:
    watched = errors(log)
    append(log, "ERROR 1\n")
    broken.add(log.stat().st_ino)
    with pytest.raises(CheckFailed, match="could not be read"):
        watched.look()
    rotate(log, ".1")
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]
    with pytest.raises(CheckFailed, match="a part of it cannot be found"):
        watched.look()
    assert watched.look() == []


def test_a_rotated_log_that_cannot_be_read_any_more_holds_up_no_other(log: Path, broken: set[int]) -> None:
    watched = errors(log)
    rotate(log, ".1")
    assert watched.look() == []
    append(Path(f"{log}.1"), "ERROR 1\n")
    append(log, "ERROR 2\n")
    broken.add(Path(f"{log}.1").stat().st_ino)
    assert lines(watched) == ["ERROR 2"]
    with pytest.raises(CheckFailed, match="could not be read"):
        watched.look()
    assert watched.look() == []
    assert held(log) == [str(log)]


def test_a_log_that_cannot_be_read_at_the_start_is_taken_up_once(log: Path, broken: set[int]) -> None:
    watched = errors(log)
    rotate(log, ".1")
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 2"]
    append(Path(f"{log}.1"), "ERROR 1\n")
    append(log, "ERROR 3\n")
    watched.restart()
    broken.add(log.stat().st_ino)
    for _ in range(2):
        with pytest.raises(CheckFailed, match="cannot read"):
            watched.look()
    broken.clear()
    assert lines(watched) == ["ERROR 1", "ERROR 3"]


def test_one_look_reads_so_much_and_the_next_goes_on(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PIECE_BYTES", 100_000)
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.0)
    watched = errors(log, max_events=10_000)
    append(log, "".join(f"ERROR {number:030}\n" for number in range(10_000)))
    log.rename(f"{log}.1")
    append(log, "ERROR last\n")
    told: list[str] = []
    sizes = []
    while "ERROR last" not in told:
        fresh = lines(watched)
        sizes.append(len(fresh))
        told += fresh
    assert told == [f"ERROR {number:030}" for number in range(10_000)] + ["ERROR last"]
    assert max(sizes) < 5_000


def test_a_backlog_of_a_rotated_log_survives_a_restart(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PIECE_BYTES", 70_000)
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.0)
    watched = errors(log, max_events=10_000)
    append(log, "".join(f"ERROR {number:030}\n" for number in range(10_000)))
    log.rename(f"{log}.1")
    append(log, "ERROR last\n")
    told: list[str] = []
    while "ERROR last" not in told:
        told += lines(watched)
        watched.restart()
    assert told == [f"ERROR {number:030}" for number in range(10_000)] + ["ERROR last"]


def test_more_events_than_wanted_are_counted(log: Path) -> None:
    watched = errors(log, max_events=3)
    append(log, "ERROR x\n" * 10)
    told = watched.look()
    assert [each.data.get("dropped") for each in told] == [None, None, 7]


def test_a_look_reads_on_as_long_as_it_has_time(log: Path) -> None:
    watched = errors(log)
    append(log, f"{'x' * 100}\n" * 100_000)
    append(log, "ERROR 1\n")
    log.rename(f"{log}.1")
    append(log, f"{'x' * 100}\n" * 100_000)
    append(log, "ERROR 2\n")
    assert lines(watched) == ["ERROR 1", "ERROR 2"]


def test_what_is_more_than_one_look_tells_waits_for_the_next(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PIECE_BYTES", 70_000)
    watched = errors(log, max_events=7)
    append(log, ("ERROR x\n" * 7 + "y" * (70_000 - 7 * 8 - 1) + "\n") * 3)
    assert [len(watched.look()) for _ in range(4)] == [7, 7, 7, 0]


def test_far_behind_what_is_more_than_one_look_tells_is_counted(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PIECE_BYTES", 70_000)
    monkeypatch.setattr(log_kind, "_FAR_BEHIND", 80_000)
    watched = errors(log, max_events=7)
    append(log, ("ERROR x\n" * 7 + "y" * (70_000 - 7 * 8 - 1) + "\n") * 3)
    told = watched.look()
    assert (len(told), told[-1].data["dropped"]) == (7, 7)
    assert [len(watched.look()) for _ in range(2)] == [7, 0]


def test_a_long_line_is_cut_and_the_rest_of_it_is_no_line(log: Path) -> None:
    watched = errors(log)
    append(log, "ERROR " + "x" * 3_000_000 + " ERROR tail\nERROR next\n")
    told = [line for _ in range(5) for line in lines(watched)]
    assert [line[:10] for line in told] == ["ERROR xxxx", "ERROR next"]
    assert len(told[0]) == 8192
    append(log, "y" * (log_reader.LINE_BYTES + 5) + "ERROR late\n")
    assert len(lines(watched)) <= 1


def test_anything_may_stand_in_a_log(log: Path) -> None:
    watched = errors(log)
    append(
        log,
        b"\xff\xfe ERROR \x00\x80caf\xc3\xa9\x1b[31m\r\n" + os.urandom(2000).replace(b"ERROR", b"") + b"\nERROR end\n",
    )
    first, last = lines(watched)
    assert first == "\ufffd\ufffd ERROR \ufffd\ufffdcafé\x1b[31m"
    assert last == "ERROR end"


def test_a_link_to_another_log_is_a_rotation(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / "monday").write_text("")
    link.symlink_to("monday")
    watched = errors(link)
    append(tmp_path / "monday", "ERROR 1\n")
    (tmp_path / "tuesday").write_text("ERROR 2\n")
    link.unlink()
    link.symlink_to("tuesday")
    assert lines(watched) == ["ERROR 1", "ERROR 2"]
    link.unlink()
    link.symlink_to("monday")
    append(tmp_path / "monday", "ERROR 3\n")
    assert lines(watched) == ["ERROR 3"]


@pytest.mark.parametrize("seed", range(12))
def test_each_line_is_told_once_and_in_order_whatever_becomes_of_the_log(log: Path, seed: int) -> None:
    chance = random.Random(seed)
    watched = errors(log)
    written: list[str] = []
    told: list[str] = []
    rotations = 0
    half = ""

    def write() -> None:
        nonlocal half
        for _ in range(chance.randrange(1, 5)):
            text = f"ERROR {len(written)} {'x' * chance.randrange(300)}"
            cut = chance.randrange(len(text))
            append(log, text[:cut] if not half else "")
            if half:
                append(log, half)
                half = ""
            else:
                half = text[cut:] + "\n"
                written.append(text)

    def finish() -> None:
        nonlocal half
        append(log, half)
        half = ""

    def turn() -> None:
        nonlocal rotations
        finish()
        rotations += 1
        rotate(log, f".{rotations}")

    def truncate() -> None:
        finish()
        told.extend(lines(watched))  # what was not read by then is lost to everybody
        os.truncate(log, 0)

    steps = [write, write, write, turn, truncate, watched.restart, lambda: told.extend(lines(watched))]
    for _ in range(60):
        chance.choice(steps)()
    finish()
    for _ in range(3):
        told.extend(lines(watched))
    assert told == written


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^b", ["b", "bc"]),
        ("c$", ["bc"]),
        ("^$", [""]),
        (r"a\s*b", []),
        ("[^x]+", ["a", "b", "bc", "d"]),
        ("(?i)BC|D", ["bc", "d"]),
        ("a|^d", ["a", "d"]),
        ("", None),
        ("(", None),
        (r"\Aa", None),
        (r"a\z", None),
        (r"\\z", []),
    ],
)
def test_a_pattern_stays_within_a_line(pattern: str, expected: list[str] | None) -> None:
    text = b"a\nb\nbc\n\nd\n"
    if expected is None:
        with pytest.raises(ValueError, match=r"pattern|expression"):
            LinePattern(pattern)
    else:
        found = LinePattern(pattern).lines(text)
        assert [text[match.begin : match.end].decode() for match in found] == expected


@pytest.mark.parametrize(
    ("when", "options", "reason"),
    [
        ("", {"path": "/var/log/x"}, "needs --pattern"),
        ("matches", {"path": "/var/log/x", "pattern": "("}, "is no regular expression: missing"),
        ("matches", {"path": "/var/log/x", "pattern": r"\pL{25}"}, "too complex"),
        ("matches contains", {"path": "/var/log/x", "pattern": "x"}, "one thing only"),
        ("", {"path": "/var/log/x", "pattern": "x", "max_events": 0}, "from 1 to 10000"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(when: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(WatcherRefused, match=reason):
        Watched("log", when, **options)
