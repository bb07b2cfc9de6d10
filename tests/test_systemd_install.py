"""`hep install` and `hep uninstall` under a real systemd: what they put in place, what runs there, and what is left."""

from __future__ import annotations

import json
import os
import re
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

HEP = f"{INSTALLED}/bin/hep"
SYSTEM = "/etc/systemd/system"
ENVIRONMENT = "/etc/hook-event-processor/environment"
SHELTERED = (f"{SERVICE}.service", f"{SERVICE}@1.service", "hook-emit@a.b:c.service", "hook-retention.service")
WATCHERS = ("hook-watcher.service", "hook-watcher@cpu.service")


def install(box: Box, *arguments: str) -> list[str]:
    """The lines that `hep install` prints; the database is given, and root's umask is a tight one."""
    tight = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    return box.run(*tight, "env", f"DATABASE_URL={box.url}", HEP, "install", *arguments).splitlines()


HOME = "/var/lib/hook-event-processor"
_REMOVED = "20000 0 0"  # how an overlay marks what the host has, and the box no longer


def scene(box: Box) -> dict[str, object]:
    """All that an installation could leave: files, accounts, and what systemd knows."""
    # The program itself, the database's data, what tests write, and what every machine writes now and then.
    beside = (
        "/opt",
        str(REPOSITORY),
        "/root",
        "/tmp",
        "/var/tmp",
        "/var/log",
        "/var/cache",
        "/var/lib/hep-database",
        "/var/lib/postgresql",
        "/var/lib/systemd",
    )
    found = box.files(*beside)
    accounts = (
        "/etc/passwd",
        "/etc/shadow",
        "/etc/group",
        "/etc/gshadow",
        "/etc/subuid",
        "/etc/subgid",
        "/etc/.pwd.lock",
    )
    return {
        "files": {
            path: what
            for path, what in found.items()
            if path.rstrip("-") not in accounts and not (path.startswith(HOME) and what.startswith(_REMOVED))
        },
        "accounts": box.run("getent", "passwd") + box.run("getent", "group"),
        "unit files": box.run("systemctl", "list-unit-files", "--plain", "--no-legend"),
        "stamps": box.run("sh", "-c", "ls /var/lib/systemd/timers | grep hook || true"),
    }


@pytest.fixture(scope="module")
def bare(box: Box) -> dict[str, object]:
    """The machine without anything that other tests put in place, as it was before it was installed here."""
    box.clear()
    return scene(box)


@pytest.fixture(scope="module")
def installed(box: Box, bare: dict[str, object]) -> Iterator[Box]:
    """The machine with an installation that has a password, as a credential."""
    install(box)
    yield box
    box.run(HEP, "uninstall", "--purge")


@pytest.fixture
def kept(installed: Box) -> Iterator[Box]:
    """The installation, with its settings as before and the processor running when the test ends."""
    before = installed.run("cat", ENVIRONMENT)
    yield installed
    installed.write(ENVIRONMENT, before, 0o600)
    installed.shell("rm -f /etc/systemd/system/hook-*.d/test.conf")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "reset-failed")
    installed.run("systemctl", "restart", SERVICE)


def unit(box: Box, name: str, text: str) -> None:
    box.write(f"{SYSTEM}/{name}", text)
    box.run("systemctl", "daemon-reload")


def event(box: Box, condition: str) -> str:
    """The payload of the newest event that matches."""
    return box.psql(f"SELECT payload FROM hook_events WHERE {condition} ORDER BY seq DESC LIMIT 1")


def hook(box: Box, action: str, *command: str) -> None:
    """Add a hook for `host.ACTION` that runs a program, and fails as that does."""
    arguments = ", ".join(map(json.dumps, command))
    box.write(
        f"/root/{action}.lua",
        f'return {{ name = "runs-{action}", event_type = "host.{action}", execute = function()\n'
        f'local result, reason = require("exec").run({{ {arguments} }})\n'
        "if not result then return false, reason end\n"
        "return result.success, result.stderr\nend }\n",
    )
    box.hep("hook", "add", f"/root/{action}.lua")


