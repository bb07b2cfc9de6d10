"""Life under a real systemd: the units of systemd/, with both managers' recipes, kills, freezes and lost databases."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator

import pytest
from box import INSTALLED, PASSWORD, REPOSITORY, SERVICE, UNITS, Box
from waiting import wait_for

# Outside continuous integration an ordinary user may run the other tests.
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(300),
]

SYSTEM = "/etc/systemd/system"
WATCHDOG_SECONDS = 8  # a try to reconnect comes at least every 5.25 s

HOOK = """
return {
  name = "greet",
  event_type = "box.*",
  execute = function(event)
    if event.action == "slow" then
      require("time").sleep(4)
    elseif event.action == "broken" then
      error("no such thing\\nas luck")
    end
    return true, "hello " .. event.data.name
  end,
}
"""

SHOOT = """
return {
  name = "shoot",
  event_type = "box.shot",
  execute = function() require("exec").run({"sh", "-c", "kill -SEGV $PPID; sleep 5"}, {timeout = 3}) end,
}
"""


@pytest.fixture(scope="module")
def machine(box: Box) -> Box:
    """The machine, with an account for the units and one hook; the units are not there yet."""
    box.run("systemd-sysusers", str(UNITS / "sysusers.conf"))
    box.write("/root/greet.lua", HOOK)
    box.hep("hook", "add", "/root/greet.lua")
    return box


@pytest.fixture
def unit(machine: Box, box: Box) -> Iterator[str]:
    """The unit, installed in the system manager as docs/operations.md has it, running, with a short watchdog."""
    for name in (SERVICE, f"{SERVICE}@"):
        box.run("cp", str(UNITS / f"{name}.service"), f"{SYSTEM}/")
        box.run("mkdir", "-p", f"{SYSTEM}/{name}.service.d")
        box.run("cp", str(UNITS / "system.conf"), f"{SYSTEM}/{name}.service.d/")
        box.write(f"{SYSTEM}/{name}.service.d/test.conf", f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}\n")
    box.write("/etc/hook-event-processor/environment", f"DB_PORT={box.port}\nDB_USER=hep\nDB_NAME=hep\n", 0o600)
    box.run("install", "-d", "-m", "700", "/etc/credstore")
    box.write("/etc/credstore/hook-event-processor.db_password", PASSWORD, 0o600)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "reset-failed")
    box.run("systemctl", "restart", SERVICE)
    yield SERVICE
    box.run("systemctl", "stop", f"{SERVICE}.service", f"{SERVICE}@*.service", check=False)
    start_postgresql(box)
    box.run("rm", "-r", "/etc/hook-event-processor")


def insert(box: Box, action: str = "greeted", name: str = "world") -> str:
    """Insert an event with plain SQL; returns its id."""
    event_id = str(uuid.uuid4())
    box.psql(
        "INSERT INTO hook_events (id, source, action, resource, resource_id, payload, metadata) VALUES"
        f" ('{event_id}', 'box', '{action}', '', '', '{{\"name\": \"{name}\"}}',"
        ' \'{"correlation_id": "c-1", "agent_id": "a-1", "session_id": "s-1"}\')'
    )
    return event_id


def start_postgresql(box: Box) -> None:
    """Start it if it does not run, and wait until it answers."""
    box.run("systemctl", "start", "postgresql")
    wait_for(lambda: box.answers(), 20, "PostgreSQL answers")


def await_processed(box: Box, event_id: str, seconds: float = 10) -> None:
    query = f"SELECT processed FROM hook_events WHERE id = '{event_id}'"
    wait_for(lambda: box.psql(query) == "t", seconds, f"event {event_id} is processed")


def await_restart(box: Box, old_pid: str, seconds: float, unit: str = SERVICE) -> None:
    def restarted() -> bool:
        pid, state = box.properties("MainPID", "ActiveState", unit=unit)
        return state == "active" and pid not in ("0", old_pid)

    wait_for(restarted, seconds, f"{unit} was restarted")


def await_running(box: Box, unit: str) -> None:
    """Wait until the unit's processor has said in the database that it is at work."""
    (pid,) = box.properties("MainPID", unit=unit)
    fresh = f"SELECT state FROM hook_processors WHERE pid = {pid} AND heartbeat_at > now() - interval '10 seconds'"
    wait_for(lambda: box.psql(fresh) == "running", 30, f"{unit} is at work")


