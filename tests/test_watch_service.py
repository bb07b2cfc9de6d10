"""service watchers on real units of a real systemd, in a box, within the sandbox of their own unit."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import UNITS, Box
from sandboxed import THERE, run_within
from watched import Watched, define, refusal

from hook_event_processor.child import CUT, MAX_OUTPUT, Ended
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import programs
from hook_event_processor.watchers.host.units import Manager

_UNIT = "hook-watcher.service"
_SCRIPT, _TOLD = "/run/script.py", "/var/lib/hook-event-processor/told.json"
_BEGINNING = f"""
import json, socket, sys, time
sys.path[:0] = ["{THERE}", "{THERE}/tests"]
from watched import Watched, await_events
from hook_event_processor.watchers.host import programs, units
from hook_event_processor.watchers.check import CheckFailed

told = []

def as_root(script):
    # What a shell of root's prints, which is outside of the sandbox.
    with socket.socket(socket.AF_UNIX) as shell:
        shell.connect("/run/shell.socket")
        shell.sendall(script.encode())
        shell.shutdown(socket.SHUT_WR)
        with shell.makefile() as printed: return printed.read()

def systemctl(*arguments):
    return as_root(" ".join(["systemctl", *arguments]))

def write(name, *lines):
    as_root(chr(10).join([f"cat >/etc/systemd/system/{{name}} <<'END'", *lines, "END"]))

def unit(name, *lines):
    write(name, "[Service]", *lines)

def look(watched, **how):
    events = watched.events(**how)
    told.append([[event_type.removeprefix("service."), data] for event_type, data in events])

def await_next(watched):
    events = await_events(watched, bool)
    told.append([[event_type.removeprefix("service."), data] for event_type, data in events])
"""
# A shell for whoever connects: what the watchers look at is root's to change.
_SHELL = {
    "shell.socket": "[Socket]\nListenStream=/run/shell.socket\nAccept=yes\nMaxConnections=1000\n",
    "shell@.service": "[Service]\nExecStart=-/bin/sh\nStandardInput=socket\n",
}

Told = list[list[tuple[str, dict[str, Any]]]]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A machine with systemd and the unit of the watchers, and nothing else."""
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("booting a systemd in a box needs root: run as root")
    with tempfile.TemporaryDirectory(prefix="hep-box-", dir="/var/lib") as directory:
        box = Box(Path(directory, "state"), Path("/nonexistent"))
        try:
            box.start()
            for name, text in _SHELL.items():
                box.write(f"/etc/systemd/system/{name}", text)
            box.write(f"/etc/systemd/system/{_UNIT}", (UNITS / _UNIT).read_text())
            box.write(f"/etc/systemd/system/{_UNIT}.d/10-system.conf", (UNITS / "watcher-system.conf").read_text())
            box.run("systemd-sysusers", str(UNITS / "sysusers.conf"))
            box.run("systemctl", "daemon-reload")
            box.run("systemctl", "start", "shell.socket")
            yield box
        finally:
            box.stop()


def told_in(box: Box, script: str) -> Told:
    """What watchers told of in the sandbox of their unit, look by look."""
    box.write(_SCRIPT, f"{_BEGINNING}{script}\nwith open({_TOLD!r}, 'w') as file: json.dump(told, file)\n")
    run_within(box, _UNIT, _SCRIPT)
    printed: Told = json.loads(box.run("cat", _TOLD))
    return printed


def types(told: Told) -> list[list[str]]:
    return [[event_type for event_type, _ in events] for events in told]


def only(told: Told, *, look: int) -> dict[str, Any]:
    """The data of the one event of a look."""
    [(_, data)] = told[look]
    return data


def test_a_service_is_started_stopped_killed_and_restarted(box: Box) -> None:
    told = told_in(
        box,
        """
unit("app.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload")
watched = Watched("service", name="app")
look(watched)
systemctl("start", "app"); look(watched); look(watched)
systemctl("restart", "app"); look(watched)
systemctl("stop", "app"); look(watched)
systemctl("start", "app"); look(watched)
systemctl("kill", "-s", "KILL", "app"); await_next(watched); look(watched)
systemctl("reset-failed", "app"); look(watched)
""",
    )
    assert types(told) == [
        *([], ["started"], [], ["restarted"], ["stopped"], ["started"], ["failed"], [], []),
    ]
    started = only(told, look=1)
    assert started.pop("main_pid") > 1
    assert len(started.pop("invocation_id")) == 32
    assert started == {
        "service": "app.service",
        "old_status": "inactive",
        "new_status": "active",
        "sub_state": "running",
        "result": "success",
        "n_restarts": 0,
    }
    assert only(told, look=3)["automatic"] is False
    failed = only(told, look=6)
    assert (failed["old_status"], failed["new_status"], failed["result"]) == ("active", "failed", "signal")
    assert (failed["code"], failed["signal"], failed["exit_code"]) == ("killed", "KILL", 137)


