"""package, user, command and custom watchers, on real databases, records and programs."""

from __future__ import annotations

import ctypes
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from powers import capabilities, lend_capabilities
from waiting import wait_for
from watched import Watched, await_events, refusal

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed, Moment
from hook_event_processor.watchers.host import logins, package_databases, programs, stream
from hook_event_processor.watchers.host.package_databases import Dpkg, Rpm
from hook_event_processor.watchers.kinds import custom
from hook_event_processor.watchers.last_look import Leaving

STATUS = Path("/var/lib/dpkg/status")


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a status file of dpkg's, which the watchers look at."""
    path = tmp_path / "status"
    path.write_text(
        stanza("bash", "install ok installed", "5.2-1")
        + stanza("nginx", "install ok installed", "1.22-1")
        + stanza("old", "deinstall ok config-files", "0.9")
        + stanza("libc6", "install ok installed", "2.36", "amd64")
        + stanza("libc6", "install ok installed", "2.36", "i386")
    )
    monkeypatch.setattr(package_databases, "DATABASES", (Dpkg(str(path)),))
    return path


def stanza(package: str, state: str, version: str, arch: str = "all") -> str:
    return (
        f"Package: {package}\nStatus: {state}\nPriority: optional\nArchitecture: {arch}\nVersion: {version}\n"
        f"Description: a package\n Its Version: is none.\n Package: neither.\n\n"
    )


def edit(path: Path, old: str, new: str) -> None:
    """As dpkg does: the new file takes the old one's place."""
    text = path.read_text()
    assert old in text
    path.with_suffix(".new").write_text(text.replace(old, new))
    path.with_suffix(".new").replace(path)


def test_packages_that_are_installed_upgraded_removed_and_purged_are_told_of(status: Path) -> None:
    watched = Watched("package")
    assert watched.events() == watched.events() == []
    with_curl = status.read_text() + stanza("curl", "install ok installed", "7.88", "amd64")
    status.write_text(with_curl)
    curl = {"package": "curl", "arch": "amd64", "manager": "dpkg"}
    assert watched.events() == [("package.installed", {**curl, "version": "7.88"})]
    edit(status, "Version: 7.88", "Version: 8.0")
    assert watched.events() == [("package.upgraded", {**curl, "version": "8.0", "old_version": "7.88"})]
    edit(
        status,
        stanza("curl", "install ok installed", "8.0", "amd64"),
        stanza("curl", "x x config-files", "8.0", "amd64"),
    )
    assert watched.events() == [("package.removed", {**curl, "old_version": "8.0"})]
    edit(status, stanza("curl", "x x config-files", "8.0", "amd64"), "")
    assert watched.events() == [("package.purged", {**curl, "old_version": "8.0"})]
    edit(status, stanza("old", "deinstall ok config-files", "0.9"), stanza("old", "install ok installed", "1.0"))
    assert watched.types() == ["package.installed"]
    assert watched.events() == []


def test_packages_are_chosen_by_name_and_condition_and_told_of_by_architecture(status: Path) -> None:
    libraries, removals = Watched("package", "upgraded", name="lib*"), Watched("package", "removed")
    assert libraries.events() == removals.events() == []
    edit(status, "2.36", "2.37")
    edit(status, stanza("nginx", "install ok installed", "1.22-1"), "")
    assert [data["arch"] for _, data in libraries.events()] == ["amd64", "i386"]
    assert [data["package"] for _, data in removals.events()] == ["nginx"]


def test_a_package_that_dpkg_still_works_on_is_as_it_was(status: Path) -> None:
    watched = Watched("package")
    watched.events()
    edit(
        status, stanza("nginx", "install ok installed", "1.22-1"), stanza("nginx", "install ok half-configured", "1.24")
    )
    assert watched.events() == []
    edit(status, "install ok half-configured", "install ok triggers-pending")
    assert watched.types() == ["package.upgraded"]