def results(box: Box, unit: str) -> set[str]:
    """How the unit has ended so far, as the journal has it."""
    return {entry["UNIT_RESULT"] for entry in box.journal("_PID=1", f"UNIT={unit}.service") if "UNIT_RESULT" in entry}


def test_an_inserted_event_is_run_recorded_and_found_in_the_journal(box: Box, unit: str) -> None:
    event_id = insert(box, name="psql")
    await_processed(box, event_id)
    recorded = box.psql(f"SELECT hook_name, success, output FROM event_hook_executions WHERE event_id = '{event_id}'")
    assert recorded == "greet|t|hello psql"
    wait_for(lambda: box.messages(f"EVENT_ID={event_id}"), 5, "the run is in the journal")
    (entry,) = box.journal("HOOK=greet", f"EVENT_ID={event_id}")
    assert entry["_SYSTEMD_UNIT"] == f"{SERVICE}.service"
    assert entry["SYSLOG_IDENTIFIER"] == "hook-event-processor"
    assert entry["PRIORITY"] == "6"
    assert (entry["SOURCE"], entry["ACTION"], entry["OUTCOME"]) == ("box", "greeted", "continue")
    assert (entry["CORRELATION_ID"], entry["AGENT_ID"], entry["SESSION_ID"]) == ("c-1", "a-1", "s-1")
    assert float(entry["DURATION_MS"]) >= 0


def test_a_failed_run_is_a_warning_in_the_journal(box: Box, unit: str) -> None:
    event_id = insert(box, action="broken")
    wait_for(lambda: box.messages(f"EVENT_ID={event_id}", "OUTCOME=failed"), 10, "the failure is in the journal")
    entry = box.journal(f"EVENT_ID={event_id}", "OUTCOME=failed")[0]
    assert entry["PRIORITY"] == "4"
    assert "no such thing\n    as luck" in entry["MESSAGE"]


def test_the_service_says_how_it_is(box: Box, unit: str) -> None:
    assert box.properties("Type", "ActiveState") == ["notify", "active"]
    wait_for(lambda: box.properties("StatusText") != [""], 10, "there is a status")
    (pid,) = box.properties("MainPID")
    assert box.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "hep"


def test_the_password_is_nowhere_to_be_seen(box: Box, unit: str) -> None:
    (pid,) = box.properties("MainPID")
    assert PASSWORD not in box.run("cat", f"/proc/{pid}/cmdline", f"/proc/{pid}/environ")
    assert not [message for message in box.messages(f"_SYSTEMD_UNIT={SERVICE}.service") if PASSWORD in message]


def test_kill_9_is_followed_by_a_restart(box: Box, unit: str) -> None:
    """The restart test of the original service, as printed there."""
    (old_pid,) = box.properties("MainPID")
    shown = box.shell("pkill -9 -f hook_event_processor\nsleep 5\nsystemctl status hook-event-processor")
    assert "active (running)" in shown
    assert box.properties("MainPID") != [old_pid]
    await_processed(box, insert(box))


def test_an_event_that_kills_the_service_does_it_once(box: Box, unit: str) -> None:
    """A hook's program shoots the process that started it: the service, and after the restart a cell each time."""
    settings = "/etc/hook-event-processor/environment"
    box.write(settings, f"DB_PORT={box.port}\nDB_USER=hep\nDB_NAME=hep\nHOOK_EXEC=sh\nRETRY_DELAY=0.1\n", 0o600)
    box.write("/root/shoot.lua", SHOOT)
    box.hep("hook", "add", "/root/shoot.lua")
    box.run("systemctl", "restart", SERVICE)
    await_running(box, SERVICE)
    poison = insert(box, action="shot")
    others = [insert(box) for _ in range(10)]
    state = f"SELECT state FROM events WHERE id = '{poison}'"
    wait_for(lambda: box.psql(state) == "failed", 40, "the poison is given up")
    assert box.properties("NRestarts", "ActiveState", unit=SERVICE) == ["1", "active"]
    ended = f"SELECT string_agg(result, ' ') FROM event_hook_executions WHERE event_id = '{poison}' AND NOT success"
    assert box.psql(ended) == "died died"
    for event_id in others:
        await_processed(box, event_id)
    box.hep("hook", "remove", "shoot")