def test_a_service_that_systemd_starts_again_is_told_of_by_its_counter(box: Box) -> None:
    told = told_in(
        box,
        """
unit("again.service", "ExecStart=/bin/sleep 1000", "Restart=always", "RestartSec=0")
unit("later.service", "ExecStart=/bin/sh -c 'until rm /run/end; do sleep 0.05; done; exit 3'",
     "Restart=always", "RestartSec=3")
systemctl("daemon-reload"); systemctl("start", "again", "later")
again, later = Watched("service", name="again"), Watched("service", name="later.service")
look(again); look(later)
as_root("touch /run/end")
await_next(later); await_next(later)
systemctl("stop", "later")
systemctl("kill", "-s", "SEGV", "again")
as_root("until systemctl show again | grep -qx NRestarts=1 && systemctl is-active -q again; do sleep 0.1; done")
await_next(again)
""",
    )
    assert types(told) == [[], [], ["failed"], ["restarted"], ["restarted"]]
    failed, restarted = only(told, look=2), only(told, look=3)
    assert (failed["new_status"], failed["sub_state"]) == ("activating", "auto-restart")
    assert (failed["result"], failed["exit_status"], failed["exit_code"]) == ("exit-code", 3, 3)
    assert (restarted["automatic"], restarted["n_restarts"]) == (True, 1)
    assert only(told, look=4)["automatic"] is True


def test_jobs_that_ran_between_two_looks_are_told_of(box: Box) -> None:
    told = told_in(
        box,
        """
unit("good.service", "Type=oneshot", "ExecStart=/bin/true")
unit("bad.service", "Type=oneshot", "ExecStart=/bin/false")
write("good.timer", "[Timer]", "OnBootSec=1d")
systemctl("daemon-reload"); systemctl("start", "good.timer")  # it keeps good.service loaded
good, bad = Watched("service", name="good"), Watched("service", "failed", name="bad")
look(good); look(bad)
systemctl("start", "good"); look(good); look(good)
systemctl("start", "bad"); look(bad); look(bad)
systemctl("start", "bad"); look(bad)
""",
    )
    assert types(told) == [[], [], ["started", "stopped"], [], ["failed"], [], ["failed"]]


def test_what_happened_while_the_daemon_was_away_is_seen_late(box: Box) -> None:
    told = told_in(
        box,
        """
unit("late.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "late")
watched = Watched("service", name="late")
look(watched)
systemctl("restart", "late")
again = watched.resumed()
look(again, late=True); look(again)
""",
    )
    assert types(told) == [[], ["restarted"], []]
    assert only(told, look=1)["seen_late"] is True


def test_a_change_of_a_unit_s_files_is_told_of_and_a_touch_is_not(box: Box) -> None:
    told = told_in(
        box,
        """
unit("filed.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload")
watched = Watched("service", "modified", name="filed")
look(watched)
as_root("touch /etc/systemd/system/filed.service"); look(watched)
unit("filed.service", "ExecStart=/bin/sleep 2000"); look(watched)
as_root("mkdir /etc/systemd/system/filed.service.d")
unit("filed.service.d/nice.conf", "Nice=5"); look(watched)
systemctl("daemon-reload"); look(watched)
as_root("rm /etc/systemd/system/filed.service.d/nice.conf"); look(watched)
""",
    )
    assert types(told) == [[], [], ["unit_changed"], ["unit_changed"], [], ["unit_changed"]]
    assert only(told, look=2)["paths"] == ["/etc/systemd/system/filed.service"]
    assert only(told, look=3)["paths"] == ["/etc/systemd/system/filed.service.d/nice.conf"]


def test_a_pattern_stands_for_all_that_are_loaded(box: Box) -> None:
    told = told_in(
        box,
        """
unit("worker@.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "worker@1")
watched, status = Watched("service", name="worker@*"), Watched("service", "status", name="worker@2")
look(watched); look(status)
systemctl("start", "worker@2"); look(watched); look(status)
systemctl("stop", "worker@1", "worker@2"); look(watched)
""",
    )
    assert types(told) == [[], [], ["started"], ["status_changed"], ["stopped", "stopped"]]
    assert only(told, look=2)["service"] == "worker@2.service"
    assert {data["service"] for _, data in told[4]} == {"worker@1.service", "worker@2.service"}


def test_a_unit_that_is_not_there_yet_is_named_and_told_of_when_it_starts(box: Box) -> None:
    told = told_in(
        box,
        """
watched = Watched("service", name="soon")
try: watched.events()
except CheckFailed as failed: told.append([[str(failed), {}]])
unit("soon.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "soon")
look(watched)
""",
    )
    assert types(told) == [["there is no unit soon.service"], ["started", "unit_changed"]]