def outcome(box: Box, action: str) -> tuple[str, str]:
    """Whether the hook of a new event `host.ACTION` succeeded, and what it says."""
    event_id = str(uuid.uuid4())
    box.psql(f"INSERT INTO hook_events (id, source, action) VALUES ('{event_id}', 'host', '{action}')")
    said = "coalesce(output, '') || coalesce(error, '')"
    query = f"SELECT success, {said} FROM event_hook_executions WHERE event_id = '{event_id}'"
    # Longer than a run may take: polkit can leave a request without an answer while it reads its rules anew.
    wait_for(lambda: box.psql(query), 45, f"the hook of {action} has run")
    success, _, said = box.psql(query).partition("|")
    return success, said


def test_nothing_is_touched_without_a_database_a_right_or_a_systemd(box: Box, bare: dict[str, object]) -> None:
    assert "no database is named" in refusal(box, HEP, "install")
    assert "no database is named" in refusal(box, HEP, "install", "--dry-run")
    box.run("useradd", "--create-home", "nobodys")
    as_user = ["runuser", "-u", "nobodys", "--", "env", "-C", "/"]
    assert "takes root" in refusal(box, *as_user, HEP, "install", "--system")
    assert "no manager of yours runs" in refusal(box, *as_user, HEP, "install")
    box.run("userdel", "--remove", "nobodys")
    hide = "mount -t tmpfs none /run/systemd && exec"
    assert "no systemd runs here" in refusal(box, "unshare", "--mount", "sh", "-c", f"{hide} {HEP} install")
    box.run("mkdir", "-p", f"{HOME}/postgresql")
    assert "embedded PostgreSQL" in refusal(box, "env", f"DATABASE_URL={box.url}", HEP, "install")
    box.run("rm", "-r", HOME)
    dry = install(box, "--dry-run")
    assert dry
    assert all(line.startswith("would ") for line in dry)
    assert scene(box) == bare


def test_a_program_that_the_units_cannot_run_is_refused(box: Box, bare: dict[str, object]) -> None:
    given = ("env", f"DATABASE_URL={box.url}")
    # Its package lies where all can see it, as that of a checkout does.
    box.shell(
        "/usr/bin/python3 -m venv --without-pip hidden\n"
        f"ls -d {INSTALLED}/lib/python3*/site-packages > $(ls -d hidden/lib/python3*/site-packages)/package.pth"
    )
    said = refusal(box, *given, "/root/hidden/bin/python3", "-m", "hook_event_processor", "install")
    assert "the service cannot see /root/hidden/bin" in said
    box.run("rm", "-r", "/root/hidden")
    box.run("chmod", "700", f"{INSTALLED}/bin")
    said = refusal(box, *given, HEP, "install")
    assert f"cannot enter {INSTALLED}/bin: run 'chmod -R a+rX {INSTALLED}'" in said
    box.run("chmod", "755", f"{INSTALLED}/bin")
    assert scene(box) == bare


def refusal(box: Box, *command: str) -> str:
    """The one line of a command that must fail."""
    finished = box.finished(*command)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.count("\n") == 1, finished.stderr
    return finished.stderr


def test_a_second_installation_changes_nothing(installed: Box) -> None:
    before = scene(installed)
    (pid,) = installed.properties("MainPID")
    lines = install(installed)
    assert [line for line in lines if line.startswith(("write", "link", "make"))] == []
    assert installed.properties("MainPID") == [pid]
    done = installed.finished("env", "DATABASE_URL=postgresql:///another", HEP, "install")
    assert "hook-event-processor.database_url stays, and names another database" in done.stderr
    assert scene(installed) == before


def test_an_installation_that_failed_is_finished_by_the_next(kept: Box) -> None:
    """What it had written is taken over by a restart, though nothing is left to write."""
    failing, written = "/usr/local/bin/systemd-tmpfiles", f"/usr/local/lib/systemd/system/{SERVICE}.service"
    (pid,) = kept.properties("MainPID")
    kept.write(failing, "#!/bin/sh\nexit 1\n", 0o755)
    kept.shell(f"echo '# of an older version' >> {written}")
    failed = kept.finished("env", f"PATH=/usr/local/bin:{kept.run('printenv', 'PATH').strip()}", HEP, "install")
    kept.run("rm", failing)
    assert failed.returncode != 0
    assert f"write {written}" in failed.stdout
    assert kept.properties("MainPID") == [pid]
    assert any(line.startswith("run systemctl restart ") for line in install(kept))
    assert kept.properties("MainPID") != [pid]
    assert any(line.startswith("run systemctl start ") for line in install(kept))