def test_what_stands_still_is_unhealthy_and_restarted_by_the_watchdog(box: Box, unit: str) -> None:
    """Stopped as a whole, or its main thread held alone, or all others: three instances at once.

    A fourth has lanes whose sessions are frozen in the server: connections are what it starts anew.
    """
    box.run("systemctl", "stop", SERVICE)
    instances = {how: f"{SERVICE}@{how}" for how in ("lanes", "stopped", "main", "others")}
    lanes = instances["lanes"]
    box.run("systemctl", "start", lanes)
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%lane _' AND state = 'idle'"
    wait_for(lambda: len(box.psql(query).split()) == 3, 30, "all lanes are there")
    sessions = box.psql(query).split()
    frozen = time.time()
    box.run("kill", "-STOP", *sessions)
    insert(box)  # while nobody else could take it: one of these lanes begins to
    still = re.compile(r"lane \d has stood still")

    def stood() -> list[float]:
        """When the journal says that those lanes stood still."""
        entries = box.journal(f"_SYSTEMD_UNIT={lanes}.service", "LOGGER=Health")
        return [int(entry["__REALTIME_TIMESTAMP"]) / 1e6 for entry in entries if still.search(entry["MESSAGE"])]

    wait_for(stood, 20, "the journal tells of lanes")
    assert stood()[0] - frozen < 15
    wait_for(lambda: still.search(box.properties("StatusText", unit=lanes)[0]), 5, "the status tells of lanes")
    wait_for(lambda: still.search(unhealthy(box, "lanes")), 5, "the command tells of lanes")
    box.run("systemctl", "start", *instances.values())
    for name in instances.values():
        await_running(box, name)
    pids = {how: box.properties("MainPID", unit=name)[0] for how, name in instances.items()}
    box.run("kill", "-STOP", pids["stopped"])
    freezer = [str(REPOSITORY / "tests/freeze.py")]
    freezers = [box.popen("/usr/bin/python3", *freezer, pids[threads], threads) for threads in ("main", "others")]
    for started in freezers:
        assert started.stdout
        assert started.stdout.readline() == "frozen\n"
    wait_for(lambda: still.search(unhealthy(box, "others")), 20, "the command tells of the others")
    for how, name in instances.items():
        if name != lanes:
            await_restart(box, pids[how], 90, name)
            wait_for(lambda name=name: "watchdog" in results(box, name), 10, f"the journal says why {how} ended")
            await_running(box, name)
    for started in freezers:
        started.communicate(timeout=10)
    wait_for(lambda: all(unhealthy(box, how) == "" for how in instances), 20, "all are well again")
    box.run("kill", "-CONT", *sessions)
    assert box.properties("MainPID", "NRestarts", unit=lanes) == [pids["lanes"], "0"]
    await_processed(box, insert(box))


def unhealthy(box: Box, instance: str) -> str:
    """What `hep health` finds wrong with that instance; empty when all is well."""
    done = box.finished(*box.with_database(), f"{INSTALLED}/bin/hep", "health", "--instance", instance)
    return done.stdout if done.returncode else ""


def test_a_database_that_is_away_restarts_nothing_and_prevents_no_start(box: Box, unit: str) -> None:
    late = f"{SERVICE}@late"
    await_processed(box, insert(box))
    before = box.properties("MainPID", "NRestarts")
    status = box.properties("StatusText")
    box.run("systemctl", "stop", "postgresql")
    box.run("systemctl", "start", late)
    before_late = box.properties("MainPID", "NRestarts", unit=late)
    time.sleep(5 * WATCHDOG_SECONDS)
    assert box.properties("MainPID", "NRestarts") == before
    assert box.properties("StatusText") != status, "the status says that the database is away"
    start_postgresql(box)
    await_processed(box, insert(box), 30)
    await_running(box, late)
    assert box.properties("MainPID", "NRestarts") == before
    assert box.properties("MainPID", "NRestarts", unit=late) == before_late
    box.run("systemctl", "stop", SERVICE)
    await_processed(box, insert(box))


def test_a_wrong_configuration_is_not_tried_again(box: Box, unit: str) -> None:
    box.run("systemctl", "stop", SERVICE)
    box.write("/etc/hook-event-processor/environment", "BATCH_SIZE=many\n", 0o600)
    assert box.status("systemctl", "start", SERVICE) != 0
    time.sleep(3)
    state, restarts, status = box.properties("ActiveState", "NRestarts", "ExecMainStatus")
    assert (state, restarts, status) == ("failed", "0", "78")
    said = box.journal(f"_SYSTEMD_UNIT={SERVICE}.service", "SYSLOG_IDENTIFIER=hook-event-processor", "PRIORITY=4")
    assert [entry for entry in said if "BATCH_SIZE" in entry["MESSAGE"]]


