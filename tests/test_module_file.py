"""file: what hooks do with files, and that no path leads out of what they were granted."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chunks import error, execute, library, outcomes, output, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.door import Failed, Library, Services
from hook_event_processor.lua.host import disk, reach
from hook_event_processor.lua.host.disk import Disk
from hook_event_processor.lua.host.reach import Outside
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.settings import Settings

_FILE = 'local file, json = require("file"), require("json")\n'
_SECRET = "the secret of another"


@dataclass(frozen=True)
class _Rooms:
    """A directory that hooks are granted, and one beside it that they are not."""

    inside: Path
    outside: Path

    def run(self, body: str, *roots: Path, show: Callable[[str], None] | None = None) -> Any:
        lua = runtime(library=library(show=show, file_roots=roots or (self.inside,)))
        return execute(_FILE + body, within=lua)

    def returns(self, expression: str, **options: Any) -> Any:
        """What the expression's values are, as a list."""
        body = (
            f"local all = table.pack({expression}) for i = 1, all.n do if all[i] == nil then all[i] = json.null end end"
        )
        return json.loads(output(self.run(f"{body} all.n = nil return true, json.encode(all)", **options)))

    def refused(self, expression: str) -> str:
        result = self.run(f"local ok = {expression}")
        assert outcomes(result) == [Outcome.FAILED], result
        return error(result)

    @property
    def disk(self) -> Disk:
        return Disk([os.fsencode(self.inside)], None)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[_Rooms]:
    found = _Rooms(tmp_path / "inside", tmp_path / "outside")
    found.inside.mkdir()
    found.outside.mkdir()
    (found.outside / "secret").write_text(_SECRET)
    before = sorted(found.outside.iterdir())
    yield found
    # Whatever was tried: nothing outside has changed.
    assert sorted(found.outside.iterdir()) == before
    assert (found.outside / "secret").read_text() == _SECRET


def test_what_was_written_is_read_again(rooms: _Rooms) -> None:
    body = "local s = 'a\\0\\255\\n' assert(file.write('a', s) and file.append('a', 'more') and file.append('b', 5))"
    assert output(rooms.run(f"{body} return true, tostring(file.read('a') == s .. 'more')")) == "true"
    assert (rooms.inside / "a").read_bytes() == b"a\x00\xff\nmore"
    assert (rooms.inside / "b").read_bytes() == b"5"
    assert (rooms.inside / "a").stat().st_mode & 0o777 == 0o600


def test_a_path_is_relative_to_the_first_root_or_absolute(rooms: _Rooms) -> None:
    (rooms.inside / "deep/er").mkdir(parents=True)
    (rooms.inside / "deep/er/x").write_text("found")
    for path in ("deep/er/x", f"{rooms.inside}/deep/er/x", "deep//./er/../er/x", f"{rooms.inside}//deep/er/./x"):
        assert rooms.returns(f"file.read('{path}')") == ["found"]
    found = rooms.run(f"return true, file.read('{rooms.outside}/secret')", rooms.inside, rooms.outside)
    assert output(found) == _SECRET


def test_what_is_to_be_expected_is_nil_and_a_reason(rooms: _Rooms) -> None:
    (rooms.inside / "directory").mkdir()
    (rooms.inside / "file").write_text("x")
    reasons = {
        "file.read('none')": "none: no such file or directory",
        "file.read('none/x')": "none/x: no such file or directory",
        "file.read('file/x')": "file/x: not a directory",
        "file.read('directory')": "directory: is a directory",
        "file.write('none/x', 'y')": "none/x: no such file or directory",
        "file.write('directory', 'y')": "directory: is a directory",
        "file.append('directory', 'y')": "directory: is a directory",
        "file.write('new/', 'y')": "new/: a path that ends in / or /. is a directory's",
        "file.append('new/.', 'y')": "new/.: a path that ends in / or /. is a directory's",
        "file.copy('file', 'file/')": "file/: a path that ends in / or /. is a directory's",
        "file.stat('none')": "none: no such file or directory",
        "file.list('file')": "file: not a directory",
        "file.list('none')": "none: no such file or directory",
        "file.copy('none', 'x')": "none: no such file or directory",
        "file.remove('none')": "none: no such file or directory",
        "file.remove('.')": ".: it is what hooks were granted, and stays",
        "file.mkdir('file')": "file: not a directory",
        "file.mkdir('file/x')": "file/x: not a directory",
        f"file.read('{'x' * 300}')": f"{'x' * 300}: file name too long",
    }
    for expression, reason in reasons.items():
        assert rooms.returns(expression) == [None, reason]
    assert (rooms.inside / "file").read_text() == "x"


