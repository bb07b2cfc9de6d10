"""Watchers of processes: real ones, started and killed."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from waiting import wait_for
from watched import Watched

from hook_event_processor.child import Ended
from hook_event_processor.watchers.check import CheckFailed, WatcherRefused
from hook_event_processor.watchers.host import ending, proc, process_table, processes, programs, unit_ends
from hook_event_processor.watchers.host.ending import End, Handle
from hook_event_processor.watchers.kinds import process_choice

Start = Callable[..., "subprocess.Popen[bytes]"]

_SPIN = "while :; do :; done"
_CAN_TELL = pytest.mark.skipif(not ending._kernel_tells(), reason="this kernel does not tell how others' processes end")


@pytest.fixture(autouse=True)
def fresh_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads /proc."""
    monkeypatch.setattr(process_table.TABLE, "_fresh", -1.0)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program of a name that no other process has."""
    path = tmp_path / f"hep{os.getpid()}"
    shutil.copy("/bin/sh", path)
    return str(path)


@pytest.fixture
def start(program: str) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(script: str = "read line", name: str = program) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([name, "-c", f"{script}; :"], stdin=subprocess.PIPE))
        status = Path(f"/proc/{started[-1].pid}/stat")
        # Between two programs it has no name of its own, and until it waits for its line perhaps no page that counts.
        wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "S", 10)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[bytes], by: int = signal.SIGTERM) -> None:
    process.send_signal(by)
    process.wait(10)


def named(program: str, when: str = "", **options: object) -> Watched:
    return Watched("process", when, name=Path(program).name, **options)


def test_a_process_starts_and_stops(program: str, start: Start) -> None:
    name = Path(program).name
    watched = named(program)
    assert watched.look() == []
    process = start()
    (started,) = watched.look()
    data = started.data
    assert (started.type, started.resource) == ("process.started", name)
    assert (data["process"], data["pid"], data["pids"], data["count"]) == (name, process.pid, [process.pid], 1)
    assert data["rss_bytes"] > 0
    assert data["cpu_percent"] >= 0
    assert abs(datetime.fromisoformat(data["start_time"]).timestamp() - time.time()) < 60
    end(process)
    (stopped,) = watched.look()
    assert (stopped.type, stopped.data["pid"]) == ("process.stopped", process.pid)
    assert watched.look() == []


def test_a_process_that_runs_at_the_first_look_did_not_start(program: str, start: Start) -> None:
    start()
    watched = named(program)
    assert watched.look() == []
    assert watched.look() == []


@_CAN_TELL
@pytest.mark.parametrize(
    ("script", "by", "crash", "told"),
    [
        ("read line; exit 3", 0, "yes", {"exit_code": 3}),
        ("read line; exit 0", 0, "no", {"exit_code": 0}),
        ("read line; exit 143", 0, "no", {"exit_code": 143}),
        ("read line", signal.SIGTERM, "no", {"signal": "SIGTERM"}),
        ("read line", signal.SIGKILL, "yes", {"signal": "SIGKILL"}),
        ("read line", signal.SIGSEGV, "yes", {"signal": "SIGSEGV"}),
    ],
)
def test_a_crash_is_told_from_a_stop_by_what_the_kernel_says(
    program: str, start: Start, script: str, by: int, crash: str, told: dict[str, object]
) -> None:
    process = start(script)
    watched = named(program)
    watched.look()
    if by:
        end(process, by)
    else:
        process.communicate(b"\n", 10)
    events = watched.look()
    assert [each.type for each in events] == ["process.stopped", "process.crashed"][: 2 if crash == "yes" else 1]
    for each in events:
        assert each.data["crash"] == crash
        assert each.data["told_by"] == "kernel"
        assert {key: each.data.get(key) for key in told} == told


def test_where_nobody_tells_how_it_ended_that_is_said(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending, "_kernel_tells", lambda: False)
    monkeypatch.setattr(ending, "_unit", lambda _: None)
    process = start()
    watched = named(program)
    watched.look()
    end(process, signal.SIGSEGV)
    (stopped,) = watched.look()
    assert stopped.type == "process.stopped"
    assert stopped.data["crash"] == "unknown"
    assert not {"exit_code", "signal", "told_by"} & stopped.data.keys()
    assert f"how {Path(program).name} (process {process.pid}) ended, nobody tells" in caplog.text


@_CAN_TELL
@pytest.mark.parametrize(
    ("release", "crash"), [("6.14.11-1-generic", "unknown"), ("6.15.0", "yes"), ("7.0-rc1", "yes")]
)
def test_a_kernel_is_asked_how_a_process_ended_since_it_can_tell(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch, release: str, crash: str
) -> None:
    # Before that it takes the question and has no answer, when it is too late to ask systemd for the run.
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(ending, "_unit", lambda _: None)
    monkeypatch.setattr(ending, "_kernel_tells", ending._kernel_tells.__wrapped__)  # it knows already
    process = start()
    watched = named(program)
    watched.look()
    end(process, signal.SIGSEGV)
    assert {each.data["crash"] for each in watched.look()} == {crash}


def test_a_restart_between_two_looks_is_a_stop_and_a_start(program: str, start: Start) -> None:
    first = start()
    watched = named(program)
    watched.look()
    end(first)
    second = start()
    stopped, started = watched.until(lambda told: len(told) == 2)
    assert (stopped.type, stopped.data["pid"]) == ("process.stopped", first.pid)
    assert (started.type, started.data["pid"]) == ("process.started", second.pid)


def test_processes_of_one_name_start_with_the_first_and_stop_with_the_last(program: str, start: Start) -> None:
    together, each = named(program), named(program, each=True)
    together.look()
    each.look()
    first, second = start(), start()
    each.until(lambda told: len(told) == 2)
    data = together.one()
    assert (data["pid"], data["count"]) == (first.pid, 2)
    end(first)
    assert together.look() == []
    assert each.one()["pid"] == first.pid
    end(second)
    assert together.one()["pid"] == second.pid


def test_a_watcher_tells_what_it_was_made_for(program: str, start: Start) -> None:
    starts, crashes = named(program, "started"), named(program, "crashed")
    for watched in (starts, crashes):
        watched.look()
    process = start()
    starts.until(bool)
    assert crashes.look() == []
    end(process)
    assert starts.look() == crashes.look() == []


def test_a_process_is_found_by_its_command_line(start: Start) -> None:
    mark = f"mark-{os.getpid()}"
    watched = Watched("process", match=rf"^sh -c .*{mark}\b")
    watched.look()
    process = start(f"read {mark.replace('-', '_')} # {mark}", name="sh")
    noticed, deadline = watched.look(), time.monotonic() + 10
    while not noticed and time.monotonic() < deadline:  # it may not have become sh yet
        noticed = watched.look()
    (started,) = noticed
    assert started.data["pid"] == process.pid


@pytest.mark.parametrize("form", ["--match {}", "--match={}", "--match '{}'"])
def test_the_command_that_creates_a_watcher_is_not_what_it_looks_for(start: Start, form: str) -> None:
    """It ends soon after the first look, and would be told as a process that has stopped."""
    mark = f"mark-{os.getpid()}"
    creating = start(f"read line # hep watcher create --type process {form.format(mark)}")
    watching = start(f"read line # {mark}")
    (found,) = process_choice.Matching(mark).find(time.monotonic())
    assert found.pid == watching.pid != creating.pid


def test_a_long_name_is_matched_whole(tmp_path: Path, start: Start) -> None:
    """The kernel keeps fifteen characters of it."""
    right, wrong = tmp_path / f"hep-{os.getpid():08}-long-right", tmp_path / f"hep-{os.getpid():08}-long-wrong"
    for path in (right, wrong):
        shutil.copy("/bin/sh", path)
    watched = named(str(right))
    start(name=str(wrong))
    process = start(name=str(right))
    watched.look()
    end(process)
    assert watched.one()["pid"] == process.pid


def test_a_reused_id_is_not_the_same_process(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(name="sh")
    watched = Watched("process", "stopped", pid=process.pid)
    watched.look()
    now = processes.read_process(process.pid)
    assert now is not None
    end(process)
    other = now._replace(start=now.start + 100)
    monkeypatch.setattr(process_choice, "read_process", lambda _: other)
    assert watched.told() == [("process.stopped", str(process.pid))]
    watched.restart()
    assert watched.look() == []


def test_a_pid_that_nothing_has_is_a_failed_check(start: Start) -> None:
    process = start(name="sh")
    end(process)
    with pytest.raises(CheckFailed, match=f"no process with the id {process.pid}"):
        Watched("process", "stopped", pid=process.pid).look()


def test_a_pidfile_names_a_process(tmp_path: Path, start: Start) -> None:
    path = tmp_path / "server.pid"
    watched = Watched("process", pidfile=path)
    watched.look()
    process = start(name="sh")
    path.write_text("")
    with pytest.raises(CheckFailed, match=f"no process id in {path}"):
        watched.look()
    path.write_text(f"{process.pid}\n")
    assert watched.told() == [("process.started", "server")]
    end(process)
    other = start(name="sh")
    path.write_text(f"{other.pid}\n")
    # Written before the process started: its id was another one's.
    os.utime(path, (0, 0))
    assert watched.told() == [("process.stopped", "server")]
    os.utime(path)
    assert watched.told() == [("process.started", "server")]


def test_a_pidfile_s_process_is_the_same_when_the_clock_is_set(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.pid"
    process = start(name="sh")
    path.write_text(f"{process.pid}\n")
    watched = Watched("process", "started", "stopped", pidfile=path)
    watched.look()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert watched.look() == []
    watched.restart()
    assert watched.look() == []
    end(process)
    assert watched.told() == [("process.stopped", "server")]


def test_a_named_pipe_as_a_pidfile_is_a_failed_check_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.pid")
    watched = Watched("process", pidfile=tmp_path / "server.pid")
    failures: SimpleQueue[str] = SimpleQueue()

    def look() -> None:
        with pytest.raises(CheckFailed) as failed:
            watched.look()
        failures.put(str(failed.value))

    threading.Thread(target=look, daemon=True).start()
    assert failures.get(timeout=10) == f"{tmp_path}/server.pid is not a regular file"


def test_a_zombie_has_ended(program: str, start: Start) -> None:
    process = start()
    watched = named(program)
    watched.look()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    stopped, *_ = watched.look()
    assert stopped.type == "process.stopped"
    process.wait()
    assert watched.look() == []


def test_what_stopped_while_nobody_looked_is_told_late(program: str, start: Start) -> None:
    process = start()
    watched = named(program)
    watched.look()
    watched.restart()
    assert watched.look() == []
    state = watched.state()
    assert isinstance(state, dict)
    program_name, started, cpu_percent, rss_bytes = state["use"][str(process.pid)]
    end(process)
    watched.restart()
    (stopped,) = watched.look()
    assert (stopped.type, stopped.data["pid"], stopped.data["seen_late"]) == ("process.stopped", process.pid, True)
    assert stopped.data["crash"] == "unknown"
    used = [stopped.data[name] for name in ("program", "cpu_percent", "rss_bytes")]
    assert used == [program_name, cpu_percent, rss_bytes]
    assert rss_bytes > 0
    assert datetime.fromisoformat(stopped.data["start_time"]).timestamp() == pytest.approx(started, abs=0.001)
    watched.restart()
    assert watched.look() == []


def test_how_a_units_process_ended_while_nobody_looked_is_told_by_systemd(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start()
    asked: list[tuple[str | None, int]] = []
    told = End(3, None, False, "systemd")
    monkeypatch.setattr(ending, "_unit", lambda _: "app.service")
    monkeypatch.setattr(ending, "told_by_systemd", lambda unit, pid, *_: asked.append((unit, pid)) or told)
    watched = named(program)
    watched.look()
    watched.restart()
    end(process)
    stopped, crashed = watched.look()
    assert asked == [("app.service", process.pid)]
    assert (stopped.type, crashed.type) == ("process.stopped", "process.crashed")
    assert (crashed.data["unit"], crashed.data["exit_code"], crashed.data["told_by"]) == ("app.service", 3, "systemd")


def test_after_a_reboot_it_is_another_process(program: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start()
    watched = named(program)
    watched.look()
    monkeypatch.setattr(processes, "boot_id", lambda: "another")
    watched.restart()
    assert [(each.type, each.data["pid"]) for each in watched.look()] == [
        ("process.stopped", process.pid),
        ("process.started", process.pid),
    ]


def test_use_of_the_processors_beyond_the_threshold(program: str, start: Start) -> None:
    process = start(f"({_SPIN}) & read line; kill $!")
    watched = Watched("process", "above", name=Path(program).name, cpu=5)
    (high,) = watched.until(bool)
    assert (high.type, high.data["resource"], high.data["threshold"]) == ("system.resource_high", "process_cpu", 5.0)
    assert high.data["current"] > 5
    process.communicate(b"\n", 10)


def test_processes_that_have_ended_use_nothing_any_more(program: str, start: Start) -> None:
    process = start()
    watched = Watched("process", "above", "normal", name=Path(program).name, rss="4K")
    (high,) = watched.until(bool)
    assert high.type == "system.resource_high"
    end(process)
    (normal,) = watched.until(bool)
    assert (normal.type, normal.data["rss_bytes"], normal.data["count"]) == ("system.resource_normal", 0, 0)
    assert watched.look() == []


def test_use_is_measured_between_readings_and_not_between_looks(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading of /proc may serve two looks, of which the second is none the wiser."""
    process = start(f"({_SPIN}) & read line; kill $!")
    watched = Watched("process", "above", "normal", name=Path(program).name, cpu=5)
    assert [each.type for each in watched.until(bool)] == ["system.resource_high"]
    monkeypatch.setattr(process_table.TABLE, "_fresh", 1e9)
    time.sleep(0.05)
    assert watched.look() == []
    process.communicate(b"\n", 10)