def test_packages_that_changed_while_the_daemon_was_away_are_seen_late(status: Path) -> None:
    watched = Watched("package", name="nginx")
    watched.events()
    edit(status, "1.22-1", "1.24-1")
    [(event_type, data)] = watched.resumed().events(late=True)
    assert (event_type, data["old_version"], data["seen_late"]) == ("package.upgraded", "1.22-1", True)


def test_the_database_is_read_again_only_when_it_was_written(status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = Dpkg._read
    monkeypatch.setattr(Dpkg, "_read", lambda self: reads.append(1) or read(self))
    os.utime(status, (0, 0))
    watched, other = Watched("package"), Watched("package", name="bash")
    for _ in range(5):
        assert watched.events() == other.events() == []
    assert len(reads) == 1
    status.unlink()
    with pytest.raises(CheckFailed, match="there is no database of packages"):
        watched.events()


def test_a_database_that_is_written_twice_within_a_step_of_the_clock_is_read_twice(status: Path) -> None:
    now = time.time_ns()
    os.utime(status, ns=(now, now))
    watched = Watched("package")
    assert watched.events() == []
    status.write_text(status.read_text().replace("1.22-1", "1.24-1"))
    os.utime(status, ns=(now, now))
    assert watched.types() == ["package.upgraded"]


def test_a_database_that_cannot_be_read_hides_nothing_of_another(
    status: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rpmdb.sqlite").write_text("broken")
    monkeypatch.setenv("PATH", str(tmp_path))  # no rpm there
    monkeypatch.setattr(package_databases, "DATABASES", (Rpm([str(tmp_path)]), Dpkg(str(status))))
    watched = Watched("package")
    with pytest.raises(CheckFailed, match="there is no program rpm"):
        watched.events()
    edit(status, "1.22-1", "1.24-1")
    assert watched.types() == ["package.upgraded"]


def test_a_list_of_packages_that_is_cut_off_is_not_taken_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rpmdb.sqlite").write_text("some")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(package_databases, "DATABASES", (Rpm([str(tmp_path)]),))
    rpm = tmp_path / "rpm"
    watched = Watched("package")
    for number, fault in ((10_000, None), (30_000, "rpm lists more than the 1048576 bytes"), (10_000, None)):
        rpm.write_text(f"#!/bin/sh\nseq -f 'package-%06.0f:x86_64\t1.0-1.example.release' {number}\n")
        rpm.chmod(0o755)
        with pytest.raises(CheckFailed, match=fault) if fault else nullcontext():
            assert watched.events() == []
        (tmp_path / "rpmdb.sqlite").write_text(f"some more than {number}")


@pytest.mark.skipif(not STATUS.exists(), reason="there is no dpkg here")
def test_this_machine_s_own_packages_are_read() -> None:
    packages = Dpkg().packages()
    assert packages is not None
    assert packages["dpkg:amd64"] if "dpkg:amd64" in packages else any(key.startswith("dpkg:") for key in packages)
    assert all(package.version for package in packages.values())


class Utmp(ctypes.Structure):
    """utmp(5), as glibc has it on x86-64 and 32-bit machines."""

    _fields_ = (
        ("type", ctypes.c_short), ("pid", ctypes.c_int), ("line", ctypes.c_char * 32), ("id", ctypes.c_char * 4),
        ("user", ctypes.c_char * 32), ("host", ctypes.c_char * 256), ("exit", ctypes.c_short * 2),
        ("session", ctypes.c_int32), ("seconds", ctypes.c_int32), ("microseconds", ctypes.c_int32),
        ("address", ctypes.c_int32 * 4), ("unused", ctypes.c_char * 20),
    )  # fmt: skip


Record = Callable[..., None]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    """Writes a login, or a logout, to a utmp file of the test's own, by glibc as login programs do."""
    if os.uname().machine != "x86_64":
        pytest.skip("utmp's layout is known for x86-64 only")
    libc = ctypes.CDLL(None)
    libc.pututline.restype = ctypes.c_void_p
    path = tmp_path / "utmp"
    path.touch()
    monkeypatch.setattr(logins, "UTMP", str(path))
    libc.utmpname(os.fsencode(path))

    def write(user: str, line: str, host: str = "", *, ends: bool = False, pid: int = 0, later: int = -60) -> None:
        kind = 8 if ends else 7  # DEAD_PROCESS, USER_PROCESS
        entry = Utmp(kind, pid or os.getpid(), line.encode(), line[-4:].encode(), user.encode(), host.encode())
        entry.seconds = int(time.time()) + later
        libc.setutent()
        assert libc.pututline(ctypes.byref(entry))
        libc.endutent()

    yield write
    libc.utmpname(b"/run/utmp")


def test_logins_and_logouts_are_told_of(record: Record) -> None:
    record("root", "tty1")
    watched = Watched("user", "login", "logout")
    assert watched.events() == []
    record("alice", "pts/3", "192.0.2.7")
    [(event_type, login)] = watched.events()
    assert login.pop("login_time").endswith("Z")
    alice = {"user": "alice", "ip_address": "192.0.2.7", "remote_host": "192.0.2.7", "session_id": "pts/3"}
    assert (event_type, login) == ("security.login_success", {**alice, "terminal": "pts/3", "pid": os.getpid()})
    assert watched.events() == []
    again = watched.resumed()
    record("", "pts/3", ends=True)
    [(event_type, logout)] = watched.events()
    assert (event_type, logout["user"]) == ("security.logout", "alice")
    assert 50 < logout["duration"] < 120
    [(event_type, logout)] = again.events(late=True)
    assert (event_type, logout["seen_late"]) == ("security.logout", True)


def test_a_login_before_which_the_clock_was_set_back_has_lasted_no_time(record: Record) -> None:
    record("alice", "pts/3", later=3600)
    watched = Watched("user", "logout")
    watched.look()
    record("", "pts/3", ends=True)
    assert watched.one()["duration"] == 0


def test_logins_are_chosen_by_name_and_end_with_their_process(record: Record) -> None:
    watched = Watched("user", "changed", username="svc-*")
    watched.events()
    with open("/proc/sys/kernel/pid_max") as file:
        no_process = int(file.read())  # all have smaller numbers
    record("bob", "pts/4")
    record("svc-backup", "pts/5", "backup.example")
    [(event_type, data)] = watched.events()
    assert (event_type, data["user"], data["remote_host"]) == ("security.login_success", "svc-backup", "backup.example")
    assert "ip_address" not in data
    record("svc-backup", "pts/5", "backup.example", pid=no_process)
    assert watched.types() == ["security.logout"]


def test_logins_within_a_step_of_the_clock_are_told_apart(record: Record) -> None:
    watched = Watched("user", "login", "logout")
    now = time.time_ns()
    told = []
    for user in ("alice", "bob"):
        record(user, "pts/3")
        os.utime(logins.UTMP, ns=(now, now))
        told.append(watched.types())
    assert told == [[], ["security.logout", "security.login_success"]]


def test_logins_that_logind_keeps_are_read_where_there_is_no_utmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "UTMP", str(tmp_path / "none"))
    monkeypatch.setattr(logins, "SESSIONS", str(tmp_path / "sessions"))
    watched = Watched("user", "login")
    with pytest.raises(CheckFailed, match="nobody records logins here"):
        watched.events()
    (tmp_path / "sessions").mkdir()
    assert watched.events() == []
    session = f"USER=carol\nCLASS=user\nSTATE=active\nTTY=pts/9\nREMOTE_HOST=2001:db8::1\nLEADER={os.getpid()}\n"
    (tmp_path / "sessions" / "4").write_text(f"{session}REALTIME=1700000000000000\n")
    (tmp_path / "sessions" / "c1").write_text("USER=carol\nCLASS=manager\nLEADER=1\n")
    [(_, data)] = watched.events()
    assert (data["user"], data["ip_address"]) == ("carol", "2001:db8::1")
    assert data["login_time"] == "2023-11-14T22:13:20Z"


def test_accounts_that_come_and_go_are_told_of_by_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:a\u2028b:/:/bin/false\n")
    monkeypatch.setattr(logins, "PASSWD", str(passwd))
    watched = Watched("user", "created", "deleted")
    assert watched.events() == []
    passwd.write_text("root:x:0:0:root:/root:/bin/bash\nmallory:x:0:0::/:/bin/sh\n")
    again = watched.resumed()
    told = [("user.created", {"user": "mallory"}), ("user.deleted", {"user": "daemon"})]
    assert watched.events() == told
    assert watched.events() == []
    assert again.events(late=True) == [(event_type, {**data, "seen_late": True}) for event_type, data in told]


def test_accounts_are_told_of_where_nobody_records_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    for name in ("PASSWD", "UTMP", "SESSIONS"):
        monkeypatch.setattr(logins, name, str(tmp_path / name.lower()))
    watched = Watched("user")
    with pytest.raises(CheckFailed, match="nobody records logins here"):
        watched.events()
    (tmp_path / "passwd").write_text("")
    assert watched.events() == [("user.deleted", {"user": "root"})]


def is_alive(number: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return False


def printing(path: Path) -> str:
    return f"cat {path}"


def test_a_command_s_output_that_changes_is_told_of(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("one\n")
    watched = Watched("command", command=printing(output))
    assert watched.events() == watched.events() == []
    output.write_text("two\n")
    [(event_type, data)] = watched.events()
    assert data.pop("duration_ms") >= 0
    assert (event_type, data) == (
        "command.output_changed",
        {"command": f"cat {output}", "old_output": "one", "new_output": "two", "exit_code": 0},
    )
    assert watched.events() == []
    output.write_text("three")
    [(_, data)] = watched.resumed().events(late=True)
    assert (data["old_output"], data["seen_late"]) == ("two", True)


def test_a_long_output_is_compared_whole_and_told_of_in_part(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("x" * 100_000)
    watched = Watched("command", command=printing(output))
    watched.events()
    output.write_text("x" * 99_999 + "y")
    [(_, data)] = watched.events()
    assert data["new_output"] == data["old_output"] == "x" * 4096 + "\n[output cut]"


def test_a_command_that_fails_is_told_of_until_it_succeeds(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    watched = Watched("command", "failed", "recovered", command=f"ls {flag}", **{"for": 2})
    assert [watched.types() for _ in range(3)] == [[], [], ["command.failed"]]
    flag.touch()
    [(event_type, data)] = watched.events()
    assert (event_type, data["exit_code"], data["expected_exit"]) == ("command.recovered", 0, 0)
    expected = Watched("command", "failed", command="false", expect_exit=1)
    assert [expected.types() for _ in range(2)] == [[], []]
    failing = Watched("command", "failed", command=f"ls {tmp_path}/none")
    failing.events()
    [(_, data)] = failing.events()
    assert (data["exit_code"], data["timed_out"], data["output"]) == (2, False, "")
    assert "none" in data["error"]


def test_a_command_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    number = tmp_path / "number"
    slow = f"sh -c 'sleep 60 & echo $! > {number}; wait'"
    watched = Watched("command", "failed", command=slow, timeout="300ms")
    watched.events()
    [(event_type, data)] = watched.events()
    assert (event_type, data["timed_out"]) == ("command.failed", True)
    assert not is_alive(int(number.read_text()))
    with pytest.raises(CheckFailed, match=r"sh did not end within 0\.3 s"):
        Watched("command", command=slow, timeout="300ms").events()


def test_an_output_that_begins_to_match_is_told_of_once(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("all is well\n")
    matches = Watched("command", "matches", command=printing(output), pattern=r"^degraded: (\d+)")
    contains = Watched("command", "contains", command=printing(output), pattern="(2")
    assert matches.events() == matches.events() == contains.events() == []
    output.write_text("pool\ndegraded: 2 (2 disks)\n")
    [(event_type, data)] = matches.events()
    assert (event_type, data["line"]) == ("command.output_matched", "degraded: 2 (2 disks)")
    assert data["output"] == "pool\ndegraded: 2 (2 disks)"
    assert matches.events() == []
    assert contains.types() == ["command.output_matched"]
    output.write_text("all is well again\n")
    assert matches.events() == []
    output.write_text("degraded: 1\n")
    assert matches.types() == ["command.output_matched"]


def test_a_number_in_the_output_is_compared(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("queue: 3 mails\n")
    watched = Watched("command", "above", "normal", command=printing(output), threshold=10, until_normal=5)
    low = Watched("command", "below", command=printing(output), threshold=4)
    assert watched.events() == watched.events() == low.events() == []
    assert low.types() == ["command.value_low"]
    output.write_text("queue: 12.5 mails\n")
    [(event_type, data)] = watched.events()
    assert (event_type, data["value"], data["threshold"]) == ("command.value_high", 12.5, 10)
    output.write_text("queue: 7 mails\n")
    assert watched.events() == []
    output.write_text("queue: 1e0 mails\n")
    assert watched.types() == ["command.value_normal"]
    output.write_text("no queue\n")
    with pytest.raises(CheckFailed, match="printed no number"):
        watched.events()


def test_a_failure_is_told_although_there_is_no_number_to_compare(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_text("1\n")
    watched = Watched("command", "above", "failed", "recovered", command=f"cat {output}", threshold=10)
    assert watched.events() == watched.events() == []
    output.unlink()
    assert watched.types() == ["command.failed"]
    with pytest.raises(CheckFailed, match="printed no number"):
        watched.events()
    output.write_text("1\n")
    assert watched.types() == ["command.recovered"]


def test_commands_see_nothing_of_the_daemon_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "s3same")
    watched = Watched("command", command="env", timeout="5s")
    watched.events()
    output = watched.check.state()["output"]["text"]  # type: ignore[index]
    assert "PATH=/" in output
    assert "s3same" not in output


def test_a_command_that_is_not_there_cannot_be_run() -> None:
    with pytest.raises(CheckFailed, match="there is no program no-such-program"):
        Watched("command", command="no-such-program --at all").events()
    with pytest.raises(CheckFailed, match="depends on the working directory"):
        Watched("command", command="./script").events()


def test_a_command_that_cannot_be_run_is_told_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    with pytest.raises(CheckFailed, match="there is no program script"):
        Watched("command", command="script").events()
    script.chmod(0o755)
    with pytest.raises(CheckFailed, match=f"{script} cannot be run: no such file or directory"):
        Watched("command", command="script").events()


def test_no_shell_reads_a_command() -> None:
    watched = Watched("command", command=r"echo '$HOME' '`id`' \> x';' * ls")
    watched.events()
    assert watched.check.state()["output"]["text"] == "$HOME `id` > x; * ls"  # type: ignore[index]


@pytest.mark.parametrize("type_name", ["command", "custom"])
@pytest.mark.parametrize(
    ("line", "operator"), [("df / | tail -1", "|"), ("ls > /tmp/x", ">"), ("a && b", "&"), ('echo "$HOME"', "$H")]
)
def test_what_only_a_shell_would_act_on_is_refused(type_name: str, line: str, operator: str) -> None:
    said = f"no shell reads this line, and {operator} would take one: write sh -c '...'"
    assert said in refusal(type_name, command=line)


def test_commands_that_make_no_sense_are_refused() -> None:
    assert "needs --command" in refusal("command")
    assert "quoted as for a shell" in refusal("command", command="echo 'x")
    assert "--when above needs --threshold" in refusal("command", "above", command="x")
    assert "--threshold needs --when above or below or normal" in refusal("command", command="x", threshold=1)
    assert "--when matches needs --pattern" in refusal("command", "matches", command="x")
    assert "take a watcher each" in refusal("command", "matches", "contains", command="x", pattern="x")
    assert "a regular expression of RE2" in refusal("command", "matches", command="x", pattern="(")
    for options in ({"average": 3}, {"until_normal": 1}):
        (name,) = options
        said = f"--{name.replace('_', '-')} needs --when above or below or normal"
        assert said in refusal("command", command="x", **options)
        assert said in refusal("command", "failed", command="x", **options)
    assert "--for needs --when failed or recovered or above" in refusal("command", command="x", **{"for": 2})
    assert "--expect-exit needs --when failed or recovered" in refusal("command", command="x", expect_exit=1)
    assert "--timeout goes with --once" in refusal("custom", command="x", timeout="5s")


def script(path: Path, text: str) -> str:
    """A command that runs a script of shell."""
    path.write_text(text)
    return f"sh {path}"


def test_each_line_of_a_running_program_is_an_event(tmp_path: Path) -> None:
    lines = [
        {"type": "sensor.hot", "data": {"celsius": 91}, "resource": "cpu0"},
        {"celsius": 92},
        {"type": "sensor.cold", "celsius": -3},
        17,
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    watched = Watched("custom", command=script(tmp_path / "run", f"cat <<'END'\n{text}\n\nEND\nexec sleep 60\n"))
    assert await_events(watched, lambda told: len(told) == 4) == [
        ("sensor.hot", {"celsius": 91}),
        ("custom.triggered", {"celsius": 92}),
        ("sensor.cold", {"celsius": -3}),
        ("custom.triggered", {"value": 17}),
    ]
    assert watched.events() == []


def test_what_a_program_says_while_nobody_looks_waits_for_the_next_look(tmp_path: Path) -> None:
    text = 'i=0; while [ $i -lt 1200 ]; do echo \'{"type": "a.b", "n": \'$i\'}\'; i=$((i+1)); done; exec sleep 60\n'
    watched = Watched("custom", command=script(tmp_path / "run", text))
    told = await_events(watched, lambda told: len(told) >= 1200)
    assert [data["n"] for _, data in told] == list(range(1200))


def test_the_end_of_a_program_is_told_of_once_and_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custom, "_PATIENCE_SECONDS", math.inf)  # looks are 10 s apart, for the watcher
    text = "echo '{\"n\": 1}'; printf '{\"n\": 2}'; echo 'out of luck' >&2; exit 3\n"
    watched = Watched("custom", command=script(tmp_path / "run", text))
    told = await_events(watched, lambda told: len(told) >= 7)
    runs = [("custom.triggered", {"n": 1}), ("custom.triggered", {"n": 2})]
    ended = ("custom.ended", {"command": f"sh {tmp_path}/run", "exit_code": 3, "error": "out of luck"})
    assert told[:7] == [*runs, ended, *runs, *runs]
    assert "custom.ended" not in [event_type for event_type, _ in told[7:]]


def test_a_line_that_is_no_event_is_said_and_the_others_are_told(tmp_path: Path) -> None:
    # In one write: a look between the lines would find no event.
    text = 'cat <<END\noh no\n{"type": "no type"}\n{"n": 1}\nEND\nexec sleep 60\n'
    watched = Watched("custom", command=script(tmp_path / "run", text))
    assert await_events(watched, bool) == [("custom.triggered", {"n": 1})]
    with pytest.raises(CheckFailed, match="its type is 'no type'"):
        watched.events()
    assert watched.events() == []


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo '{\"n\": 1}'; exec sleep 60\n"
    watched = Watched("custom", command=script(tmp_path / "run", text))
    told: list[Any] = []
    said = []
    deadline = time.monotonic() + 10
    while not (told and said):
        assert time.monotonic() < deadline
        try:
            told += watched.events()
        except CheckFailed as failed:
            said.append(str(failed))
        time.sleep(0.01)
    assert told == [("custom.triggered", {"n": 1})]
    assert said == [f"a line is no event: it has more than {stream.MAX_LINE} bytes"]


@pytest.mark.parametrize("text", ["exec cat /dev/zero\n", "exec cat /dev/zero >&2\n", "exec yes ''\n"])
def test_a_program_that_prints_faster_than_it_is_read_holds_no_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    watched = Watched("custom", command=script(tmp_path / "run", text))
    read, ended = os.read, threading.Event()

    def read_again(descriptor: int, size: int) -> bytes:
        """Until the program has printed more; the pipe that stays empty is as it is."""
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                return read(descriptor, size)
        raise BlockingIOError

    monkeypatch.setattr(stream.os, "read", read_again)

    def look() -> None:
        for _ in range(2):
            with suppress(CheckFailed):
                watched.events()
        ended.set()

    threading.Thread(target=look, daemon=True).start()
    assert ended.wait(10)


def test_a_program_ends_with_its_watcher_and_so_does_what_it_started(tmp_path: Path) -> None:
    text = 'setsid sleep 60 & echo "{\\"pids\\": [$$, $!]}"; trap \'\' TERM; while :; do sleep 0.05; done\n'
    watched = Watched("custom", command=script(tmp_path / "run", text))
    [(_, data)] = await_events(watched, bool)
    assert all(is_alive(pid) for pid in data["pids"])
    del watched
    assert not any(is_alive(pid) for pid in data["pids"])


_PATIENT = "while :; do sleep 0.05; done\n"


@pytest.mark.parametrize(
    ("text", "grace", "values"),
    [
        (f"trap 'echo 3; printf 4; exit' TERM; echo 1; echo 2; READY; {_PATIENT}", 10, [1, 2, 3, 4]),
        # What it started prints on when it has ended itself.
        (f"echo 1; {{ trap 'sleep 0.1; echo 2; exit' TERM; READY; {_PATIENT} }} & wait\n", 10, [1, 2]),
        # Half a line of one that has to be killed is none.
        (f"trap '' TERM; echo 1; echo 2; printf 3; READY; {_PATIENT}", 0.2, [1, 2]),
        ("echo 1; setsid sleep 60 & echo 2; READY\n", 0.2, [1, 2]),
    ],
)
def test_what_a_program_prints_until_its_end_is_told_by_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, grace: float, values: list[int]
) -> None:
    monkeypatch.setattr(stream, "_GRACE_SECONDS", grace)
    begin, ready, number = tmp_path / "begin", tmp_path / "ready", tmp_path / "number"
    text = text.replace("READY", f"touch {ready}")
    until = f"until [ -e {begin} ]; do sleep 0.01; done"
    watched = Watched("custom", command=script(tmp_path / "run", f"echo $$ >{number}; {until}; {text}"))
    assert watched.events() == []
    begin.touch()
    wait_for(ready.exists, 10)
    leave(watched)
    assert [data["value"] for _, data in watched.events()] == values
    assert not is_alive(int(number.read_text()))
    assert watched.events() == []


def leave(watched: Watched) -> None:
    assert isinstance(watched.check, Leaving)
    watched.check.leave()


def test_a_program_that_prints_without_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_GRACE_SECONDS", 10.0)  # it is killed before, as it never stops
    watched = Watched("custom", command=script(tmp_path / "run", f"trap '' TERM; touch {tmp_path}/ready; yes 1\n"))
    watched.events()
    wait_for((tmp_path / "ready").exists, 10)
    began = time.monotonic()
    leave(watched)
    told = watched.events()
    assert time.monotonic() - began < 10
    assert 100 < len(told) <= 10_000
    assert watched.events() == []


def test_a_watcher_whose_program_does_not_run_leaves_without_a_word(tmp_path: Path) -> None:
    watched = Watched("custom", command=script(tmp_path / "run", "exec sleep 60\n"))
    leave(watched)
    assert watched.events() == []


_LEAVING = """
import os, sys, threading, time
sys.path.insert(0, {tests!r})
from watched import Watched, await_events
from hook_event_processor.watchers.leaving import leave
kept = Watched("custom", command="sh {kept}")
await_events(kept, bool)
slow = Watched("command", command="sh {slow}", timeout="1m")
threading.Thread(target=slow.look, daemon=True).start()
while not os.path.exists({number!r}): time.sleep(0.01)
leave()
while threading.active_count() > 1: time.sleep(0.01)
os._exit(0)
"""


def test_programs_end_with_the_daemon(tmp_path: Path) -> None:
    script(tmp_path / "kept", f"echo $$ > {tmp_path}/first; echo '{{}}'; exec sleep 60\n")
    script(tmp_path / "slow", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/second; exec sleep 60\n")
    tests, kept, slow = str(Path(__file__).parent), tmp_path / "kept", tmp_path / "slow"
    leaving = _LEAVING.format(tests=tests, kept=kept, slow=slow, number=f"{tmp_path}/second")
    done = subprocess.run([sys.executable, "-c", leaving], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert not any(is_alive(int((tmp_path / name).read_text())) for name in ("first", "second"))


def test_the_end_of_a_named_watcher_s_program_tells_its_command(tmp_path: Path) -> None:
    command = script(tmp_path / "run", "exit 4\n")
    programs.grant(True)
    definition = kinds.read("watcher-1", "custom", ["ended"], {"command": command, "once": "true"}, None, name="doors")
    [ended] = kinds.kind("custom").start(definition, None).look(Moment(datetime.now(UTC), 0.0))
    assert (ended.resource, ended.data["command"], ended.data["exit_code"]) == ("doors", command, 4)


def test_a_program_that_is_run_once_a_look_tells_by_its_lines_and_its_failure(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    text = f"echo '{{\"n\": 1}}'; test -e {flag} || {{ echo 'no flag' >&2; exit 4; }}\n"
    watched = Watched("custom", command=script(tmp_path / "run", text), once=True)
    triggered = ("custom.triggered", {"n": 1})
    ended = ("custom.ended", {"command": f"sh {tmp_path}/run", "exit_code": 4, "error": "no flag"})
    assert watched.events() == [triggered, ended]
    assert watched.events() == [triggered]
    flag.touch()
    assert watched.events() == [triggered]
    flag.unlink()
    only_ends = Watched("custom", "ended", command=f"sh {tmp_path}/run", once=True)
    assert only_ends.events() == [ended]
    with pytest.raises(CheckFailed, match="sh ended with 4: no flag"):
        only_ends.events()


@pytest.mark.parametrize(("type_name", "options"), [("command", {}), ("custom", {}), ("custom", {"once": True})])
def test_only_what_the_host_grants_is_run(tmp_path: Path, type_name: str, options: dict[str, object]) -> None:
    watched = Watched(type_name, command=script(tmp_path / "run", f"touch {tmp_path}/ran\n"), **options)
    programs.grant(("true", "/bin/echo"))
    with pytest.raises(CheckFailed, match="sh is not granted to watchers: WATCH_EXEC names the programs"):
        watched.events()
    assert not (tmp_path / "ran").exists()
    programs.grant(("sh",))
    watched.events()


def test_a_program_that_is_no_longer_granted_ends_with_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_GRACE_SECONDS", 10.0)
    watched = Watched("custom", command=script(tmp_path / "run", f"trap 'echo 0; exit' TERM; echo $$; {_PATIENT}"))
    [(_, first)] = await_events(watched, bool)
    programs.grant(False)
    assert [data["value"] for _, data in watched.events()] == [0]
    assert not is_alive(first["value"])
    for _ in range(2):
        with pytest.raises(CheckFailed, match="sh is not granted to watchers"):
            watched.look()
    programs.grant(("sh",))
    [(_, second)] = await_events(watched, bool)
    assert is_alive(second["value"])


@pytest.mark.parametrize("options", [{}, {"once": True}])
def test_programs_inherit_no_capability(tmp_path: Path, options: dict[str, object]) -> None:
    """The shipped unit gives the daemon some, to read what is others': they are not for the programs of watchers."""
    said = 'echo "{\\"ambient\\": \\"$(sed -n "s/CapAmb:.//p" /proc/self/status)\\"}"\n'
    watched = Watched("custom", command=script(tmp_path / "run", said), **options)
    lend_capabilities()
    assert capabilities("CapAmb")
    (_, data), *_ = await_events(watched, bool)
    assert int(data["ambient"], 16) == capabilities("CapAmb") == 0