def test_systemd_is_asked_once_for_all_and_not_again_while_nothing_moves(box: Box) -> None:
    [[[_, counts]]] = told_in(
        box,
        """
for number in range(3): unit(f"many{number}.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "many0", "many1", "many2")
time.sleep(0.2)
runs, run = [], programs.run
def counted(arguments, *more):
    runs.append([word for word in arguments if word.endswith(".service")])
    return run(arguments, *more)
programs.run = counted
many = [Watched("service", name=f"many{number}") for number in range(3)]
for _ in range(5):
    for watched in many: watched.events()
quiet = len(runs)
del many[2], watched
systemctl("restart", "many1")
time.sleep(0.2)
for watched in many: watched.events()
told.append([["counts", {"quiet": quiet, "first": sorted(runs[0]), "last": runs[-1], "all": len(runs)}]])
""",
    )
    assert counts == {
        "quiet": 1,
        "first": ["many0.service", "many1.service", "many2.service"],
        "last": ["many1.service"],
        "all": 2,
    }


def test_how_a_unit_s_process_ended_is_told_after_it_was_started_again(box: Box) -> None:
    """Where the kernel does not tell how the processes of others end: before Linux 6.15."""
    told = told_in(
        box,
        """
from hook_event_processor.watchers.host import ending
ending._kernel_tells = lambda: False
forever = "exec /bin/sleep 1000"
code = {"killed": forever, "exits": "until test -e /run/exit; do /bin/sleep 0.05; done; exit 7", "restarted": forever}
for name, line in code.items():
    unit(f"{name}.service", f"ExecStart=/bin/sh -c '{line}'", "Restart=on-failure", "StartLimitBurst=0")
systemctl("daemon-reload"); systemctl("start", *code)

def pid(name):
    return int(systemctl("show", "--value", "-pMainPID", name))

def started_again(name, before):
    deadline = time.monotonic() + 20
    while pid(name) in (0, before):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)  # it has become the program
    as_root("journalctl --sync")

ends = {
    "killed": lambda pid: as_root(f"kill -SEGV {pid}"),
    "exits": lambda _: as_root("touch /run/exit"),
    "restarted": lambda _: systemctl("restart", "restarted"),
}
for name, end in ends.items():
    main = pid(name)
    watched = Watched("process", "stopped", "crashed", pid=main)
    look(watched)
    watched.restart()
    look(watched)
    end(main)
    started_again(name, main)
    look(watched)
    systemctl("stop", name)
""",
    )
    crashed = ["process.stopped", "process.crashed"]
    assert types(told) == [[], [], crashed, [], [], crashed, [], [], ["process.stopped"]]
    killed, exited, restarted = (told[look][-1][1] for look in (2, 5, 8))
    assert (killed["unit"], killed["signal"], killed["told_by"]) == ("killed.service", "SIGSEGV", "systemd")
    assert (exited["unit"], exited["exit_code"], exited["crash"]) == ("exits.service", 7, "yes")
    assert (restarted["unit"], restarted["crash"]) == ("restarted.service", "no")


def test_a_daemon_whose_capabilities_were_taken_away_may_look_too(box: Box) -> None:
    drop_in = f"/etc/systemd/system/{_UNIT}.d/less.conf"
    box.write(drop_in, "[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\n")
    try:
        told = told_in(
            box,
            """
unit("seen.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "seen")
with open("/proc/self/status") as status: told.append([line.split() for line in status if line.startswith("CapPrm")])
look(Watched("service", name="seen"))
""",
        )
    finally:
        box.run("rm", drop_in)
    assert told == [[["CapPrm:", "0" * 16]], []]


def test_a_name_that_systemctl_refuses_is_no_other_watcher_s_trouble(box: Box) -> None:
    [[[_, said]]] = told_in(
        box,
        """
for number in range(4): unit(f"fine{number}.service", "ExecStart=/bin/sleep 1000")
systemctl("daemon-reload"); systemctl("start", "fine0", "fine1", "fine2", "fine3")
manager = units.Manager()
# As a row may hold that was written past the command line.
names = ["fine0.service", "fine1.service", "@none.service", "fine2.service", "fine3.service"]
interests = [manager.watch(name) for name in names]
said = {}
for interest in interests:
    try: said[interest.name] = [unit.active_state for unit in manager.units(interest, 10.0)]
    except CheckFailed as failed: said[interest.name] = str(failed)
told.append([["said", said]])
""",
    )
    refused = said.pop("@none.service")
    assert refused.startswith("systemctl failed: ")
    assert said == {f"fine{number}.service": ["active"] for number in range(4)}