def test_memory_beyond_the_threshold(program: str, start: Start) -> None:
    hog = subprocess.Popen(
        [sys.executable, "-c", "import sys; x = b'x' * (64 << 20); print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert hog.stdout is not None
        hog.stdout.readline()
        watched = Watched("process", "above", pid=hog.pid, rss="32M")
        watched.look()
        data = watched.one()
        assert (data["resource"], data["threshold"]) == ("process_memory", 32 << 20)
        assert data["current"] == data["rss_bytes"] > 64 << 20
    finally:
        hog.communicate(timeout=10)


def test_no_descriptor_is_left_behind(program: str, start: Start) -> None:
    gc.collect()
    before = Handle.open_count
    watched = named(program)
    watched.look()
    process = start()
    watched.look()
    end(process)
    watched.look()
    assert Handle.open_count == before
    process = start()
    watched.until(bool)
    del watched
    gc.collect()
    assert Handle.open_count == before


def test_names_of_processes_may_hold_anything(tmp_path: Path, start: Start) -> None:
    path = tmp_path / f") R {os.getpid()}"
    shutil.copy("/bin/sh", path)
    process = start(name=str(path))
    watched = named(str(path))
    watched.look()
    end(process)
    assert watched.one()["pid"] == process.pid


def test_a_group_s_name_may_hold_what_ends_a_line_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "ROOT", str(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cgroup").write_text("0::/of\rme/of\u2028me/app.service\n")
    assert ending._unit(1) == "app.service"


class Systemd:
    """Stands in for systemctl and journalctl: what each prints, and what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **prints: str) -> None:
        self.prints = prints
        self.asked: list[list[str]] = []
        self.hangs = False
        monkeypatch.setattr(unit_ends, "_SYSTEMD", unit_ends._Systemd())
        monkeypatch.setattr(programs, "run", self._run)

    def _run(self, arguments: list[str], *_: object) -> Ended:
        self.asked.append(arguments)
        return Ended(0, self.prints.get(arguments[0], "").encode(), b"", 1, timed_out=self.hangs)

    def end(self, pid: int, run: str | None = None) -> End | None:
        return ending.told_by_systemd("app.service", pid, run, unit_ends.shown)


def test_what_systemctl_shows_counts_for_that_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd(monkeypatch, systemctl="ExecMainPID=42\nExecMainCode=2\nExecMainStatus=9\n")
    assert systemd.end(42) == End(None, 9, False, "systemd")
    assert systemd.end(43) is None
    systemd.prints["systemctl"] = ""
    assert systemd.end(42) is None
    systemd.prints["systemctl"] = "ExecMainPID=42\nExecMainCode=0\nExecMainStatus=0\n"  # it still runs
    assert systemd.end(42) is None
    systemd.prints["systemctl"] = "ExecMainPID=42\nExecMainCode=1\nExecMainStatus=3\n"
    ended = systemd.end(42)
    assert ended is not None
    assert ended.crashed


def test_the_journal_tells_of_a_run_of_a_unit_that_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"MESSAGE": "app.service: Control process exited, code=exited", "EXIT_CODE": "exited", "EXIT_STATUS": "1"},
        {"MESSAGE": "app.service: Main process exited, code=dumped", "EXIT_CODE": "dumped", "EXIT_STATUS": "11"},
    ]
    journal = "no JSON\n" + "\n".join(json.dumps(entry) for entry in entries)
    systemd = Systemd(monkeypatch, systemctl="ExecMainPID=43\nExecMainCode=0\nExecMainStatus=0\n", journalctl=journal)
    assert systemd.end(42, "a1b2") == End(None, signal.SIGSEGV, True, "systemd")
    assert {"_PID=1", "INVOCATION_ID=a1b2"} <= set(systemd.asked[-1])
    systemd.prints["journalctl"] = json.dumps({"MESSAGE_ID": unit_ends._SUCCESS, "MESSAGE": "app.service: Succeeded."})
    assert systemd.end(42, "a1b2") == End(None, None, False, "systemd")
    systemd.prints["journalctl"] = ""
    assert systemd.end(42, "a1b2") is None


def test_a_systemd_that_does_not_answer_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd = Systemd(monkeypatch)
    systemd.hangs = True
    assert [systemd.end(42, "a1b2") for _ in range(3)] == [None] * 3
    assert len(systemd.asked) == 1


def test_systemd_is_asked_of_a_unit_once_in_a_look_however_many_of_its_processes_come_and_go(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(monkeypatch)
    find = process_choice.Named.find
    monkeypatch.setattr(ending, "_kernel_tells", lambda: False)
    monkeypatch.setattr(ending, "_unit", lambda _: "app.service")
    monkeypatch.setattr(process_choice.Named, "find", lambda *of: [process._replace(parent=1) for process in find(*of)])
    watched = named(program, each=True)
    watched.look()
    begun = [start() for _ in range(3)]
    assert watched.types() == ["process.started"] * 3
    assert len(systemd.asked) == 1
    for process in begun:
        end(process)
    assert watched.types() == ["process.stopped"] * 3
    assert len(systemd.asked) == 2
    start()
    assert watched.types() == ["process.started"]
    assert len(systemd.asked) == 3


def test_known_processes_are_not_read_at_each_look(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a young one is: it may have been forked a moment ago, and become another program."""
    read: list[int] = []
    read_process = processes.read_process
    monkeypatch.setattr(processes, "read_process", lambda pid: read.append(pid) or read_process(pid))
    census = process_table._Census()
    process = start()
    census()
    read.clear()
    census()
    assert process.pid in read
    assert 1 not in read
    known = census._known[process.pid]
    monkeypatch.setattr(process_table, "_YOUNG_SECONDS", 0.0)
    census()
    read.clear()
    census()
    assert process.pid not in read
    end(process)
    assert known.process.pid not in census()._known


def test_a_process_that_becomes_another_program_is_found_by_its_new_name(
    program: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_table, "_YOUNG_SECONDS", 60.0)  # it is, however busy the machine
    watched = named(program)
    watched.look()
    process = start(f"read line; exec {program} -c 'read line'", name="sh")
    assert watched.look() == []
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    (started,) = watched.until(bool)
    assert started.data["pid"] == process.pid


@pytest.mark.parametrize(
    ("when", "options", "reason"),
    [
        ("", {}, "takes one of --name, --match, --pid and --pidfile, not nothing"),
        ("", {"name": "a", "pid": 1}, "not --name and --pid"),
        ("started", {"pid": 1}, "has started already"),
        ("above", {"name": "a"}, "takes --cpu or --rss"),
        ("stopped", {"name": "a", "cpu": 50}, "--cpu and --rss need --when above or below or changed"),
        ("", {"name": "a", "for": 3}, "--for goes with --cpu or --rss"),
        ("", {"name": "a", "cpu": 50, "until_normal": 50}, "takes less than the threshold"),
        ("", {"name": "a", "rss": "1G", "until_normal": "10%"}, "it takes a size such as 500M"),
        ("", {"name": "a", "cpu": 50, "rss": "1G", "until_normal": 5}, "make two watchers"),
        ("", {"match": "("}, "takes a regular expression"),
        ("", {"pid": 0}, "a process id from 1"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(when: str, options: dict[str, object], reason: str) -> None:
    with pytest.raises(WatcherRefused, match=reason):
        Watched("process", when, **options)


def test_the_process_that_looks_is_not_meant_by_a_command_line() -> None:
    found = process_choice.Matching(".").find(time.monotonic())
    assert os.getppid() in {process.pid for process in found}
    assert os.getpid() not in {process.pid for process in found}