def test_a_schema_that_is_not_ours_is_not_tried_again(box: Box, unit: str) -> None:
    box.run("systemctl", "stop", SERVICE)
    box.psql("CREATE SCHEMA nobody")
    box.write(
        "/etc/hook-event-processor/environment",
        f"DB_PORT={box.port}\nDB_USER=hep\nDB_NAME=hep\nDB_SCHEMA=nobody\n",
        0o600,
    )
    box.run("systemctl", "start", SERVICE, check=False)
    wait_for(lambda: box.properties("ActiveState") == ["failed"], 20, "the service has given up")
    assert box.properties("NRestarts", "ExecMainStatus") == ["0", "78"]


def test_a_stop_lets_the_run_end_that_is_under_way(box: Box, unit: str) -> None:
    event_id = insert(box, action="slow")
    busy = f"SELECT lease_token IS NOT NULL FROM hook_events WHERE id = '{event_id}'"
    wait_for(lambda: box.psql(busy) == "t", 10, "the run is under way")
    began = time.monotonic()
    box.run("systemctl", "stop", SERVICE)
    assert time.monotonic() - began < 20
    assert box.properties("Result", "ExecMainStatus") == ["success", "0"]
    recorded = box.psql(f"SELECT success, attempt FROM event_hook_executions WHERE event_id = '{event_id}'")
    assert recorded == "t|1"
    assert box.psql(f"SELECT processed FROM hook_events WHERE id = '{event_id}'") == "t"


def test_instances_share_the_work(box: Box, unit: str) -> None:
    box.run("systemctl", "stop", SERVICE)
    box.run("systemctl", "start", f"{SERVICE}@1", f"{SERVICE}@2")
    await_processed(box, insert(box))
    query = "SELECT string_agg(instance, ',' ORDER BY instance) FROM hook_processors WHERE instance IN ('1', '2')"
    wait_for(lambda: box.psql(query) == "1,2", 10, "both instances are known")


def test_an_instance_can_have_settings_of_its_own(box: Box, unit: str) -> None:
    box.write("/etc/hook-event-processor/environment.odd", "WORKERS=none\n", 0o600)
    assert box.status("systemctl", "start", f"{SERVICE}@odd") != 0
    assert box.status("systemctl", "start", f"{SERVICE}@even") == 0


def test_the_two_files_differ_in_what_an_instance_needs_only() -> None:
    plain = (UNITS / f"{SERVICE}.service").read_text().splitlines()
    template = (UNITS / f"{SERVICE}@.service").read_text().splitlines()
    assert [line for line in plain if line not in template] == ["Description=Hook event processor"]
    added = [line for line in template if line not in plain and not line.startswith("#")]
    assert all("%i" in line or line == "DefaultInstance=1" for line in added)


@pytest.mark.parametrize("name", [f"{SERVICE}.service", f"{SERVICE}@.service"])
def test_the_units_are_right_and_well_shielded(box: Box, unit: str, name: str) -> None:
    assert box.run("systemd-analyze", "verify", "--man=no", f"{SYSTEM}/{name}") == ""
    instance = name.replace("@", "@1")
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", box.run("systemd-analyze", "security", instance))
    assert exposure
    assert float(exposure[1]) <= 1.2
    alone = box.run("systemd-analyze", "security", "--offline=true", str(UNITS / name))
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", alone)
    assert exposure
    assert float(exposure[1]) <= 1.8, "without system.conf"


def test_the_printed_recipe_for_the_system_works(box: Box, unit: str) -> None:
    """The file alone, copied as the original service's was, without the drop-ins."""
    box.run("systemctl", "stop", SERVICE)
    box.run("rm", "-r", f"{SYSTEM}/{SERVICE}.service.d", f"{SYSTEM}/{SERVICE}.service")
    settings = box.run("cat", "/etc/hook-event-processor/environment")
    box.write("/etc/hook-event-processor/environment", f'{settings}DB_PASSWORD="{PASSWORD}"\n', 0o600)
    shown = box.shell(
        f"cd {UNITS}\n"
        "cp hook-event-processor.service /etc/systemd/system/\n"
        "systemctl daemon-reload\n"
        "systemctl enable hook-event-processor\n"
        "systemctl start hook-event-processor\n"
        "systemctl status hook-event-processor\n"
    )
    assert "active (running)" in shown
    await_processed(box, insert(box))
    assert SERVICE in box.run("systemctl", "list-dependencies", "default.target"), "it starts with the machine"
    box.run("systemctl", "disable", SERVICE)


