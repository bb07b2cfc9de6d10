"""service watchers: on real units, where systemd is a test's to change, and on a systemctl that complains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from root_shell import as_root, needs_box
from waiting import wait_for
from watched import Event, Watched, await_events, define, refusal

from hook_event_processor.child import CUT, MAX_OUTPUT, Ended
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import ending, programs, units
from hook_event_processor.watchers.host.units import Manager

_UNITS = "/etc/systemd/system"
_SLEEPS = "ExecStart=/bin/sleep 1000"

Write = Callable[..., None]


@pytest.fixture
def write() -> Iterator[Write]:
    """Writes a unit's file, or one of its drop-ins; the unit ends with the test."""
    written: list[str] = []

    def write(name: str, *lines: str, section: str = "Service") -> None:
        written.append(name)
        as_root("\n".join([f"install -D -m 644 /dev/stdin {_UNITS}/{name} <<'END'", f"[{section}]", *lines, "END"]))

    yield write
    names = " ".join({name.partition(".d/")[0].replace("@", "@*") for name in written})
    files = " ".join(f"{_UNITS}/{name}" for name in written)
    as_root(f"systemctl stop {names} || true; rm -f {files}; systemctl daemon-reload; systemctl reset-failed")


def systemctl(*arguments: str) -> str:
    return as_root(f"systemctl {' '.join(arguments)}")


def await_event(watched: Watched) -> Event:
    """The one event that looks tell of sooner or later."""
    [event] = await_events(watched, bool)
    return event


@needs_box
def test_a_service_is_started_stopped_killed_and_restarted(write: Write) -> None:
    write("app.service", _SLEEPS)
    systemctl("daemon-reload")
    watched = Watched("service", name="app")
    assert watched.events() == []
    systemctl("start", "app")
    [(event_type, started)] = watched.events()
    assert started.pop("main_pid") > 1
    assert len(started.pop("invocation_id")) == 32
    assert (event_type, started) == (
        "service.started",
        {
            "service": "app.service",
            "old_status": "inactive",
            "new_status": "active",
            "sub_state": "running",
            "result": "success",
            "n_restarts": 0,
        },
    )
    assert watched.events() == []
    systemctl("restart", "app")
    [(event_type, restarted)] = watched.events()
    assert (event_type, restarted["automatic"]) == ("service.restarted", False)
    systemctl("stop", "app")
    assert watched.types() == ["service.stopped"]
    systemctl("start", "app")
    assert watched.types() == ["service.started"]
    systemctl("kill", "-s", "KILL", "app")
    event_type, failed = await_event(watched)
    assert event_type == "service.failed"
    assert (failed["old_status"], failed["new_status"], failed["result"]) == ("active", "failed", "signal")
    assert (failed["code"], failed["signal"], failed["exit_code"]) == ("killed", "KILL", 137)
    assert watched.events() == []
    systemctl("reset-failed", "app")
    assert watched.events() == []


@needs_box
def test_a_service_that_systemd_starts_again_is_told_of_by_its_counter(write: Write) -> None:
    write("again.service", _SLEEPS, "Restart=always", "RestartSec=0")
    ends = "ExecStart=/bin/sh -c 'until rm /run/end; do sleep 0.05; done; exit 3'"
    write("later.service", ends, "Restart=always", "RestartSec=3")
    systemctl("daemon-reload")
    systemctl("start", "again", "later")
    again, later = Watched("service", name="again"), Watched("service", name="later.service")
    assert again.events() == later.events() == []
    as_root("touch /run/end")
    event_type, failed = await_event(later)
    assert (event_type, failed["new_status"], failed["sub_state"]) == ("service.failed", "activating", "auto-restart")
    assert (failed["result"], failed["exit_status"], failed["exit_code"]) == ("exit-code", 3, 3)
    event_type, restarted = await_event(later)
    assert (event_type, restarted["automatic"], restarted["n_restarts"]) == ("service.restarted", True, 1)
    systemctl("stop", "later")
    systemctl("kill", "-s", "SEGV", "again")
    as_root("until systemctl show again | grep -qx NRestarts=1 && systemctl is-active -q again; do sleep 0.1; done")
    event_type, restarted = await_event(again)
    assert (event_type, restarted["automatic"]) == ("service.restarted", True)


@needs_box
def test_jobs_that_ran_between_two_looks_are_told_of(write: Write) -> None:
    write("good.service", "Type=oneshot", "ExecStart=/bin/true")
    write("bad.service", "Type=oneshot", "ExecStart=/bin/false")
    write("good.timer", "OnBootSec=1d", section="Timer")
    systemctl("daemon-reload")
    systemctl("start", "good.timer")  # it keeps good.service loaded
    good, bad = Watched("service", name="good"), Watched("service", "failed", name="bad")
    assert good.events() == bad.events() == []
    systemctl("start", "good")
    assert good.types() == ["service.started", "service.stopped"]
    assert good.events() == []
    as_root("! systemctl start bad")
    assert bad.types() == ["service.failed"]
    assert bad.events() == []
    as_root("! systemctl start bad")
    assert bad.types() == ["service.failed"]