def test_what_is_for_everybody_can_be_read_by_others(installed: Box) -> None:
    files = ("man/man1/hep.1", "man/man8/hook-event-processor.8", "bash-completion/completions/hep")
    for file in files:
        assert installed.status("runuser", "-u", "nobody", "--", "test", "-r", f"/usr/local/share/{file}") == 0, file


def test_the_password_is_a_credential_and_the_settings_are_roots_alone(installed: Box) -> None:
    assert "DATABASE_URL=" not in re.sub("^#.*", "", installed.run("cat", ENVIRONMENT), flags=re.MULTILINE)
    shown = installed.run("stat", "-c", "%a %U", ENVIRONMENT, "/etc/credstore/hook-event-processor.database_url")
    assert shown.split() == ["600", "root", "600", "root"]
    (pid,) = installed.properties("MainPID")
    assert PASSWORD not in installed.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")


def test_the_processor_runs_as_its_account_and_tells_backlog_and_rate(installed: Box) -> None:
    (pid,) = installed.properties("MainPID")
    assert installed.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "hep"
    wanted = re.compile(r"processing: [\d.]+ events/s, backlog [\d,]+\+?; \d+ processed, \d+ failed; 0 of 100 workers")
    wait_for(lambda: wanted.match(installed.properties("StatusText")[0]), 10, "the status tells")


def test_the_units_are_right_and_well_shielded(installed: Box) -> None:
    units = installed.shell("ls -d /usr/local/lib/systemd/system/hook-*").split()
    assert installed.run("systemd-analyze", "verify", *(path for path in units if not path.endswith(".d"))) == ""
    for name, limit in {**dict.fromkeys(SHELTERED, 2.0), **dict.fromkeys(WATCHERS, 2.6)}.items():
        rated = re.search(r"exposure level for \S+ ([\d.]+)", installed.run("systemd-analyze", "security", name))
        assert rated, name
        assert float(rated[1]) <= limit, name


@pytest.mark.parametrize(
    "name", [f"{SERVICE}.service", f"{SERVICE}@.service", "hook-emit@.service", "hook-retention.service"]
)
def test_the_units_are_well_shielded_without_their_drop_ins(installed: Box, name: str) -> None:
    rated = installed.run("systemd-analyze", "security", "--offline=true", str(UNITS / name))
    found = re.search(r"exposure level for \S+ ([\d.]+)", rated)
    assert found
    assert float(found[1]) <= 2.0


FAILING = """
[Unit]
OnFailure=hook-emit@service.failed:%n.service
[Service]
Type=oneshot
ExecStart=sh -c "echo one; echo two >&2; exit 3"
"""


@pytest.mark.parametrize("name", ["backup.service", "odd@a-b\\x2dc.service"])
def test_a_unit_that_fails_is_an_event_with_its_result_and_last_lines(installed: Box, name: str) -> None:
    unit(installed, re.sub("@.*", "@.service", name), FAILING)
    assert installed.status("systemctl", "start", name) != 0
    condition = f"source = 'service' AND action = 'failed' AND resource_id = '{name}'"
    wait_for(lambda: event(installed, condition), 10, "the event is there")
    told = json.loads(event(installed, condition))
    assert {key: told[key] for key in ("service", "result", "code", "exit_status", "signal", "new_status")} == {
        "service": name,
        "result": "exit-code",
        "code": "exited",
        "exit_status": 3,
        "signal": None,
        "new_status": "failed",
    }
    assert told["lines"].index("one") < told["lines"].index("two")
    assert any("Failed with result 'exit-code'" in line for line in told["lines"])
    installed.run("systemctl", "reset-failed", name)