class Systemctl:
    """Stands in for systemctl: units by name, or the fault that it complains of; what it was asked is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, units: dict[str, str]) -> None:
        self.units = units
        self.faults: dict[str, str] = {}
        self.asked: list[list[str]] = []
        self.manager = Manager()
        monkeypatch.setattr(self.manager, "_require", lambda: None)
        monkeypatch.setattr(self.manager, "_links_moved_at", lambda: 1)
        monkeypatch.setattr(programs, "run", self._run)

    def _run(self, arguments: list[str], *_: object) -> Ended:
        names = arguments[arguments.index("--") + 1 :]
        self.asked.append(names)
        fault = next((self.faults[name] for name in [*names, ""] if name in self.faults), "")
        printed = "\n".join(self.units.get(name, "") for name in names).encode()
        if len(printed) > MAX_OUTPUT:
            printed = printed[:MAX_OUTPUT] + CUT
        return Ended(int(bool(fault)), printed, fault.encode(), 1, timed_out=False)

    def said(self, monotonic: float, *names: str) -> dict[str, int | str]:
        """How many units there are for each of these names, or why that is not known."""
        found: dict[str, int | str] = {}
        interests = [self.manager.watch(name) for name in names]
        for interest in interests:
            try:
                found[interest.name] = len(self.manager.units(interest, monotonic))
            except CheckFailed as fault:
                found[interest.name] = str(fault)
        return found


def shown(*names: str, about: str = "") -> str:
    """What systemctl shows of units that are up."""
    return "\n".join(f"Id={name}\nNames={name}\nActiveState=active\nSubState={about}\n" for name in names)


def test_a_pattern_of_too_many_units_is_its_own_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    many = shown(*(f"{number}.scope" for number in range(1200)))
    systemctl = Systemctl(monkeypatch, {name: shown(name) for name in ("a.service", "b.service")} | {"*.scope": many})
    names = ("a.service", "*.scope", "b.service")
    said = {"a.service": 1, "*.scope": "*.scope stands for 1200 units: at most 1000", "b.service": 1}
    assert systemctl.said(10.0, *names) == said
    assert [sorted(names) for names in systemctl.asked] == [["*.scope", "a.service", "b.service"]]
    assert systemctl.said(30.0, *names) == said
    # Nothing has moved: what was too much still is.
    assert "*.scope" not in [name for names in systemctl.asked[1:] for name in names]


def test_units_that_there_is_too_much_to_say_of_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    many = shown("1.device", "2.device", about="x" * MAX_OUTPUT)
    systemctl = Systemctl(monkeypatch, {name: shown(name) for name in ("a.service", "b.service")} | {"*.device": many})
    said = systemctl.said(10.0, "a.service", "*.device", "b.service")
    assert said == {"a.service": 1, "*.device": "there is more to say of so many units than is read", "b.service": 1}


def test_a_refusal_is_found_once_and_asked_for_by_itself_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.service" for number in range(8)]
    systemctl = Systemctl(monkeypatch, {name: shown(name) for name in names})
    systemctl.faults["5.service"] = "access denied"
    said = {**dict.fromkeys(names, 1), "5.service": "systemctl failed: access denied"}
    assert systemctl.said(10.0, *names) == said
    systemctl.asked.clear()
    assert systemctl.said(30.0, *names) == said
    assert sorted(len(asked) for asked in systemctl.asked) == [1, 7]
    del systemctl.faults["5.service"]
    assert systemctl.said(50.0, *names) == dict.fromkeys(names, 1)


def test_a_manager_that_answers_nobody_is_not_asked_name_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl = Systemctl(monkeypatch, {})
    systemctl.faults[""] = "no bus"
    names = [f"{number}.service" for number in range(8)]
    assert systemctl.said(10.0, *names) == dict.fromkeys(names, "systemctl failed: no bus")
    assert len(systemctl.asked) == 2


def test_where_systemd_does_not_run_the_check_says_so() -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    with pytest.raises(CheckFailed, match="systemd does not run here"):
        Watched("service", name="nginx").events()


def test_a_name_without_a_type_is_a_service_s() -> None:
    target = kinds.kind("service").target
    assert target(define("service", name="nginx")) == "nginx.service"
    assert target(define("service", name="backup.timer")) == "backup.timer"
    assert target(define("service", name="dbus-org.freedesktop.login1")) == "dbus-org.freedesktop.login1.service"
    assert kinds.kind("service").paths(define("service", name="nginx")) == (
        "/run/systemd/units/invocation:nginx.service",
    )


@pytest.mark.parametrize("name", ["worker@", "a b", "-x", "../etc", "a;b", "", "@foo", "@*", "a" * 248])
def test_what_is_no_unit_s_name_is_refused(name: str) -> None:
    assert "takes a unit's name" in refusal("service", name=name)


def test_a_name_is_as_long_as_systemd_lets_it_be() -> None:
    longest = "a" * 247
    assert define("service", name=longest).options["name"] == f"{longest}.service"
