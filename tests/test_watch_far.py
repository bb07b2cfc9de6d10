"""Watchers of what lies on file systems that may not answer: a server that went away blinds nobody else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection
from waiting import wait_for
from watching import HOST, add, looked, reached, watching, write_number

from hook_event_processor.store import watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.watchers import NewWatcher
from hook_event_processor.watchers.daemon import aside, looks
from hook_event_processor.watchers.host import far, hashing, proc

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("counting_kinds")]

_MOUNTINFO = r"""27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
28 27 0:41 / /mnt/net rw,relatime shared:7 - nfs4 server:/x rw
29 28 8:2 / /mnt/net/disk rw,relatime shared:7 - xfs /dev/sda2 rw
30 27 0:42 / /mnt/with\040space rw,relatime shared:7 - fuse.sshfs host: rw
31 27 0:43 / /mnt/again rw,relatime shared:7 - autofs systemd-1 rw
32 31 8:3 / /mnt/again rw,relatime shared:7 - ext4 /dev/sda3 rw
33 27 0:44 / /sys/fs/fuse/connections rw,relatime shared:7 - fusectl fusectl rw
34 27 0:46 / /proc/sys/fs/binfmt_misc rw,relatime shared:7 - autofs systemd-1 rw
35 27 0:45 / /net rw,relatime shared:7 - autofs auto.net rw
"""


def test_file_systems_that_may_not_answer_are_known_by_their_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "ROOT", str(tmp_path))
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(_MOUNTINFO)
    assert far.points() == {"/mnt/net", "/mnt/with space", "/net"}
    (tmp_path / "self/mountinfo").write_text(_MOUNTINFO.replace("ext4 /dev/sda1", "fuse.fuse-overlayfs x"))
    assert "/" not in far.points()


def test_a_carriage_return_ends_no_line_of_the_mounts_and_a_line_of_no_mount_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "ROOT", str(tmp_path))
    (tmp_path / "self").mkdir()
    odd = "36 27 0:47 / /mnt/of\rme rw,relatime shared:7 - nfs4 server:/y rw\nof no mount\n\n"
    (tmp_path / "self/mountinfo").write_text(odd + _MOUNTINFO)
    assert far.points() == {"/mnt/of\rme", "/mnt/net", "/mnt/with space", "/net"}


def test_a_path_is_far_when_it_or_a_link_in_it_leads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = frozenset({f"{tmp_path}/net"})
    (tmp_path / "net/below").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "link").symlink_to("near/../net/below")
    (tmp_path / "near/absolute").symlink_to(tmp_path / "link")
    (tmp_path / "round").symlink_to("round")
    readlink = os.readlink

    def untouched(path: str) -> str:
        assert not path.startswith(f"{tmp_path}/net/")
        return readlink(path)

    monkeypatch.setattr(os, "readlink", untouched)
    for path in ("net", "net/app.log", "net/disk/app.log", "link/app.log", "near/absolute", "near/../net/x"):
        assert far.is_far(f"{tmp_path}/{path}", points), path
    for path in ("", "net2", "near/app.log", "near/missing/net", "round/x", "net2/../near"):
        assert not far.is_far(f"{tmp_path}/{path}", points), path


class Share:
    """A directory that the daemon takes for another machine's, and whose server may go away."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "share"
        self.path.mkdir()
        self._mounted = folder / "mounted"
        self._seen = folder / "seen"
        self._dead = folder / "dead"

    def mount(self) -> None:
        self._mounted.touch()

    def await_seen(self) -> None:
        """Until the daemon has seen that it is mounted."""
        wait_for(self._seen.exists, 10)

    def die(self) -> None:
        self._dead.touch()

    def revive(self) -> None:
        self._dead.unlink()

    def serve(self) -> None:
        """In the daemon: whoever touches what lies here waits, while the server is dead."""
        looks._MOUNTS_SECONDS = 0.1
        aside.STUCK_SECONDS = 0.2
        far.points = self._points
        for name in ("stat", "lstat", "open", "readlink", "scandir", "listdir"):
            setattr(os, name, self._waiting(getattr(os, name), os.fspath))
        os.close = self._waiting(os.close, lambda descriptor: readlink(f"/proc/self/fd/{descriptor}"))

    def _points(self) -> frozenset[str]:
        if not self._mounted.exists():
            return frozenset()
        self._seen.touch()
        return frozenset({str(self.path)})

    def _waiting(self, function: Callable[..., Any], path_of: Callable[[Any], Any]) -> Callable[..., Any]:
        def wait(what: Any = ".", *arguments: Any, **options: Any) -> Any:
            while str(path_of(what)).startswith(str(self.path)) and is_there(self._dead):
                time.sleep(0.05)
            return function(what, *arguments, **options)

        return wait