def test_an_event_that_finds_no_database_is_an_error_in_the_journal_to_publish_later(kept: Box) -> None:
    unit(kept, "lost.service", FAILING)
    short = "[Service]\nExecStart=\nExecStart=python3 -I -m hook_event_processor events emit-unit --for 1s -- %i\n"
    unit(kept, "hook-emit@.service.d/test.conf", short)
    kept.run("systemctl", "stop", "postgresql")
    kept.status("systemctl", "start", "lost")
    emit = "hook-emit@service.failed:lost.service.service"
    wait_for(lambda: kept.properties("ActiveState", unit=emit) == ["failed"], 20, "it has given up")
    kept.run("systemctl", "start", "postgresql")
    wait_for(lambda: kept.answers(), 20, "PostgreSQL answers")
    as_printed = "journalctl -u 'hook-emit@*' -p err -o cat --output-fields=EVENT --since -1h > /root/lost.jsonl"
    kept.shell(as_printed)
    kept.hep("events", "emit", "--jsonl", "/root/lost.jsonl")
    kept.hep("events", "emit", "--jsonl", "/root/lost.jsonl")
    query = "SELECT count(*), min(payload->>'result') FROM hook_events WHERE resource_id = 'lost.service'"
    assert kept.psql(query) == "1|exit-code"


def test_the_example_tells_of_every_unit_that_fails_but_of_itself(kept: Box) -> None:
    example = UNITS / "examples/tell-failures.conf"
    kept.run("install", "-D", "-m", "644", str(example), f"{SYSTEM}/service.d/tell-failures.conf")
    leave_out = re.findall(r"^#   (.+)$", example.read_text(), re.MULTILINE)
    assert len(leave_out) == 2
    kept.shell("\n".join(leave_out))
    unit(kept, "any.service", "[Service]\nType=oneshot\nExecStart=false\n")
    emit = "hook-emit@service.failed:any.service.service"
    assert kept.properties("OnFailure", unit="any.service") == [emit]
    assert kept.properties("OnFailure", unit=emit) == [""]
    kept.status("systemctl", "start", "any")
    wait_for(lambda: event(kept, "resource_id = 'any.service'"), 10, "the event is there")
    kept.shell(f"rm -r {SYSTEM}/service.d {SYSTEM}/any.service {SYSTEM}/hook-emit@.service.d; systemctl daemon-reload")


def test_the_retention_timer_removes_what_is_old(kept: Box) -> None:
    kept.psql(
        "INSERT INTO hook_events (source, action, processed, created_at, processed_at) VALUES"
        " ('host', 'old', TRUE, now() - interval '32 days', now() - interval '31 days'),"
        " ('host', 'young', TRUE, now() - interval '30 days', now() - interval '29 days')"
    )
    archive = f"RETENTION_ARCHIVE={HOME}/archive\n"
    kept.write(ENVIRONMENT, kept.run("cat", ENVIRONMENT) + archive, 0o600)
    assert kept.properties("ActiveState", unit="hook-retention.timer") == ["active"]
    often = "[Timer]\nOnCalendar=*:*:0/1\nRandomizedDelaySec=0\nAccuracySec=1ms\n"
    unit(kept, "hook-retention.timer.d/test.conf", often)
    kept.run("systemctl", "restart", "hook-retention.timer")
    query = "SELECT string_agg(action, ',') FROM hook_events WHERE action IN ('old', 'young')"
    wait_for(lambda: kept.psql(query) == "young", 20, "the old event is gone")
    events = kept.shell(f'zcat {HOME}/archive/*.jsonl.gz | grep \'"action":"old"\'').splitlines()
    assert len(events) == 1
    assert kept.shell(f"stat -c '%U %a' {HOME}/archive {HOME}/archive/*").split()[:4] == ["hep", "700", "hep", "600"]
    kept.shell("rm -r /etc/systemd/system/hook-retention.timer.d; systemctl daemon-reload")
    kept.run("systemctl", "restart", "hook-retention.timer")