def test_no_option_is_as_good_as_none(rooms: _Rooms) -> None:
    (rooms.inside / "file").write_text("x")
    assert rooms.returns("file.read('file', {})") == ["x"]


def test_misuse_is_an_error_at_the_hooks_line(rooms: _Rooms) -> None:
    faults = {
        "file.read()": "file.read takes a path, not a nil",
        "file.read('')": "file.read takes a path of 1 to 4096 bytes without NUL",
        "file.read('a\\0b')": "file.read takes a path of 1 to 4096 bytes without NUL",
        "file.read(('x'):rep(5000))": "file.read takes a path of 1 to 4096 bytes without NUL",
        "file.read('a', {max = 1e9})": "max takes a whole number of bytes, at most 8388608",
        "file.read('a', {limit = 1})": "unknown option limit; it takes max",
        "file.read('a', 5)": "file.read takes a table of options, not a number",
        "file.write('a')": "file.write takes a string as the content, not a nil",
        "file.copy('a')": "file.copy takes a path, not a nil",
    }
    for expression, reason in faults.items():
        found = rooms.refused(expression)
        assert found.startswith("hook.lua:4:")
        assert reason in found


def test_a_directory_is_made_listed_and_removed(rooms: _Rooms) -> None:
    assert rooms.returns("file.mkdir('a/b/c'), file.mkdir('a/b'), file.write('a/z', ''), file.list('a')") == [
        True,
        True,
        True,
        ["b", "z"],
    ]
    assert (rooms.inside / "a/b").stat().st_mode & 0o777 == 0o700
    assert rooms.returns("file.list('a/b/c'), file.list()") == [[], ["a"]]
    assert rooms.returns("file.remove('a')") == [None, "a: directory not empty"]
    assert rooms.returns("file.remove('a/z'), file.remove('a/b/c'), file.exists('a/z'), file.list('a/b')") == [
        True,
        True,
        False,
        [],
    ]


def test_stat_tells_what_a_file_is(rooms: _Rooms) -> None:
    path = rooms.inside / "x"
    path.write_text("12345")
    path.chmod(0o640)
    os.utime(path, (1_000_000_000.5, 1_000_000_000.5))
    assert rooms.returns("file.stat('x')") == [
        {"type": "file", "is_file": True, "is_dir": False, "size": 5, "modified": 1_000_000_000.5, "mode": "0640"}
    ]
    assert rooms.returns("file.stat('.').type, file.exists('x'), file.exists('y'), file.exists('x/y')") == [
        "directory",
        True,
        False,
        False,
    ]


def test_a_copy_is_a_file_of_its_own(rooms: _Rooms) -> None:
    assert (
        rooms.returns("file.write('a', 'one'), file.copy('a', 'b'), file.write('a', 'two'), file.read('b')")[3] == "one"
    )


def test_a_file_is_replaced_at_once_and_keeps_its_permissions(rooms: _Rooms) -> None:
    path = rooms.inside / "x"
    path.write_text("old")
    path.chmod(0o644)
    with path.open() as reader:
        assert rooms.returns("file.write('x', 'new')") == [True]
        assert reader.read() == "old"
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("new", 0o644)
    assert rooms.returns("file.list()") == [["x"]]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    rooms: _Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rooms.inside / "x").write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert rooms.returns("file.write('x', 'new')") == [None, "x: no space left on device"]
    assert [(path.name, path.read_text()) for path in rooms.inside.iterdir()] == [("x", "old")]