@needs_box
def test_what_happened_while_the_daemon_was_away_is_seen_late(write: Write) -> None:
    write("late.service", _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", "late")
    watched = Watched("service", name="late")
    assert watched.events() == []
    systemctl("restart", "late")
    again = watched.resumed()
    [(event_type, data)] = again.events(late=True)
    assert (event_type, data["seen_late"]) == ("service.restarted", True)
    assert again.events() == []


@needs_box
def test_a_change_of_a_unit_s_files_is_told_of_and_a_touch_is_not(write: Write) -> None:
    file, drop_in = f"{_UNITS}/filed.service", f"{_UNITS}/filed.service.d/nice.conf"
    write("filed.service", _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", "filed")  # one that is not loaded is read anew whenever it is asked for
    watched = Watched("service", "modified", name="filed")
    assert watched.events() == []
    as_root(f"touch {file}")
    assert watched.events() == []
    write("filed.service", "ExecStart=/bin/sleep 2000")
    [(event_type, data)] = watched.events()
    assert (event_type, data["paths"], data["need_daemon_reload"]) == ("service.unit_changed", [file], True)
    write("filed.service.d/nice.conf", "Nice=5")
    [(event_type, data)] = watched.events()
    assert (event_type, data["paths"], data["need_daemon_reload"]) == ("service.unit_changed", [drop_in], True)
    systemctl("daemon-reload")
    assert watched.events() == []
    as_root(f"rm {drop_in}")
    systemctl("daemon-reload")
    [(event_type, data)] = watched.events()
    assert (event_type, data["paths"], data["need_daemon_reload"]) == ("service.unit_changed", [drop_in], False)


@needs_box
def test_a_pattern_stands_for_all_that_are_loaded(write: Write) -> None:
    write("worker@.service", _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", "worker@1")
    watched, status = Watched("service", name="worker@*"), Watched("service", "status", name="worker@2")
    assert watched.events() == status.events() == []
    systemctl("start", "worker@2")
    [(event_type, started)] = watched.events()
    assert (event_type, started["service"]) == ("service.started", "worker@2.service")
    assert status.types() == ["service.status_changed"]
    systemctl("stop", "worker@1", "worker@2")
    stopped = [(event_type, data["service"]) for event_type, data in watched.events()]
    assert sorted(stopped) == [("service.stopped", f"worker@{number}.service") for number in (1, 2)]


@needs_box
def test_a_unit_that_is_not_there_yet_is_named_and_told_of_when_it_starts(write: Write) -> None:
    watched = Watched("service", name="soon")
    with pytest.raises(CheckFailed, match=r"^there is no unit soon\.service$"):
        watched.events()
    write("soon.service", _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", "soon")
    assert watched.types() == ["service.started", "service.unit_changed"]


@needs_box
def test_systemd_is_asked_once_for_all_and_not_again_while_nothing_moves(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"many{number}.service" for number in range(3)]
    for name in names:
        write(name, _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", *names)
    time.sleep(0.2)  # more than a tick of the clock that links are stamped by
    runs, run = [], programs.run

    def counted(arguments: list[str], *more: object) -> Ended:
        runs.append([word for word in arguments if word.endswith(".service")])
        return run(arguments, *more)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(programs, "run", counted)
    monkeypatch.setattr(units, "SYSTEM", Manager())  # that no other test has asked
    many = [Watched("service", name=name) for name in names]
    for _ in range(5):
        for watched in many:
            watched.events()
    assert [sorted(asked) for asked in runs] == [names]
    del many[2], watched
    systemctl("restart", "many1")
    time.sleep(0.2)
    for watched in many:
        watched.events()
    assert runs[1:] == [["many1.service"]]


@needs_box
@pytest.mark.parametrize(
    ("line", "end", "how", "crash"),
    [
        ("exec /bin/sleep 1000", "kill -SEGV {}", {"signal": "SIGSEGV", "told_by": "systemd"}, "yes"),
        ("until test -e /run/exit; do /bin/sleep 0.05; done; exit 7", "touch /run/exit", {"exit_code": 7}, "yes"),
        ("exec /bin/sleep 1000", "systemctl restart again", {}, "no"),
    ],
)
def test_how_a_unit_s_process_ended_is_told_after_it_was_started_again(
    write: Write, monkeypatch: pytest.MonkeyPatch, line: str, end: str, how: dict[str, object], crash: str
) -> None:
    """Where the kernel does not tell how the processes of others end: before Linux 6.15."""
    monkeypatch.setattr(ending, "_kernel_tells", lambda: False)
    write("again.service", f"ExecStart=/bin/sh -c '{line}'", "Restart=on-failure", "StartLimitBurst=0")
    systemctl("daemon-reload")
    systemctl("start", "again")

    def pid() -> int:
        return int(systemctl("show", "--value", "-pMainPID", "again"))

    before = pid()
    watched = Watched("process", "stopped", "crashed", pid=before)
    assert watched.events() == []
    watched.restart()
    assert watched.events() == []
    as_root(end.format(before))
    wait_for(lambda: pid() not in (0, before), 20)
    time.sleep(0.2)  # it has become the program
    as_root("journalctl --sync; rm -f /run/exit")
    told = watched.events()
    data = told[-1][1]
    crashed = ["process.crashed"] if crash == "yes" else []
    assert [event_type for event_type, _ in told] == ["process.stopped", *crashed]
    assert data == {**data, **how, "unit": "again.service", "crash": crash}


@needs_box
def test_a_name_that_systemctl_refuses_is_no_other_watcher_s_trouble(write: Write) -> None:
    fine = [f"fine{number}.service" for number in range(4)]
    for name in fine:
        write(name, _SLEEPS)
    systemctl("daemon-reload")
    systemctl("start", *fine)
    programs.grant(True)
    manager = Manager()
    # As a row may hold that was written past the command line.
    interests = [manager.watch(name) for name in (*fine[:2], "@none.service", *fine[2:])]
    said = {}
    for interest in interests:
        try:
            said[interest.name] = [unit.active_state for unit in manager.units(interest, 10.0)]
        except CheckFailed as failed:
            said[interest.name] = [str(failed)]
    [refused] = said.pop("@none.service")
    assert refused.startswith("systemctl failed: ")
    assert said == {name: ["active"] for name in fine}


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


def test_where_systemd_does_not_run_the_check_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(units, "_BOOTED", f"{tmp_path}/system")
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