def test_a_reload_takes_over_what_can_change_and_names_what_cannot(kept: Box) -> None:
    hook(kept, "run", "true")
    assert outcome(kept, "run")[0] == "f"
    (pid,) = kept.properties("MainPID")
    before = kept.run("cat", ENVIRONMENT)
    kept.write(ENVIRONMENT, f"{before}HOOK_EXEC=true\nLOG_LEVEL=DEBUG\nWORKERS=7\n", 0o600)
    kept.run("systemctl", "reload", SERVICE)
    matches = [f"_SYSTEMD_UNIT={SERVICE}.service", f"_PID={pid}"]
    wait_for(lambda: any("changed: HOOK_EXEC, LOG_LEVEL" in line for line in kept.messages(*matches)), 10, "taken")
    assert any("take a restart: WORKERS" in line for line in kept.messages(*matches))
    assert outcome(kept, "run")[0] == "t"
    assert kept.properties("MainPID", "ActiveState") == [pid, "active"]


@pytest.mark.parametrize("name", [f"{SERVICE}.service", "hook-watcher.service"])
def test_the_manager_sees_a_signal_to_read_settings_again_as_a_reload(kept: Box, name: str) -> None:
    install(kept, "--watchers", "all")
    kept.run("systemctl", "log-level", "debug")
    kept.run("systemctl", "kill", "--kill-who=main", "--signal=HUP", name)
    steps = ["Changed running -> reload", "(READY=1)", "Changed reload -> running"]

    def seen() -> list[str]:
        """Which of the steps the manager tells of, in the order of the journal."""
        return [step for line in kept.messages("_PID=1", f"UNIT={name}") for step in steps if step in line]

    wait_for(lambda: seen()[-len(steps) :] == steps, 10, "it has been read again")
    kept.run("systemctl", "log-level", "info")
    install(kept, "--watchers", "none")


def test_a_wrong_setting_fails_the_reload_and_changes_nothing(kept: Box) -> None:
    (pid,) = kept.properties("MainPID")
    kept.write(ENVIRONMENT, f"{kept.run('cat', ENVIRONMENT)}WORKERS=many\n", 0o600)
    assert kept.status("systemctl", "reload", SERVICE) != 0
    assert kept.properties("MainPID", "ActiveState") == [pid, "active"]
    matches = [f"_SYSTEMD_UNIT={SERVICE}.service", "SYSLOG_IDENTIFIER=hook-event-processor"]
    wait_for(lambda: any("WORKERS is 'many'" in line for line in kept.messages(*matches)), 5, "the journal tells")


def with_exec(box: Box, drop_in: str = "") -> None:
    """Let hooks run every program, and restart the processor with a drop-in of the examples."""
    box.write(ENVIRONMENT, f"{box.run('cat', ENVIRONMENT)}HOOK_EXEC=on\n", 0o600)
    if drop_in:
        text = (UNITS / "examples" / drop_in).read_text()
        unit(box, f"{SERVICE}.service.d/test.conf", text)
    box.run("systemctl", "reset-failed")
    box.run("systemctl", "restart", SERVICE)


JIT = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"


def test_a_program_with_a_jit_needs_its_drop_in(kept: Box) -> None:
    hook(kept, "jit", "/usr/bin/python3", "-c", JIT)
    with_exec(kept)
    assert outcome(kept, "jit")[0] == "f"
    with_exec(kept, "exec-jit.conf")
    assert outcome(kept, "jit")[0] == "t"


def test_a_hook_may_write_where_its_drop_in_says(kept: Box) -> None:
    kept.run("install", "-d", "-o", "hep", "-g", "hep", "/srv/reports")
    hook(kept, "report", "touch", "/srv/reports/today")
    with_exec(kept)
    assert outcome(kept, "report")[0] == "f"
    with_exec(kept, "exec-files.conf")
    assert outcome(kept, "report")[0] == "t"


def test_a_hook_s_program_does_not_reach_what_the_watchers_go_by(kept: Box) -> None:
    state = "/var/lib/hook-event-processor"
    hook(kept, "peek", "ls", f"{state}/watchers")
    hook(kept, "look", "ls", f"{state}/files")
    with_exec(kept)
    assert outcome(kept, "look")[0] == "t"
    success, said = outcome(kept, "peek")
    assert (success, "Permission denied" in said) == ("f", True)


def allow(box: Box, example: str) -> str:
    """Put an example's rule in place; returns where. polkit starts anew: it may miss a file on a busy machine."""
    rules = f"/etc/polkit-1/rules.d/50-hook-{example}"
    box.run("install", "-m", "644", str(UNITS / "examples" / example), rules)
    box.run("systemctl", "restart", "polkit")
    return rules