readlink = os.readlink  # before anybody waits


def is_there(path: Path) -> bool:
    return os.access(path, os.F_OK)


@pytest.fixture
def share(tmp_path: Path) -> Share:
    return Share(tmp_path)


def await_number(connection: Connection, numbers: Path, number: int) -> None:
    """The one watcher that counts must go on."""
    write_number(numbers, number)
    wait_for(lambda: number in reached(connection), 10, f"{number} was told")


def await_look(connection: Connection, watcher: watchers.Watcher) -> None:
    wait_for(lambda: looked(connection, watcher).last_check is not None, 10, "it looked")


def add_all(connection: Connection, share: Share) -> list[watchers.Watcher]:
    """A watcher of each type that looks at files, at what lies there."""
    log = share.path / "app.log"
    log.write_text("")
    (share.path.parent / "link").symlink_to(share.path)
    return [
        add(connection, log, "log", options={"pattern": "x"}),
        add(connection, share.path.parent / "link/app.log", "log", options={"pattern": "x"}),
        add(connection, log, "file"),
        add(connection, share.path, "file"),
        add(connection, share.path, "directory"),
        add(connection, share.path, "directory", options={"recursive": "true"}),
        watchers.add(
            connection,
            NewWatcher(HOST, "process", options={"pidfile": str(share.path / "app.pid")}, interval=0.1),
        ),
    ]


def test_a_server_that_went_away_before_the_start_blinds_no_other_watcher(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path, share: Share
) -> None:
    share.mount()
    waiting = add_all(connection, share)
    counting = add(connection, numbers)
    share.die()
    with watching(database, tmp_path, None, share.serve):
        await_look(connection, counting)
        await_number(connection, numbers, 3)
        wait_for(lambda: "not come back for more than" in str(looked(connection, waiting[0]).last_error), 15)
        # Whatever is defined meanwhile.
        add(connection, share.path / "other", "file")
        await_look(connection, add(connection, numbers, "waiting"))
        await_number(connection, numbers, 5)


def test_a_server_that_goes_away_later_blinds_no_other_watcher(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path, share: Share
) -> None:
    idle = add(connection, share.path / "idle.log", "log", 3600.0, options={"pattern": "x"})
    (share.path / "idle.log").touch()
    watched = [*add_all(connection, share), idle, add(connection, numbers)]
    with watching(database, tmp_path, None, share.serve) as process:
        for watcher in watched:
            await_look(connection, watcher)
        share.mount()
        share.await_seen()
        share.die()
        await_number(connection, numbers, 3)
        # The one that ends has the log open: those who go on do not wait for it to be closed.
        connection.execute("DELETE FROM watchers WHERE id = %s", (idle.id,))
        wait_for(lambda: process.said(f"watchers at work: {len(watched) - 1}"), 10)
        await_number(connection, numbers, 5)
        await_look(connection, add(connection, numbers, "waiting"))
        share.revive()
        wait_for(lambda: not is_open(process.pid, share.path / "idle.log"), 10)
        with open(share.path / "app.log", "a") as log:
            log.write("x\n")
        wait_for(lambda: looked(connection, watched[0]).last_event is not None, 10)


def is_open(pid: int, path: Path) -> bool:
    return str(path) in {os.path.realpath(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}


def test_more_watchers_on_a_dead_server_than_there_are_threads_hold_up_no_other_that_waits(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path, share: Share
) -> None:
    share.mount()
    share.die()
    dead = [add(connection, share.path / str(number), "file") for number in range(aside.LARGEST_CREW + 10)]
    with watching(database, tmp_path, None, share.serve):
        stuck = "SELECT count(*) FROM watchers WHERE last_error LIKE '%%not come back for more than%%'"
        enough = aside.LARGEST_CREW - aside.CREW
        wait_for(lambda: (connection.execute(stuck).fetchone() or (0,))[0] >= enough, 30, "all threads are stuck")
        assert len(dead) > enough
        await_look(connection, add(connection, numbers, "waiting"))
        await_number(connection, numbers, 3)


def test_a_large_file_that_is_hashed_holds_up_no_other_watcher(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    begun = tmp_path / "begun"

    def hash_for_long() -> None:
        def sha256(*_: object) -> str:
            begun.touch()
            threading.Event().wait()
            return ""

        hashing.sha256 = sha256  # type: ignore[assignment] # in the forked process

    large = tmp_path / "large"
    large.write_text("x")
    add(connection, large, "file", options={"check_hash": "true"})
    with watching(database, tmp_path, None, hash_for_long):
        wait_for(begun.exists, 10)
        await_look(connection, add(connection, numbers))
        await_number(connection, numbers, 3)