def add_user(box: Box, name: str) -> None:
    """A user whose manager runs without a login, with settings for the service, beside a credential store of root's."""
    box.run("install", "-d", "-m", "700", "/etc/credstore")
    box.run("useradd", "--create-home", name)
    box.run("loginctl", "enable-linger", name)
    wait_for(lambda: "running" in box.shell("systemctl --user is-system-running || true", name), 20, "a user manager")
    box.shell(
        "mkdir -p ~/.config/hook-event-processor && umask 077\n"
        "cat >~/.config/hook-event-processor/environment <<'END'\n"
        f'DB_PASSWORD="{PASSWORD}"\nDB_PORT={box.port}\nDB_USER=hep\nDB_NAME=hep\nEND\n',
        name,
    )


USER_RECIPE = f"""
cd {UNITS}
mkdir -p ~/.config/systemd/user/
cp hook-event-processor.service ~/.config/systemd/user/
systemctl --user daemon-reload
systemctl --user enable hook-event-processor
systemctl --user start hook-event-processor
systemctl --user status hook-event-processor
"""


@pytest.mark.usefixtures("machine")
def test_the_printed_recipe_for_a_user_works(box: Box) -> None:
    """The same file in a user's manager, and the restart test of the original service as printed for it."""
    add_user(box, "tester")
    assert "active (running)" in box.shell(USER_RECIPE, "tester")
    event_id = insert(box, name="tester")
    await_processed(box, event_id)
    wait_for(lambda: box.messages(f"EVENT_ID={event_id}"), 5, "the run is in the journal")
    (entry,) = box.journal(f"EVENT_ID={event_id}")
    assert entry["_SYSTEMD_USER_UNIT"] == f"{SERVICE}.service"
    shown = box.shell(
        "pkill -9 -f hook_event_processor\nsleep 5\nsystemctl --user status hook-event-processor", "tester"
    )
    assert "active (running)" in shown
    pid = box.shell(f"systemctl --user show -P MainPID {SERVICE}", "tester").strip()
    assert_shielded(box, pid)
    box.shell(f"systemctl --user stop {SERVICE}", "tester")


@pytest.mark.usefixtures("machine")
def test_a_user_who_may_not_make_namespaces_needs_a_drop_in(box: Box) -> None:
    box.write(f"{SYSTEM}/user@.service.d/test.conf", "[Service]\nRestrictNamespaces=~user\n")
    box.run("systemctl", "daemon-reload")
    add_user(box, "walled")
    shown = box.shell(f"({USER_RECIPE}) || systemctl --user show -P ExecMainStatus {SERVICE}", "walled")
    assert shown.splitlines()[-1] == "217"
    shown = box.shell(
        f"mkdir -p ~/.config/systemd/user/{SERVICE}.service.d\n"
        f"cp {UNITS}/no-user-namespaces.conf ~/.config/systemd/user/{SERVICE}.service.d/\n"
        "systemctl --user daemon-reload\n"
        f"systemctl --user restart {SERVICE}\n"
        f"systemctl --user status {SERVICE}\n",
        "walled",
    )
    assert "active (running)" in shown
    await_processed(box, insert(box))
    box.shell(f"systemctl --user stop {SERVICE}", "walled")


def assert_shielded(box: Box, pid: str) -> None:
    """What the unit promises is enforced on this process, not passed over."""
    status = box.run("cat", f"/proc/{pid}/status")
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    inside = ["nsenter", "--target", pid, "--mount", "--"]
    assert box.status(*inside, "touch", "/etc/hep-was-here") != 0
    assert box.run(*inside, "ls", "-A", "/tmp") == ""
    assert INSTALLED in box.run(*inside, "ls", "-d", INSTALLED)


def test_the_service_is_shielded(box: Box, unit: str) -> None:
    (pid,) = box.properties("MainPID")
    assert_shielded(box, pid)