def test_a_hook_may_restart_the_one_unit_that_polkit_lets_it(kept: Box) -> None:
    for name in ("app", "other"):
        unit(kept, f"{name}.service", "[Service]\nExecStart=sleep infinity\n")
        kept.run("systemctl", "start", name)
        hook(kept, name, "systemctl", "restart", name)
    (before,) = kept.properties("MainPID", unit="app")
    with_exec(kept)
    assert outcome(kept, "app")[0] == "f"
    rules = allow(kept, "exec-restart-app.rules")
    wait_for(lambda: outcome(kept, "app")[0] == "t", 30, "polkit has read the rule")
    assert kept.properties("MainPID", unit="app") != [before]
    assert outcome(kept, "other")[0] == "f"
    kept.run("rm", rules)


def test_a_hook_may_block_an_address_by_a_unit(kept: Box) -> None:
    """nft, which this host may lack, is a script that says what it was called with."""
    kept.write("/usr/local/sbin/nft", '#!/bin/sh\necho "$@"\n', 0o755)
    kept.run("install", "-m", "644", str(UNITS / "examples/block-ipv4@.service"), "/etc/systemd/system/")
    rules = allow(kept, "block-address.rules")
    kept.run("systemctl", "daemon-reload")
    hook(kept, "block", "systemctl", "start", "block-ipv4@203.0.113.7.service")
    hook(kept, "evil", "systemctl", "start", "block-ipv4@203.0.113.7%20x.service")
    with_exec(kept)
    wait_for(lambda: outcome(kept, "block")[0] == "t", 30, "polkit has read the rule")
    assert outcome(kept, "evil")[0] == "f"
    said = kept.run("journalctl", "--output=cat", "--unit=block-ipv4@203.0.113.7.service")
    assert "add element inet hooks blocked4 { 203.0.113.7 timeout 1h }" in said
    kept.run("rm", rules, "/usr/local/sbin/nft", "/etc/systemd/system/block-ipv4@.service")


def printed_function() -> str:
    """The function `hep` of docs/operations.md."""
    page = (REPOSITORY / "docs/operations.md").read_text()
    function = re.search(r"^hep\(\) \{\n.*?^\}\n", page, re.MULTILINE | re.DOTALL)
    assert function
    return function[0]


def encrypt(box: Box, name: str) -> None:
    """Put a credential in place of the plain one, encrypted to the machine."""
    plain, encrypted = (f"/etc/credstore{ending}/hook-event-processor.{name}" for ending in ("", ".encrypted"))
    box.shell(
        "install -d -m 700 /etc/credstore.encrypted\n"
        f"systemd-creds encrypt --name={name} {plain} {encrypted}\n"
        f"rm {plain}\n"
    )


def test_the_printed_function_speaks_to_the_services_database(installed: Box) -> None:
    # A file of root's alone, as in Debian's /root.
    file = """install -d -m 700 own; cd own; echo '{"source": "host", "action": "printed"}' > lost.jsonl"""
    said = installed.shell(
        f"{printed_function()}\n{file}\nhep db check\nhep events emit --jsonl lost.jsonl; rm -r ../own"
    )
    assert "published: 1 event" in said
    assert installed.psql("SELECT count(*) FROM hook_events WHERE action = 'printed'") == "1"


def test_the_printed_questions_to_systemd_and_its_journal_are_understood(installed: Box) -> None:
    page = (REPOSITORY / "docs/operations.md").read_text()
    monitoring = page.partition("\n## Monitoring\n")[2].partition("\n## ")[0]
    lines = re.findall(r"`((?:journalctl|systemctl) (?!--user)[^`]+)`", monitoring)
    assert len(lines) >= 20
    for line in lines:
        # What follows the journal is ended; 1 is that nothing was found.
        asked = installed.finished("env", "SYSTEMD_PAGER=cat", "timeout", "5", "bash", "-c", line)
        assert asked.returncode in ((124,) if " -f " in line else (0, 1)), line
        # The second: no unit that matches has written anything yet.
        assert asked.stderr in ("", "Failed to add filter for units: No data available\n"), line


