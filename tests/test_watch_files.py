"""Watchers of files and directories: real ones, changed as programs change them."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from powers import without_reading_all
from watched import Watched

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed, WatcherRefused
from hook_event_processor.watchers.host import digests, tree
from hook_event_processor.watchers.kinds import file


def replace(path: Path, text: str) -> None:
    """Write a file as editors do: beside it, and then over it."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.rename(path)


def touch(path: Path, seconds: float) -> None:
    """Set when the file was changed, so many seconds from now."""
    at = time.time_ns() + int(seconds * 1e9)
    os.utime(path, ns=(at, at))


def test_the_first_look_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    for path in (tmp_path, tmp_path / "there", tmp_path / "missing"):
        assert Watched("file", path=path).look() == []
    assert Watched("directory", path=tmp_path).look() == []


def test_a_modified_file_carries_the_documented_keys(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text("old")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    watched = Watched("file", "changed", path=path, check_hash=True)
    watched.look()
    path.write_text("newer")
    os.utime(path, (1_700_000_060, 1_700_000_060))
    assert watched.one() == {
        "path": str(path),
        "old_size": 3,
        "new_size": 5,
        "old_mtime": "2023-11-14T22:13:20Z",
        "new_mtime": "2023-11-14T22:14:20Z",
        "old_hash": hashlib.sha256(b"old").hexdigest(),
        "new_hash": hashlib.sha256(b"newer").hexdigest(),
        "size": 5,
        "modification_time": "2023-11-14T22:14:20Z",
        "watcher_id": "watcher-1",
    }
    assert watched.look() == []


def test_a_file_comes_changes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    watched = Watched("file", path=path)
    watched.look()
    path.write_text("x")
    path.chmod(0o640)
    created = watched.one()
    assert (created["path"], created["size"], created["mode"]) == (str(path), 1, "0640")
    touch(path, 60)
    assert watched.told() == [("file.modified", str(path))]
    path.unlink()
    assert watched.told() == [("file.deleted", str(path))]
    assert watched.look() == []


def test_a_file_that_is_replaced_is_modified(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    alone, among = Watched("file", path=path), Watched("file", path=tmp_path)
    alone.look()
    among.look()
    replace(path, "two")
    assert alone.told() == among.told() == [("file.modified", str(path))]


def test_a_rotated_file_is_modified_and_its_old_content_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    watched = Watched("file", path=tmp_path)
    watched.look()
    path.rename(tmp_path / "app.log.1")
    path.write_text("")
    assert watched.told() == [("file.created", f"{path}.1"), ("file.modified", str(path))]


def test_a_renamed_file_is_told_by_its_inode(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    watched = Watched("file", path=tmp_path)
    watched.look()
    (tmp_path / "a").rename(tmp_path / "b")
    data = watched.one()
    assert (data["old_path"], data["new_path"]) == (str(tmp_path / "a"), str(tmp_path / "b"))
    # Renamed and written to at once.
    (tmp_path / "b").rename(tmp_path / "c")
    (tmp_path / "c").write_text("longer")
    assert watched.told() == [("file.renamed", str(tmp_path / "c")), ("file.modified", str(tmp_path / "c"))]


def test_a_renamed_link_is_a_rename_although_its_target_was_there_before_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "target").write_text("x")
    time.sleep(0.01)  # more than a tick of the clock that files are stamped by
    (place / "a").symlink_to("../target")
    among, alone = Watched("file", "renamed", path=place), Watched("file", "renamed", path=place / "a")
    among.look()
    alone.look()
    (place / "a").rename(place / "b")
    assert among.told() == [("file.renamed", str(place / "b"))]
    assert alone.told() == [("file.renamed", str(place / "b"))]


def test_a_single_file_that_is_renamed_is_found_beside(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    (tmp_path / "other").write_text("x")
    watched = Watched("file", path=path)
    watched.look()
    path.rename(tmp_path / "b")
    assert watched.one()["new_path"] == str(tmp_path / "b")
    path.write_text("new")
    assert watched.told() == [("file.created", str(path))]


def test_who_does_not_ask_for_renames_sees_a_file_go_and_one_come(tmp_path: Path) -> None:
    (tmp_path / "upload.part").write_text("x")
    watched = Watched("file", "created deleted", path=tmp_path)
    watched.look()
    (tmp_path / "upload.part").rename(tmp_path / "upload")
    assert watched.told() == [
        ("file.deleted", str(tmp_path / "upload.part")),
        ("file.created", str(tmp_path / "upload")),
    ]


def test_a_reused_inode_is_not_a_rename(tmp_path: Path) -> None:
    at = (1_700_000_000, 1_700_000_000)
    old, new = tmp_path / "old", tmp_path / "new"
    for _ in range(50):
        old.write_text("x")
        os.utime(old, at)
        inode = old.stat().st_ino
        watched = Watched("file", path=tmp_path)
        watched.look()
        time.sleep(0.01)  # more than a tick of the clock that files are stamped by
        old.unlink()
        new.write_text("y")
        os.utime(new, at)  # same size, same time: only its birth tells it from the old one
        if new.stat().st_ino == inode:
            assert watched.told() == [("file.deleted", str(old)), ("file.created", str(new))]
            return
        new.unlink()
    pytest.skip("this file system does not give a freed inode to the next file")


def test_with_a_hash_only_content_counts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("same")
    watched = Watched("file", path=path, check_hash=True)
    watched.look()
    touch(path, 60)
    assert watched.look() == []
    replace(path, "same")
    assert watched.look() == []
    replace(path, "else")
    assert watched.told() == [("file.modified", str(path))]


def test_content_is_not_read_while_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    read: list[str] = []
    hashing = digests.hashing.sha256
    monkeypatch.setattr(digests.hashing, "sha256", lambda path, limit: read.append(path) or hashing(path, limit))
    lazy, eager = (
        Watched("file", path=path, check_hash=True),
        Watched("file", path=path, check_hash=True, always_hash=True),
    )
    for watched, expected in ((lazy, 1), (eager, 3)):
        read.clear()
        for _ in range(3):
            watched.look()
        assert len(read) == expected
    touch(path, 60)
    read.clear()
    lazy.look()
    assert read == [str(path)]


Written = Callable[[Path, str], None]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Has a file written between the next look at it and the reading of what it holds."""
    waiting: dict[str, str] = {}
    hashing = digests.hashing.sha256

    def write_and_hash(path: str, limit: int) -> Any:
        if path in waiting:
            time.sleep(0.01)  # more than a tick of the clock that files are stamped by
            Path(path).write_text(waiting.pop(path))
        return hashing(path, limit)

    monkeypatch.setattr(digests.hashing, "sha256", write_and_hash)
    return lambda path, text: waiting.update({str(path): text})


def test_what_is_written_before_a_file_is_first_hashed_is_told(tmp_path: Path, written: Written) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    among, alone = Watched("file", path=tmp_path, check_hash=True), Watched("file", path=path, check_hash=True)
    among.look()
    written(path, "two")
    assert among.look() == []
    data = among.one()
    assert (data["new_hash"], among.look()) == (hashlib.sha256(b"two").hexdigest(), [])
    written(path, "three")
    alone.look()
    assert (alone.told(), alone.look()) == ([("file.modified", str(path))], [])


def test_what_is_written_before_a_new_file_is_hashed_is_told(tmp_path: Path, written: Written) -> None:
    watched = Watched("file", "modified", path=tmp_path, check_hash=True)
    watched.look()
    (tmp_path / "a").write_text("one")
    written(tmp_path / "a", "two")
    assert watched.look() == []
    assert (watched.told(), watched.look()) == ([("file.modified", str(tmp_path / "a"))], [])


def test_a_file_that_grows_before_it_is_hashed_again_has_increased(tmp_path: Path, written: Written) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    watched = Watched("file", "increased", path=path, check_hash=True)
    watched.look()
    replace(path, "two")
    written(path, "three")
    assert watched.look() == []
    data = watched.one()
    assert (data["old_size"], data["new_size"]) == (3, 5)
    assert (data["old_hash"], data["new_hash"]) == tuple(hashlib.sha256(one).hexdigest() for one in (b"one", b"three"))
    assert watched.look() == []


def test_a_file_that_is_written_whenever_it_is_hashed_is_told_of_each_time(tmp_path: Path, written: Written) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    watched = Watched("file", path=path, check_hash=True)
    watched.look()
    for number in range(3):
        path.write_text("y" * number)
        written(path, "z" * number)
        assert watched.told() == [("file.modified", str(path))]


def test_always_hash_finds_a_change_that_sets_its_traces_back(tmp_path: Path) -> None:
    # Through a loop of mmap or a raw device nothing moves; here the record is made to look as if it had not.
    path = tmp_path / "a"
    path.write_text("one")
    watched = Watched("file", path=path, check_hash=True, always_hash=True)
    watched.look()
    path.write_text("two")
    known = watched.check._known  # type: ignore[attr-defined]
    known.update(tree.files_at(str(path), tree.Bounds()).records)
    assert watched.told() == [("file.modified", str(path))]


def test_a_file_too_large_to_hash_is_compared_without(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 2000)
    watched = Watched("file", path=path, check_hash=True, max_hash_size="1K")
    watched.look()
    path.write_bytes(b"x" * 2001)
    data = watched.one()
    assert data["hash_skipped"] == "is larger than 1024 bytes"
    assert "new_hash" not in data


def test_one_look_reads_only_so_much_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_BUDGET", 1000)
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode() * 600)
    watched = Watched("file", path=tmp_path, check_hash=True)
    for _ in range(5):
        assert watched.look() == []
    for name in "abcd":
        (tmp_path / name).write_bytes(name.upper().encode() * 600)
    told = [watched.told() for _ in range(4)]
    assert [len(each) for each in told] == [1, 1, 1, 1]
    assert {resource for each in told for _, resource in each} == {str(tmp_path / name) for name in "abcd"}
    assert watched.look() == []


def test_what_happened_while_nobody_looked_is_told_once_and_late(tmp_path: Path) -> None:
    for name in ("stays", "changes", "goes", "moves"):
        (tmp_path / name).write_text("x")
    watched = Watched("file", path=tmp_path, check_hash=True)
    watched.look()
    watched.look()
    (tmp_path / "changes").write_text("y")
    (tmp_path / "goes").unlink()
    (tmp_path / "moves").rename(tmp_path / "moved")
    (tmp_path / "comes").write_text("x")
    watched.restart()
    told = watched.look()
    assert sorted((each.type, Path(each.resource).name) for each in told) == [
        ("file.created", "comes"),
        ("file.deleted", "goes"),
        ("file.modified", "changes"),
        ("file.renamed", "moved"),
    ]
    assert all(each.data["seen_late"] for each in told)
    watched.restart()
    assert watched.look() == []


def test_recursion_and_patterns(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    flat = Watched("file", path=tmp_path)
    recursive = Watched("file", path=tmp_path, recursive=True, pattern="*.conf")
    shallow = Watched("file", path=tmp_path, recursive=True, depth=1)
    for watched in (flat, recursive, shallow):
        watched.look()
    for directory in (tmp_path, deep.parent, deep):
        (directory / "x.conf").write_text("x")
        (directory / "x.txt").write_text("x")
    assert {Path(path).name for _, path in flat.told()} == {"x.conf", "x.txt"}
    assert len(recursive.told()) == 3
    assert {Path(path).parent for _, path in shallow.told()} == {tmp_path, deep.parent}


def test_links_are_read_but_not_followed_into_directories(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_text("x")
    place = tmp_path / "place"
    place.mkdir()
    (place / "link").symlink_to(target / "file")
    (place / "loop").symlink_to(place)
    (place / "dangling").symlink_to("nowhere")
    watched = Watched("file", path=place, recursive=True)
    watched.look()
    (target / "file").write_text("longer")
    assert watched.told() == [("file.modified", str(place / "link"))]


def test_pipes_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        watched = Watched("file", path=tmp_path, check_hash=True, always_hash=True)
        watched.look()
        assert watched.look() == []
        touch(tmp_path / "pipe", 60)
        assert watched.look() == []


def test_names_that_are_not_utf8_are_shown_with_escapes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    watched = Watched("file", path=tmp_path, check_hash=True)
    watched.look()
    with open(path, "wb") as made:
        made.write(b"x")
    data = watched.one()
    assert data["path"] == f"{tmp_path}/caf\\xe9"
    assert data["hash"] == hashlib.sha256(b"x").hexdigest()
    watched.restart()
    assert watched.look() == []


def test_growth_and_shrinking(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("xx")
    grows, shrinks = Watched("file", "increased", path=path), Watched("file", "decreased", path=path)
    told = []
    for text in ("xx", "xxx", "x"):
        path.write_text(text)
        told.append((len(grows.look()), len(shrinks.look())))
    assert told == [(0, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("seed", range(6))
def test_what_was_told_adds_up_to_what_is_there(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    watched = Watched("file", path=tmp_path, recursive=True, check_hash=bool(seed % 2))
    listed = Watched("directory", path=tmp_path, recursive=True)
    watched.look()
    listed.look()
    files: dict[str, str] = {}  # by what is told, and what each holds
    directories = {str(tmp_path)}
    for step in range(120):
        change(tmp_path, chance, str(step))
        if chance.random() < 0.2:
            watched.restart()
            listed.restart()
        if chance.random() < 0.4:
            continue
        for each in watched.look():
            follow(files, each.type, each.data)
        for each in listed.look():
            if each.type == "dir.created":
                directories.add(each.resource)
            elif each.type == "dir.deleted":
                directories.remove(each.resource)
        there = {str(path) for path in tmp_path.rglob("*")}
        assert files.keys() == {path for path in there if not os.path.isdir(path)}
        assert directories - {str(tmp_path)} == {path for path in there if os.path.isdir(path)}
        assert files == {path: Path(path).read_text() for path in files}


def change(root: Path, chance: random.Random, text: str) -> None:
    """Do something to a tree: write, replace, remove or rename a file, make or remove a directory."""
    names = [root / name for name in ("a", "b", "c", "x/a", "x/b", "x/y/a")]
    one, other = chance.choice(names), chance.choice(names)
    for directory in (one.parent, other.parent):
        directory.mkdir(parents=True, exist_ok=True)
    action = chance.choice(("write", "replace", "remove", "rename", "rename", "rmtree"))
    if action == "write":
        one.write_text(text)
    elif action == "replace":
        replace(one, text)
    elif action == "rmtree" and chance.random() < 0.3:
        shutil.rmtree(root / "x", ignore_errors=True)
    elif one.exists() and action == "remove":
        one.unlink()
    elif one.exists() and action == "rename":
        one.rename(other)


def follow(files: dict[str, str], event_type: str, data: dict[str, Any]) -> None:
    """Do to a picture of the files what an event tells."""
    if event_type == "file.renamed":
        files[data["new_path"]] = files.pop(data["old_path"])
    elif event_type == "file.deleted":
        del files[data["path"]]
    else:
        assert (event_type == "file.created") == (data["path"] not in files)
        files[data["path"]] = Path(data["path"]).read_text()


def test_more_changes_than_one_look_tells_are_told_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_MAX_EVENTS", 3)
    watched = Watched("file", path=tmp_path)
    watched.look()
    for number in range(7):
        (tmp_path / str(number)).write_text("x")
    told = [watched.told() for _ in range(4)]
    assert [len(each) for each in told] == [3, 3, 1, 0]
    assert len({resource for each in told for _, resource in each}) == 7


def test_trees_and_what_is_hashed_are_looked_at_aside(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    slow = {"file": [True, True, False], "directory": [True, False, False]}
    for type_name, expected in slow.items():
        options: list[dict[str, object]] = [{"recursive": True}, {}, {"path": tmp_path / "file"}]
        watchers = [Watched(type_name, **{"path": tmp_path, **each}) for each in options]
        assert [kinds.kind(type_name).slow(watched.definition) for watched in watchers] == expected
    assert kinds.kind("file").slow(Watched("file", path=tmp_path / "file", check_hash=True).definition)


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    for type_name in ("file", "directory"):
        with pytest.raises(CheckFailed, match=f"more than 10 entries under {tmp_path}"):
            Watched(type_name, path=tmp_path).look()


def test_what_becomes_unreadable_is_not_gone() -> None:
    with without_reading_all(), tempfile.TemporaryDirectory() as name:
        root, below = Path(name), Path(name, "below")
        (below / "deeper").mkdir(parents=True)
        (below / "file").touch()
        watchers = [Watched(type_name, path=root, recursive=True) for type_name in ("file", "directory")]
        assert [watched.look() for watched in watchers] == [[], []]
        for mode in (0, 0o400):  # who may list it alone cannot say what its entries are
            below.chmod(mode)
            assert [watched.look() for watched in watchers] == [[], []]
        below.chmod(0o700)
        assert [watched.look() for watched in watchers] == [[], []]
        root.chmod(0)
        for watched in watchers:
            with pytest.raises(CheckFailed, match="Permission denied"):
                watched.look()
        root.chmod(0o700)
        flat = Watched("file", path=below)
        assert flat.look() == []
        below.chmod(0o400)
        with pytest.raises(CheckFailed, match=f"cannot look at what is in {below}: Permission denied"):
            flat.look()
        below.chmod(0o700)
        assert flat.look() == []


@pytest.mark.parametrize(
    ("when", "options", "reason"),
    [
        ("", {}, "a file watcher needs --path"),
        ("", {"path": "relative"}, "takes an absolute path"),
        ("stopped", {"path": "/etc"}, "has no condition 'stopped'"),
        ("", {"path": "/etc", "depth": 3}, "it takes --recursive, too"),
        ("", {"path": "/etc", "always_hash": True}, "it takes --check-hash, too"),
        ("", {"path": "/etc", "max_hash_size": "much"}, "takes a size such as 100MB"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(when: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(WatcherRefused, match=reason):
        Watched("file", when, **options)


def test_a_directory_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "d"
    watched = Watched("directory", path=path)
    watched.look()
    path.mkdir()
    (path / "file").touch()
    assert watched.one()["file_count"] == 1
    (path / "below").mkdir()
    assert watched.told() == [("dir.created", str(path / "below"))]
    (path / "below").rmdir()
    assert watched.told() == [("dir.deleted", str(path / "below"))]
    (path / "file").unlink()
    path.rmdir()
    assert watched.told() == [("dir.deleted", str(path))]


def test_a_directory_has_other_files_than_before(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    watched = Watched("directory", "changed", path=tmp_path)
    watched.look()
    (tmp_path / "b").touch()
    (tmp_path / "c").touch()
    (tmp_path / "a").unlink()
    data = watched.one()
    assert (data["path"], data["old_file_count"], data["new_file_count"]) == (str(tmp_path), 1, 2)
    assert (data["added"], data["removed"]) == (["b", "c"], ["a"])
    # What is written into a file is no change of the directory.
    (tmp_path / "b").write_text("x")
    assert watched.look() == []


def test_a_directory_that_did_not_change_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a", tmp_path):
        touch(path, -60)
    listed: list[str] = []
    entries = tree.entries
    monkeypatch.setattr(tree, "entries", lambda path, unreadable: listed.append(path) or entries(path, unreadable))
    watched = Watched("directory", path=tmp_path, recursive=True)
    watched.look()
    listed.clear()
    assert watched.look() == []
    assert listed == []
    (tmp_path / "a" / "file").touch()
    assert watched.told() == [("dir.changed", str(tmp_path / "a"))]
    assert listed == [str(tmp_path / "a")]


def test_directories_are_compared_with_what_was_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    watched = Watched("directory", path=tmp_path, recursive=True)
    watched.look()
    (tmp_path / "a" / "new").touch()
    (tmp_path / "b").mkdir()
    watched.restart()
    told = watched.look()
    assert [(each.type, Path(each.resource).name) for each in told] == [("dir.created", "b"), ("dir.changed", "a")]
    assert all(each.data["seen_late"] for each in told)


def test_a_file_where_a_directory_should_be_is_a_failed_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckFailed, match="is not a directory"):
        Watched("directory", path=tmp_path / "file").look()