def test_the_units_limits_are_in_force(box: Box, unit: str) -> None:
    limits = {
        "Restart": "on-failure",
        "RestartUSec": "1s",
        "StartLimitIntervalUSec": "5min",
        "StartLimitBurst": "5",
        "MemoryMax": str(512 * 1024 * 1024),
        "CPUQuotaPerSecUSec": "500ms",
        "OOMPolicy": "continue",
        "TimeoutStopUSec": "30s",
        "NotifyAccess": "main",
    }
    assert dict(zip(limits, box.properties(*limits), strict=True)) == limits


def test_five_failures_within_five_minutes_are_enough(box: Box, unit: str) -> None:
    box.write(f"{SYSTEM}/{SERVICE}.service.d/fail.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "stop", SERVICE)
    box.run("systemctl", "reset-failed")
    box.run("systemctl", "start", SERVICE, check=False)
    wait_for(lambda: box.properties("ActiveState") == ["failed"], 20, "systemd gives up")
    assert box.properties("NRestarts") == ["5"]
    box.run("rm", f"{SYSTEM}/{SERVICE}.service.d/fail.conf")


@pytest.fixture
def idler(box: Box, unit: str) -> Iterator[str]:
    """An enabled instance that does nothing but run, by a drop-in that comes last: it starts at once."""
    name = f"{unit}@idler.service"
    idle = "[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep infinity\nWatchdogSec=0\nRestartSec=100ms\n"
    box.write(f"{SYSTEM}/{name}.d/zz.conf", idle)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "enable", "--now", name)
    yield name
    box.run("systemctl", "disable", "--now", name)
    box.run("rm", "-r", f"{SYSTEM}/{name}.d")
    box.run("systemctl", "daemon-reload")


def test_the_doctor_finds_what_is_wrong_with_units(box: Box, idler: str) -> None:
    def findings(*options: str) -> dict[str, list[str]]:
        """The commands that mend what is found, by its kind."""
        done = box.finished(f"{INSTALLED}/bin/hep", "doctor", "units", "--format", "json", *options)
        found = json.loads(done.stdout)["findings"]
        assert done.returncode == bool(found)
        return {one["kind"]: one["mend"] for one in found if idler in one["what"]}

    def mends(kind: str, command: int = 0) -> None:
        """It is found, alone, the printed command mends it, and it is gone."""
        found = findings()
        assert found.keys() == {kind}
        box.run("bash", "-euc", found[kind][command])
        assert findings() == {}

    assert findings() == {}
    box.run("systemctl", "stop", idler)
    mends("unit-stopped")

    box.write(f"{SYSTEM}/{idler}.d/small.conf", "[Service]\nMemoryMax=200M\n")
    box.run("bash", "-euc", findings()["unit-stale"][0])
    found = findings()
    assert found.keys() == {"unit-memory"}
    # As somebody writes it whom `systemctl edit` asks.
    box.write(f"{SYSTEM}/{idler}.d/small.conf", found["unit-memory"][0].split("# ")[1].replace(" ", "\n") + "\n")
    box.run("systemctl", "daemon-reload")
    assert findings() == {}

    settings = "/etc/hook-event-processor/environment.idler"
    box.write(settings, "WORKERS=100000\n")
    assert findings() == {}  # it takes no such number
    box.write(settings, "WORKERS=10000\n")
    assert findings().keys() == {"unit-files"}
    box.run("rm", settings)

    for _ in range(3):
        (pid,) = box.properties("MainPID", unit=idler)
        box.run("systemctl", "kill", "--signal=SIGKILL", idler)
        await_restart(box, pid, 20, idler)
    mends("unit-restarts", 1)

    drop_in = f"{SYSTEM}/{idler}.d/zzz.conf"
    box.write(drop_in, "[Service]\nUser=root\nLimitNOFILE=300\nExecStart=\nExecStart=/bin/false\n")
    assert findings("--fix").keys() == {"unit-files", "unit-root"}  # "unit-stale" is mended
    box.run("systemctl", "restart", idler, check=False)
    wait_for(lambda: box.properties("ActiveState", unit=idler) == ["failed"], 20, "systemd gives up")
    assert findings().keys() == {"unit-failed", "unit-files", "unit-root"}
    box.run("rm", drop_in)
    box.run("systemctl", "daemon-reload")
    mends("unit-failed", 1)