def test_an_append_that_fails_in_the_middle_takes_nothing_away(rooms: _Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning stays: what stands behind it by then may be another's."""
    (rooms.inside / "x").write_text("old")
    write = os.write

    def filling(descriptor: int, content: bytes) -> int:
        if not (rooms.inside / "x").read_text().endswith("others'"):
            write(descriptor, content[:3])
            with (rooms.inside / "x").open("a") as other:
                other.write("others'")
            return 3
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", filling)
    assert rooms.returns("file.append('x', 'newer')") == [None, "x: no space left on device"]
    assert (rooms.inside / "x").read_text() == "oldnewothers'"


def test_sizes_are_limited(rooms: _Rooms) -> None:
    with (rooms.inside / "large").open("wb") as large:
        large.truncate(3 * 2**20)
    with (rooms.inside / "endless").open("wb") as endless:
        endless.truncate(2**40)
    body = "file.read('large', {max = 4000000}):len(), file.read('large')"
    assert rooms.returns(body) == [3 * 2**20, None, f"large: {3 * 2**20} bytes are too many: at most {2**20}"]
    assert rooms.returns("file.read('endless', {max = 8388608})")[1].endswith("at most 8388608")
    assert rooms.returns("file.copy('endless', 'x')")[1].endswith("at most 8388608")
    assert rooms.returns("file.write('x', ('x'):rep(8388609))")[1] == "x: 8388609 bytes are too many: at most 8388608"
    assert rooms.returns("file.write('x', ('x'):rep(8388608)), file.append('x', 'y')")[1:] == [
        None,
        "x: 8388609 bytes are too many: at most 8388608",
    ]
    assert rooms.returns("file.exists('x'), file.read('x', {max = 8388608}):len()") == [True, 8388608]


def test_a_file_that_grows_while_it_is_read_is_limited_too(rooms: _Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    original = disk._check_size

    def grow(*arguments: Any) -> None:
        original(*arguments)
        (rooms.inside / "x").write_bytes(b"x" * 2000)

    (rooms.inside / "x").write_bytes(b"x" * 100)
    monkeypatch.setattr(disk, "_check_size", grow)
    with pytest.raises(Failed, match="1001 bytes are too many: at most 1000"):
        rooms.disk.read(b"x", 1000)


def test_a_directory_of_too_many_names_is_not_listed(rooms: _Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_NAMES", 3)
    for name in "abcd":
        (rooms.inside / name).touch()
    assert rooms.returns("file.list()") == [None, ".: more than 3 names"]


_EVERYTHING = (
    "file.read('{0}')",
    "file.write('{0}', 'x')",
    "file.append('{0}', 'x')",
    "file.exists('{0}')",
    "file.stat('{0}')",
    "file.list('{0}')",
    "file.copy('{0}', 'x')",
    "file.copy('own', '{0}')",
    "file.remove('{0}')",
    "file.mkdir('{0}')",
)


@pytest.mark.parametrize(
    "path", ["../outside/secret", "a/../../outside/secret", "a/b/../../../outside", "..", "a/../.."]
)
def test_attack_dots_that_lead_out(rooms: _Rooms, path: str) -> None:
    (rooms.inside / "a/b").mkdir(parents=True)
    (rooms.inside / "own").touch()
    for operation in _EVERYTHING:
        assert "the permission 'file' is not granted for it (HOOK_FILE_ROOTS" in rooms.refused(operation.format(path))


def test_attack_paths_that_lie_elsewhere(rooms: _Rooms) -> None:
    inside, outside = rooms.inside, rooms.outside
    (inside / "own").touch()
    paths = ["/etc/passwd", "/proc/self/environ", "/proc/self/cwd", f"/proc/self/root{inside}", f"/dev/fd/0{inside}"]
    paths += [f"{outside}/secret", f"{inside}/../outside/secret", f"{inside}side", f"{inside}x/y", "/", "//"]
    paths += [f"{outside}/../inside/own", f"/..{outside}/secret"]
    for path in paths:
        for operation in _EVERYTHING:
            assert "the permission 'file' is not granted" in rooms.refused(operation.format(path))


def test_attack_links_that_lead_out(rooms: _Rooms) -> None:
    (rooms.inside / "own").touch()
    (rooms.inside / "absolute").symlink_to(rooms.outside / "secret")
    (rooms.inside / "relative").symlink_to("../outside/secret")
    (rooms.inside / "directory").symlink_to(rooms.outside)
    (rooms.inside / "chain").symlink_to("directory")
    (rooms.inside / "self").symlink_to("/proc/self")
    (rooms.inside / "missing").symlink_to(rooms.outside / "new")
    paths = ["absolute", "relative", "directory/secret", "directory/new/x", "chain/secret", "missing", "self/environ"]
    for path in [*paths, "self/root/etc/passwd", "self/cwd"]:
        for operation in _EVERYTHING:
            # A link itself lies inside, and removing it is no escape.
            if "remove" in operation and "/" not in path:
                continue
            assert "the permission 'file' is not granted" in rooms.refused(operation.format(path)), (path, operation)
    assert rooms.returns("file.remove('absolute'), file.remove('directory')") == [True, True]
    assert not (rooms.inside / "absolute").is_symlink()


def test_links_that_stay_inside_are_gone(rooms: _Rooms) -> None:
    (rooms.inside / "a/b").mkdir(parents=True)
    (rooms.inside / "a/x").write_text("found")
    (rooms.inside / "up").symlink_to("a/b/../x")
    (rooms.inside / "whole").symlink_to(rooms.inside / "a")
    (rooms.inside / "a/b/chain").symlink_to("../../whole/b/../../up")
    (rooms.inside / "loop").symlink_to("loop")
    for path in ("up", "whole/x", "a/b/chain"):
        assert rooms.returns(f"file.read('{path}')") == ["found"]
    assert rooms.returns("file.write('a/b/chain', 'new')") == [True]
    assert ((rooms.inside / "a/x").read_text(), (rooms.inside / "up").is_symlink()) == ("new", True)
    assert rooms.returns("file.read('loop')") == [None, "loop: too many levels of symbolic links"]
    assert rooms.returns("file.read('loop/x')") == [None, "loop/x: too many levels of symbolic links"]


def test_attack_links_and_dots_that_multiply(rooms: _Rooms) -> None:
    """Each link holds the one before it many times: gone to the end, it would take years."""
    (rooms.inside / "d").mkdir()
    (rooms.inside / "l0").symlink_to("d/../" * 200 + "d")
    for n in range(1, 30):
        (rooms.inside / f"l{n}").symlink_to(f"l{n - 1}/../" * 200 + "d")
    assert rooms.returns("file.exists('l0/x')") == [False]
    assert rooms.returns("file.read('l29/x')") == [None, "l29/x: too many levels of symbolic links"]


def test_a_root_may_itself_be_reached_by_a_link(rooms: _Rooms, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(rooms.inside)
    body = "assert(file.write('x', 'found')) return true, file.read('{}/x')"
    for path in (tmp_path / "alias", rooms.inside):
        assert output(rooms.run(body.format(path), tmp_path / "alias")) == "found"


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_attack_what_is_no_regular_file(rooms: _Rooms, kind: str) -> None:
    """Opening a FIFO would wait for ever; a device may act when it is only opened."""
    path = rooms.inside / "odd"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        listener.bind(os.fspath(path))
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can make a device")
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero: endless
    for operation in ("file.read('odd')", "file.write('odd', 'x')", "file.append('odd', 'x')", "file.copy('odd', 'x')"):
        value, reason = rooms.returns(operation)
        assert value is None
        assert reason.startswith("odd: ")
    assert rooms.returns("file.stat('odd').type") == ["other"]
    assert not path.is_file()
    listener.close()


def test_attack_a_fifo_with_a_reader_at_its_other_end(rooms: _Rooms) -> None:
    os.mkfifo(rooms.inside / "odd")
    reader = os.open(rooms.inside / "odd", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert rooms.returns("file.append('odd', 'x')") == [None, "odd: is not a regular file"]
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


def _swaps(rooms: _Rooms, name: str, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Put a link to the outside in the place of `name` right before the first call of this function of os on it."""
    original = getattr(os, before)

    def swapping(path: Any, *arguments: Any, **options: Any) -> Any:
        target = rooms.inside / name
        if path == os.fsencode(name) and not target.is_symlink():
            target.rename(rooms.inside / "moved")
            target.symlink_to(rooms.outside / "secret" if (rooms.inside / "moved").is_file() else rooms.outside)
        return original(path, *arguments, **options)

    monkeypatch.setattr(reach.os, before, swapping)


@pytest.mark.parametrize("operation", ["read", "write", "append", "stat"])
def test_attack_a_file_that_becomes_a_link_between_check_and_use(
    rooms: _Rooms, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    (rooms.inside / "x").write_text("own")
    _swaps(rooms, "x", monkeypatch, before="stat" if operation == "stat" else "open")
    arguments = {"read": (100,), "write": (b"new",), "append": (b"new",), "stat": ()}[operation]
    # write replaces the link, which lies inside; stat tells of the link; the others fail.
    if operation in ("read", "append"):
        with pytest.raises(Failed, match="too many levels of symbolic links"):
            getattr(rooms.disk, operation)(b"x", *arguments)
    else:
        getattr(rooms.disk, operation)(b"x", *arguments)


@pytest.mark.parametrize("operation", ["read", "write", "append", "remove", "mkdir", "list"])
def test_attack_a_directory_that_becomes_a_link_between_check_and_use(
    rooms: _Rooms, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    (rooms.inside / "d").mkdir()
    (rooms.inside / "d/secret").write_text("own")
    _swaps(rooms, "d", monkeypatch, before="open")
    arguments = {"read": (100,), "write": (b"new",), "append": (b"new",)}.get(operation, ())
    with pytest.raises((Failed, Outside)):
        getattr(rooms.disk, operation)(b"d" if operation == "list" else b"d/secret", *arguments)


def test_attack_a_race_by_swapping_links_all_the_time(rooms: _Rooms) -> None:
    """A directory that is now itself, now a link to the outside: it is never the outside that is read."""
    (rooms.inside / "d").mkdir()
    (rooms.inside / "d/secret").write_text("own")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(rooms.inside / "d", rooms.inside / "away")
            os.symlink(rooms.outside, rooms.inside / "d")
            os.unlink(rooms.inside / "d")
            os.rename(rooms.inside / "away", rooms.inside / "d")

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: set[bytes] = set()
    rounds, patience = 0, time.monotonic() + 30
    try:
        while rounds < 3000 or (b"own" not in seen and time.monotonic() < patience):
            rounds += 1
            try:
                seen.add(rooms.disk.read(b"d/../d/secret", 100))
                rooms.disk.append(b"d/secret", b"")
            except Outside:
                seen.add(b"refused")
            except Failed:
                pass
    finally:
        done.set()
        swapper.join()
    assert _SECRET.encode() not in seen
    assert b"own" in seen


def test_nothing_stays_open(rooms: _Rooms) -> None:
    (rooms.inside / "link").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a/b/c", "../x", "link/x", "x", "."):
        for operation in ("read", "write", "append", "list", "remove", "stat", "mkdir"):
            rooms.run(f"pcall(file.{operation}, '{path}', 'x')")
    # Other tests' threads may open a few meanwhile.
    assert len(os.listdir("/proc/self/fd")) < before + 5


def test_without_a_root_nothing_is_reached(rooms: _Rooms) -> None:
    result = execute(_FILE + "file.read('x')", within=runtime(library=library()))
    assert "the hook 'hook' may not use x: the permission 'file' is not granted" in error(result)


@pytest.mark.parametrize("show", [None, lambda _: None], ids=["for real", "dry run"])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("write('/etc/x', 'the content')", "/etc/x"),
        ("append('/etc/x', 'the content')", "/etc/x"),
        ("copy('/etc/x', '/etc/y')", "/etc/x or /etc/y"),
    ],
)
def test_a_refusal_names_paths_only(rooms: _Rooms, call: str, named: str, show: Any) -> None:
    said = error(rooms.run(f"file.{call}", show=show))
    assert f"the hook 'hook' may not use {named}: the permission" in said


def test_the_products_own_directory_is_made_when_it_is_needed_and_no_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for root, reason in ((home / "files", None), (tmp_path / "other", "x: no such file or directory")):
        settings = Settings(home=home, conninfo=None, policy=Policy(Grants(file_roots=(root,))))
        lua = runtime(library=Library(Services(settings)))
        body = "local ok, why = file.write('x', 'y') return true, json.encode({ok or false, why})"
        assert json.loads(output(execute(_FILE + body, within=lua))) == [not reason, *([reason] if reason else [])]
        assert root.exists() == (reason is None)
    assert (home / "files").stat().st_mode & 0o777 == 0o700


def test_a_dry_run_writes_nothing_and_reads_what_it_would_have_written(rooms: _Rooms) -> None:
    (rooms.inside / "real").write_text("real")
    (rooms.inside / "full").mkdir()
    (rooms.inside / "full/x").touch()
    (rooms.inside / "link").symlink_to("real")
    shown: list[str] = []
    assert rooms.returns(
        "file.write('new', 'one'), file.append('new', 'two'), file.read('new'), file.append('link', '+'),"
        " file.read('real'), file.mkdir('a/b'), file.copy('real', 'a/b/c'), file.list('a/b'), file.stat('a').type,"
        " file.remove('real'), file.exists('link'), file.list()",
        show=shown.append,
    ) == [
        True,
        True,
        "onetwo",
        True,
        "real+",
        True,
        True,
        ["c"],
        "directory",
        True,
        False,
        ["a", "full", "link", "new"],
    ]
    assert shown == [
        "file.write: new (3 bytes)",
        "file.append: new (3 bytes)",
        "file.append: link (1 bytes)",
        "file.mkdir: a/b",
        "file.copy: real to a/b/c",
        "file.remove: real",
    ]
    assert sorted(path.name for path in rooms.inside.iterdir()) == ["full", "link", "real"]
    assert (rooms.inside / "real").read_text() == "real"


def test_a_dry_run_fails_where_a_real_one_would(rooms: _Rooms) -> None:
    (rooms.inside / "full").mkdir()
    (rooms.inside / "full/x").touch()
    (rooms.inside / "out").symlink_to(rooms.outside)
    reasons = {
        "file.write('none/x', 'y')": "none/x: no such file or directory",
        "file.write('full', 'y')": "full: is a directory",
        "file.write('new/', 'y')": "new/: a path that ends in / or /. is a directory's",
        "file.append('new/', 'y')": "new/: a path that ends in / or /. is a directory's",
        "file.write('full/x/y', 'y')": "full/x/y: not a directory",
        "file.read('none')": "none: no such file or directory",
        "file.remove('full')": "full: directory not empty",
        "file.remove('none')": "none: no such file or directory",
        "file.mkdir('full/x')": "full/x: not a directory",
        "file.mkdir('full/x/y')": "full/x/y: not a directory",
        "file.write('x', ('x'):rep(8388609))": "x: 8388609 bytes are too many: at most 8388608",
        "file.list('none')": "none: no such file or directory",
    }
    for expression, reason in reasons.items():
        assert rooms.returns(expression) == [None, reason], "live"
        (rooms.inside / "x").unlink(missing_ok=True)
        assert rooms.returns(expression, show=lambda _: None) == [None, reason], "dry"
    for path in ("out/secret", "../outside/x", "none/../../x"):
        for operation in _EVERYTHING:
            result = rooms.run(operation.format(path), show=lambda _: None)
            assert outcomes(result) == [Outcome.FAILED] or "copy('own'" in operation


def test_a_dry_run_does_not_even_make_the_products_own_directory(tmp_path: Path) -> None:
    root = tmp_path / "home/files"
    settings = Settings(home=tmp_path / "home", conninfo=None, policy=Policy(Grants(file_roots=(root,))))
    lua = runtime(library=Library(Services(settings), lambda _: None))
    body = "assert(file.write('x', 'y')) return true, file.read('x') .. #file.list()"
    assert output(execute(_FILE + body, within=lua)) == "y1"
    assert not root.parent.exists()