def test_the_manual_is_found_and_clean(installed: Box) -> None:
    assert "take events from PostgreSQL" in installed.run("man", "-k", "hep")
    pages = installed.shell("cd /usr/local/share/man; ls man?/*").split()
    assert {"man1/hep.1", "man1/hep-hook.1", "man5/hook.lua.5", "man8/hook-event-processor.8"} <= set(pages)
    for page in pages:
        path = f"/usr/local/share/man/{page}"
        finished = installed.finished("env", "LC_ALL=C.UTF-8", "man", "--warnings", "-Tutf8", "-Z", path)
        assert (finished.returncode, finished.stderr) == (0, ""), page


def test_bash_completes_commands(installed: Box) -> None:
    script = (
        "source /usr/local/share/bash-completion/completions/hep\n"
        "COMP_WORDS=(hep ev); COMP_CWORD=1; COMP_LINE='hep ev'; COMP_POINT=6\n"
        "$(complete -p hep | sed 's/.*-F \\([^ ]*\\).*/\\1/') hep ev hep\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    assert installed.shell(script).split() == ["events"]


@pytest.mark.parametrize(
    ("shell", "path", "asked", "answer"),
    [
        (
            "zsh",
            "/usr/local/share/zsh/site-functions/_hep",
            "autoload -U compinit; compinit -u -D; echo $_comps[hep]",
            "_hep",
        ),
        ("fish", "/etc/fish/completions/hep.fish", "complete -C 'hep ev'", "events"),
    ],
)
def test_other_shells_find_their_completions(installed: Box, shell: str, path: str, asked: str, answer: str) -> None:
    """By themselves, as in a login over ssh, which has no XDG_DATA_DIRS."""
    if "CI" not in os.environ and installed.status("sh", "-c", f"command -v {shell}") != 0:
        pytest.skip(f"{shell} is not installed")
    finished = installed.finished(shell, "--no-execute" if shell == "fish" else "-n", path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert installed.run("env", "--unset=XDG_DATA_DIRS", shell, "-c", asked).split()[:1] == [answer]


def test_watchers_run_with_two_capabilities_and_no_more(installed: Box) -> None:
    lines = install(installed, "--watchers", "cpu,load")
    assert any("hook-watcher@cpu.service" in line for line in lines)
    name = "hook-watcher@cpu.service"
    wait_for(lambda: installed.properties("ActiveState", unit=name) == ["active"], 10, "the watchers run")
    (pid,) = installed.properties("MainPID", unit=name)
    status = installed.run("cat", f"/proc/{pid}/status")
    # CAP_DAC_READ_SEARCH is bit 2, CAP_SYS_PTRACE bit 19 (capability.h).
    assert re.search(rf"^CapBnd:\s+{(1 << 2) | (1 << 19):016x}$", status, re.MULTILINE)
    assert installed.run("stat", "-c", "%U", f"/proc/{pid}").strip() == "hep"
    unit(installed, f"{name}.d/override.conf", "[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\n")
    taken_away = installed.properties("CapabilityBoundingSet", "AmbientCapabilities", unit=name)
    installed.run("rm", "-r", f"{SYSTEM}/{name}.d")
    assert taken_away == ["", ""], "what `systemctl edit` says has the last word"
    install(installed, "--watchers", "none")
    assert installed.properties("ActiveState", unit=name) == ["inactive"]
    assert installed.status("systemctl", "is-enabled", name) != 0


def test_watchers_that_cannot_run_are_reported(installed: Box) -> None:
    """Somebody ran the command as root first: the account cannot write its store."""
    store = f"{HOME}/watchers/$(hostname).db"
    installed.shell(f"systemctl stop 'hook-watcher*'; rm -f {store}*; install -m 600 /dev/null {store}")
    said = installed.finished("env", f"DATABASE_URL={installed.url}", HEP, "install", "--watchers", "cpu")
    assert said.returncode == 1
    assert "hook-watcher@cpu.service does not run: hep: the watchers' store" in said.stderr
    installed.shell(f"rm {store}")
    install(installed, "--watchers", "none")


def test_a_reboot_brings_everything_back(installed: Box) -> None:
    install(installed, "--watchers", "all")
    names = [f"{SERVICE}.service", "hook-watcher.service", "hook-retention.timer", f"{SERVICE}.target"]
    installed.run("systemctl", "stop", SERVICE)
    installed.psql("INSERT INTO hook_events (source, action) VALUES ('host', 'before')")
    installed.reboot()
    for name in names:
        wait_for(lambda name=name: installed.properties("ActiveState", unit=name) == ["active"], 20, f"{name} runs")
    query = "SELECT processed FROM hook_events WHERE action = 'before'"
    wait_for(lambda: installed.answers() and installed.psql(query) == "t", 20, "what waited is processed")
    install(installed, "--watchers", "none")


def test_a_user_installs_for_themselves_and_takes_it_away(installed: Box) -> None:
    installed.run("useradd", "--create-home", "owner")
    installed.run("loginctl", "enable-linger", "owner")
    running = "systemctl --user is-system-running || true"
    wait_for(lambda: "running" in installed.shell(running, "owner"), 20, "a user manager")
    installed.shell("mkdir -p ~/.config ~/.local/share ~/.local/bin", "owner")
    listing = "find ~ -printf '%p %m %l\\n' | sort; systemctl --user list-unit-files --plain --no-legend"
    before = installed.shell(listing, "owner")
    said = installed.shell(f"DATABASE_URL='{installed.url}' {HEP} install --user --watchers cpu", "owner")
    assert "processing" in said.splitlines()[-1]
    query = "SELECT count(*) FROM hook_processors WHERE state = 'running'"
    wait_for(lambda: installed.psql(query) >= "2", 10, "two processors run")
    unit(installed, "../../xdg/systemd/user/fails.service", FAILING)
    installed.shell("systemctl --user daemon-reload; systemctl --user start fails || true", "owner")
    wait_for(lambda: event(installed, "resource_id = 'fails.service'"), 10, "an event of a user's unit")
    assert json.loads(event(installed, "resource_id = 'fails.service'"))["exit_status"] == 3
    installed.run("rm", "/etc/xdg/systemd/user/fails.service")
    installed.shell(f"{HEP} uninstall --user --purge", "owner")
    assert not installed.shell("systemctl --user list-units --all --plain --no-legend 'hook*' 'app-hook*'", "owner")
    after = installed.shell(listing, "owner")
    assert [line for line in after.splitlines() if "fails" not in line] == before.splitlines()
    installed.run("loginctl", "disable-linger", "owner")
    installed.run("loginctl", "terminate-user", "owner", check=False)
    wait_for(lambda: installed.status("userdel", "--remove", "owner") in (0, 6), 10, "the user is gone")


def test_uninstall_keeps_the_data_and_purge_leaves_the_machine_as_it_was(box: Box, bare: dict[str, object]) -> None:
    """The last one: it takes the installation away that the others share."""
    box.shell(
        "rm -f /root/*.lua /root/*.jsonl /etc/systemd/system/{app,other,backup,lost,odd@}.service; rm -rf /srv/reports"
    )
    box.shell("systemctl stop app other 2>/dev/null || true; rm -rf /etc/polkit-1/rules.d/50-hook*")
    install(box, "--watchers", "cpu,load")
    said = box.finished(HEP, "uninstall")
    assert said.returncode == 0
    assert f"{os.path.dirname(ENVIRONMENT)} stays" in said.stderr
    assert box.status("test", "-e", ENVIRONMENT) == 0
    assert box.properties("LoadState") == ["not-found"]
    assert box.status("sh", "-c", f"ls {SYSTEM}/*.wants/hook-*") != 0, "no instance is enabled any more"
    encrypt(box, "database_url")
    box.run(HEP, "install")
    assert box.properties("ActiveState") == ["active"], "the settings that stayed are enough"
    box.run("systemctl", "start", "hook-retention")
    assert "the database's schema" in box.shell(f"{printed_function()}\nhep db check")
    # While it waits to be started again.
    box.run("systemctl", "kill", "--signal=KILL", SERVICE)
    box.run(HEP, "uninstall", "--purge")
    assert "hook" not in box.run("ls", "/run")
    assert not box.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "hook*", "system-hook*")
    after = scene(box)
    for what, before in bare.items():
        assert after[what] == before, what
