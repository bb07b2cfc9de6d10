"""What the file system tells of at once."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from powers import without_reading_all
from waiting import wait_for

from hook_event_processor.watchers.host import changes as changes_module
from hook_event_processor.watchers.host import far, inotify
from hook_event_processor.watchers.host.changes import Changes

Watch = Callable[..., set[str]]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watches paths by name, `deep` ones with all below; returns the set of names that are told."""
    told: set[str] = set()
    changes: Changes[str] = Changes(told.update)

    def begin(deep: tuple[str, ...] = (), **paths: Path) -> set[str]:
        changes.watch({name: ([str(path)], name in deep) for name, path in paths.items()})
        return told

    yield begin
    changes.stop()


def await_told(told: set[str], name: str, change: Callable[[], object]) -> None:
    """Make the change; it must be told, and nothing must be that was told of before."""
    told.clear()
    change()
    wait_for(lambda: name in told, 5)


def settled(told: set[str], marker: Path) -> None:
    """Wait until inotify is at work: what is watched under the name `marker` is told of."""

    def touch() -> bool:
        marker.touch()
        return "marker" in told

    told.discard("marker")
    wait_for(touch, 10)


def test_a_file_is_told_of_when_it_is_written_replaced_removed_and_there_again(watch: Watch, tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("")
    told = watch(file=file, other=other)
    wait_for(lambda: told >= {"file", "other"}, 5)  # what happened before it was at work is looked for
    await_told(told, "file", lambda: file.write_text("more"))
    (tmp_path / "new").touch()
    await_told(told, "file", lambda: (tmp_path / "new").rename(file))
    await_told(told, "file", file.unlink)
    await_told(told, "file", lambda: file.write_text("back"))
    assert "other" not in told


def test_a_tree_is_told_of_with_directories_that_come_later(watch: Watch, tmp_path: Path) -> None:
    tree, flat = tmp_path / "tree", tmp_path / "flat"
    (tree / "a").mkdir(parents=True)
    flat.mkdir()
    told = watch(deep=("tree",), tree=tree, flat=flat)
    wait_for(lambda: told >= {"tree", "flat"}, 5)
    await_told(told, "tree", (tree / "a/file").touch)
    await_told(told, "tree", lambda: os.makedirs(tree / "b/c"))
    await_told(told, "tree", (tree / "b/c/file").touch)
    await_told(told, "flat", (flat / "file").touch)


def test_a_directory_that_comes_later_or_anew_is_watched_from_then_on(watch: Watch, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    told = watch(deep=("tree",), tree=tree, marker=tmp_path / "marker")
    settled(told, tmp_path / "marker")
    for _ in range(2):
        await_told(told, "tree", tree.mkdir)
        # From what lies in it, not from the directory above, whose news are over.
        wait_for(lambda: _is_quiet(told), 10)
        wait_for(lambda: _is_told_of_below(told, tree), 10)
        await_told(told, "tree", lambda: shutil.rmtree(tree))


def test_a_directory_that_is_replaced_by_one_with_its_inode_is_watched_from_then_on(
    watch: Watch, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    told = watch(deep=("tree",), tree=tree, marker=tmp_path / "marker")
    settled(told, tmp_path / "marker")
    wait_for(lambda: _is_told_of_below(told, tree), 10)
    for _ in range(20):  # somebody else may be given it
        inode = tree.stat().st_ino
        shutil.rmtree(tree)
        tree.mkdir()
        if tree.stat().st_ino == inode:
            break
    else:
        pytest.skip("this file system gives every directory an inode of its own")
    wait_for(lambda: _is_quiet(told), 10)
    wait_for(lambda: _is_told_of_below(told, tree), 10)


def _is_quiet(told: set[str]) -> bool:
    told.clear()
    time.sleep(0.6)  # three of inotify's steps
    return not told


def _is_told_of_below(told: set[str], tree: Path) -> bool:
    below = tree / "a/b"
    below.mkdir(parents=True, exist_ok=True)
    (below / "file").touch()
    (below / "file").unlink()
    return "tree" in told


def test_the_target_of_a_link_is_told_of(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere/target"
    target.touch()
    (tmp_path / "link").symlink_to(target)
    told = watch(link=tmp_path / "link")
    wait_for(lambda: "link" in told, 5)
    await_told(told, "link", lambda: target.write_text("more"))


def test_what_is_no_longer_watched_is_not_told_of(watch: Watch, tmp_path: Path) -> None:
    told = watch(file=tmp_path / "file", marker=tmp_path / "marker")
    settled(told, tmp_path / "marker")
    watch(marker=tmp_path / "marker")
    told.clear()
    (tmp_path / "file").touch()
    settled(told, tmp_path / "marker")
    assert told == {"marker"}


def test_no_link_below_a_tree_is_followed_and_none_in_a_directory_that_comes_later(
    watch: Watch, tmp_path: Path
) -> None:
    """Whoever may write there makes one of all directories there are."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    for folder in (tree, elsewhere, tmp_path / "made/below"):
        folder.mkdir(parents=True)
    for folder in (tree, tmp_path / "made/below"):
        (folder / "link").symlink_to(elsewhere)
    told = watch(deep=("tree",), tree=tree)
    wait_for(lambda: "tree" in told, 5)
    wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", lambda: (tmp_path / "made").rename(tree / "made"))
    wait_for(lambda: _is_told_of_below(told, tree / "made/below"), 10)
    wait_for(lambda: _is_quiet(told), 10)
    (elsewhere / "file").touch()
    assert _is_quiet(told)


def test_a_tree_is_told_of_by_a_link_to_it(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "tree").symlink_to("elsewhere")
    told = watch(deep=("tree",), tree=tmp_path / "tree")
    wait_for(lambda: "tree" in told, 5)
    wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", (tmp_path / "elsewhere/below/file").touch)


def test_what_moves_within_a_tree_is_told_of_and_no_more_when_it_has_moved_away(watch: Watch, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/below").mkdir(parents=True)
    told = watch(deep=("tree",), tree=tree)
    wait_for(lambda: "tree" in told, 5)
    wait_for(lambda: _is_quiet(told), 10)
    for old, new in ((tree / "a", tree / "b"), (tree / "b", tree / "a")):
        await_told(told, "tree", lambda old=old, new=new: old.rename(new))  # type: ignore[misc]
        wait_for(lambda: _is_quiet(told), 10)
        await_told(told, "tree", (new / "below/file").touch)
        wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", lambda: (tree / "a").rename(tmp_path / "away"))
    wait_for(lambda: _is_quiet(told), 10)
    (tmp_path / "away/below/other").touch()
    assert _is_quiet(told)


@pytest.mark.parametrize("name", ["near", "link"])
def test_what_lies_in_a_tree_on_a_file_system_that_may_not_answer_is_not_touched(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # A walk through it may wait for ever.
    monkeypatch.setattr(far, "points", lambda: frozenset({f"{tmp_path}/near/net"}))
    for folder in ("near/net/below", "near/a"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("near")
    told = watch(deep=(name,), **{name: tmp_path / name})
    wait_for(lambda: name in told, 5)
    wait_for(lambda: _is_quiet(told), 10)
    (tmp_path / "near/net/file").touch()
    (tmp_path / "near/net/below/file").touch()
    assert _is_quiet(told)
    await_told(told, name, (tmp_path / "near/a/file").touch)


def test_a_name_that_is_not_utf8_is_told_of_as_others_are(watch: Watch, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "tree")
    os.mkdir(folder)
    told = watch(deep=("tree",), tree=tmp_path / "tree")
    wait_for(lambda: "tree" in told, 5)
    wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", lambda: os.mkdir(folder + b"/\xff"))
    wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", lambda: os.mknod(folder + b"/\xff/\xfe"))


def test_after_more_changes_than_the_kernel_keeps_all_is_looked_for(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changes_module, "_BLIND_SECONDS", 0.5)
    folder = tmp_path / "folder"
    folder.mkdir()
    told = watch(other=folder / "other", marker=tmp_path / "marker")
    settled(told, tmp_path / "marker")
    wait_for(lambda: _is_quiet(told), 10)
    read, are_made = inotify.Inotify.read, threading.Event()
    monkeypatch.setattr(inotify.Inotify, "read", lambda notify: (are_made.wait(30), read(notify))[1])
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit + 1):
        os.mknod(folder / str(number))
    are_made.set()
    wait_for(lambda: "not at once, for 0.5 s each time: more has changed than the kernel keeps" in caplog.text, 30)
    wait_for(lambda: "other" in told, 10)
    settled(told, tmp_path / "marker")
    await_told(told, "other", (folder / "other").touch)


def test_there_are_no_more_watches_than_a_number_of_them(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inotify, "_MAX_WATCHES", 3)
    for number in range(5):
        (tmp_path / f"tree/{number}").mkdir(parents=True)
    told = watch(deep=("tree",), tree=tmp_path / "tree")
    wait_for(lambda: "seen by the interval only, not at once: there are more than 3 directories" in caplog.text, 5)
    wait_for(lambda: _is_quiet(told), 10)
    await_told(told, "tree", (tmp_path / "tree/file").touch)


def test_a_link_to_a_name_that_is_not_utf8_keeps_nobody_from_being_told(watch: Watch, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(odd, "below").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near/link").symlink_to(f"{odd}/below")
    told = watch(link=tmp_path / "near/link", file=tmp_path / "near/file")
    wait_for(lambda: "file" in told, 5)
    await_told(told, "file", (tmp_path / "near/file").touch)


def test_a_directory_that_cannot_be_watched_is_said_and_tried_again(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changes_module, "_REFRESH_SECONDS", 0.2)
    monkeypatch.setattr(changes_module, "_RETRY_SECONDS", 0.2)
    with without_reading_all(), tempfile.TemporaryDirectory() as name:
        closed = Path(name, "closed")
        closed.mkdir(mode=0o300)
        told = watch(below=closed / "file", marker=Path(name, "marker"))
        settled(told, Path(name, "marker"))
        assert caplog.text.count("some changes are seen by the interval only") == 1
        assert "Permission denied" in caplog.text
        wait_for(lambda: _is_quiet(told), 10)
        (closed / "file").touch()
        assert _is_quiet(told)
        closed.chmod(0o700)

        def is_told() -> bool:
            (closed / "file").touch()
            return "below" in told

        wait_for(is_told, 10)
        watch()
