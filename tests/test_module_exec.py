"""exec.run: what is run and what is not, what comes back, and that nothing outlives its time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from chunks import error, event, execute, library, outcomes, output, runtime
from waiting import wait_for

from hook_event_processor import child, strays
from hook_event_processor.child import Command
from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program

_EXEC = 'local exec, json = require("exec"), require("json")\n'
# Says of a result with a cut output how large it is, and how it ends.
_SIZES = """
local at = r.stdout:find("\\n[", 1, true)
return true, table.concat({ r.exit_code, tostring(r.timed_out), at - 1, r.stdout:sub(at + 1), #r.stderr }, " ")
"""
# Starts a child that leaves session and process group, ignores SIGTERM and
# keeps the pipes; says its number, and waits.
_RUNAWAY = "setsid sh -c 'trap \"\" TERM HUP; echo $$ > {0}; while :; do sleep 0.05; done' & trap '' TERM; wait"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Reads a process's number from a file of that name, once it is there; none of them survives the test."""
    seen: list[int] = []

    def number(name: str) -> int:
        deadline = time.monotonic() + 10
        while not (path := tmp_path / name).exists() or not path.read_text().strip():
            assert time.monotonic() < deadline, f"{name} was not written"
            time.sleep(0.01)
        seen.append(int(path.read_text()))
        return seen[-1]

    yield number
    for process in seen:
        if _is_alive(process):
            os.kill(process, signal.SIGKILL)


def _is_alive(number: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return False


def _zombies() -> list[int]:
    # Not by psutil, which reads what ProcSubset=pid hides.
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.append(int(directory.name))
    return found


def _dies(number: int) -> bool:
    deadline = time.monotonic() + 2
    while _is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _is_alive(number)


def _run(body: str, *events: Any, granted: Any = True, **options: Any) -> Any:
    return execute(_EXEC + body, *events, within=runtime(library=library(exec=granted)), **options)


def _result(arguments: str, granted: Any = True, **options: Any) -> dict[str, Any]:
    """What exec.run returned for these arguments, as they are written in Lua."""
    found = json.loads(output(_run(f"return true, json.encode(exec.run({arguments}))", granted=granted, **options)))
    assert isinstance(found, dict)
    return found


def _refused(arguments: str, granted: Any = True) -> str:
    result = _run(f"exec.run({arguments})", granted=granted)
    assert outcomes(result) == [Outcome.FAILED]
    return error(result)


def _program(directory: Path, name: str, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_line_is_split_into_words_and_the_result_tells_all() -> None:
    found = _result("[[printf '%s/' one 'two three' \"four\"]]")
    assert found.pop("duration_ms") >= 0
    assert found == {"exit_code": 0, "stdout": "one/two three/four/", "stderr": "", "success": True, "timed_out": False}


@pytest.mark.parametrize(
    "words",
    [
        r'"a\$5 b" "c\`d" "e\\f\"g\h"',
        r"""a\$5 'b\$5' 'c\`d' e\`f "\\\$5" \\\$5""",
        r"""a"b\$"'c\$'d\ e "'\$'" '"\$"'""",
        "a \\\n b 'c\\\nd' \"e\\\nf\" g\\\nh",
    ],
)
def test_a_line_has_the_words_that_a_shell_finds_in_it(words: str) -> None:
    line = f"printf '%s/' {words}"
    shell = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert _result(f"[==[{line}]==]")["stdout"] == shell.stdout


def test_a_list_of_arguments_is_taken_as_it_is() -> None:
    assert _result("{'printf', '%s/', 'a b', '$HOME;', '*', 5, ''}")["stdout"] == "a b/$HOME;/*/5//"


def test_a_failed_program_says_so() -> None:
    found = _result("{'sh', '-c', 'echo why >&2; exit 3'}")
    assert (found["exit_code"], found["stderr"], found["success"]) == (3, "why\n", False)


def test_a_program_that_a_signal_killed_has_the_exit_code_of_a_shell() -> None:
    assert _result("{'sh', '-c', 'kill -SEGV $$'}")["exit_code"] == 128 + signal.SIGSEGV


def test_a_program_that_does_not_exist_is_nil_and_a_reason() -> None:
    assert output(_run("local r, why = exec.run('no-such-program') return true, tostring(r) .. ' ' .. why")) == (
        "nil there is no program no-such-program"
    )


def test_a_file_that_the_kernel_cannot_run_is_nil_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)
    found = output(_run(f"local r, why = exec.run('{path}') return true, tostring(r) .. ' ' .. why"))
    assert found == f"nil {path} cannot be run: Exec format error"


def test_it_runs_where_it_is_told_to(tmp_path: Path) -> None:
    assert _result(f"'pwd', {{cwd = '{tmp_path}'}}")["stdout"] == f"{tmp_path}\n"
    found = output(_run("local r, why = exec.run('pwd', {cwd = '/no/such'}) return true, why"))
    assert found == "there is no directory /no/such"


def test_bytes_go_in_and_come_out_as_they_are() -> None:
    body = "local all = {} for i = 0, 255 do all[#all + 1] = string.char(i) end local s = table.concat(all):rep(4000)\n"
    assert output(_run(body + "return true, tostring(exec.run('cat', {stdin = s}).stdout == s)")) == "true"


def test_a_program_that_does_not_read_its_input_does_not_wait_for_it() -> None:
    assert _result("'true', {stdin = ('x'):rep(3000000)}")["success"] is True
    assert _result("'cat'")["stdout"] == ""


def test_the_environment_is_path_home_lang_and_what_the_hook_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "DB_PASSWORD", "DATABASE_URL", "PGPASSWORD", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "not for children")
    found = _result("'env', {env = {COLOUR = 'blue', N = 3}}")["stdout"]
    names = dict(line.split("=", 1) for line in found.splitlines())
    assert set(names) == {"PATH", "HOME", "LANG", "COLOUR", "N", "HEP_RUN", "HEP_CAUSE"}
    assert (names["COLOUR"], names["N"]) == ("blue", "3")


def test_no_descriptor_and_no_blocked_signal_is_inherited() -> None:
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        command = Command("/bin/sh", [b"sh", b"-c", b"ls /proc/$$/fd"], None, {}, b"")
        end = time.perf_counter() + 10
        descriptors = child.run(command, end, end, threading.Event()).stdout.split()
        # Not by a shell: it has its own mind about signals.
        command = Command("/bin/grep", [b"grep", b"SigBlk", b"/proc/self/status"], None, {}, b"")
        mask = child.run(command, end, end, threading.Event()).stdout.split()
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(leak)
    assert descriptors == [b"0", b"1", b"2"]
    assert mask == [b"SigBlk:", b"0" * 16]


# A processor with a secret, whose hook runs a program that looks for it.
_LOOKING = """
import os, threading
from chunks import execute, library, output, runtime
paths = [f"/proc/{os.getpid()}/{name}" for name in ("environ", "fd/", "mem")]
hook = f'local r = require("exec").run({{"ls", "-l", "{paths[1]}"}}) ' \
    f'local s = require("exec").run({{"head", "-qc", "9", "{paths[0]}", "{paths[2]}"}}) ' \
    'return true, r.stdout .. r.stderr .. s.stdout .. s.stderr'
print(output(execute(hook, within=runtime(library=library(exec=True)))))
"""


def test_attack_reading_the_processors_own_environment_and_memory() -> None:
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    environment = {"DB_PASSWORD": "s3same", "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-B", "-c", _LOOKING]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True, **user)
    # Where ProtectProc= hides other users' processes, and one's own that may not be traced, they are not even there.
    refused = re.findall(
        r"^(?:ls|head): .*: (?:Permission denied|No such file or directory)$", found.stdout, re.MULTILINE
    )
    assert len(refused) == 3, found.stdout
    assert "s3same" not in found.stdout


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("echo one | cat", "|"),
        ("echo one; rm -rf x", ";"),
        ("sleep 9 &", "&"),
        ("true && false", "&"),
        ("echo > /tmp/x", ">"),
        ("cat < /etc/passwd", "<"),
        ("echo `id`", "`"),
        ("echo $(id)", "$("),
        ('echo "$(id)"', "$("),
        ('echo "`id`"', "`"),
        ("echo $HOME", "$H"),
        ("echo one\nid", "a line break"),
        ("echo 'a' \"b\" ;id", ";"),
    ],
)
def test_attack_a_line_with_a_shells_operators_is_refused_with_what_would_be_right(line: str, what: str) -> None:
    assert f'and {what} would take one: write exec.run({{"sh", "-c", "..."}})' in _refused(f"[[{line}]]")


@pytest.mark.parametrize(
    "line", ["echo 'a; $(id) | b'", 'echo "a; | b"', r"echo a\;\ \$HOME", 'echo "\\$(id)"', "echo 5$"]
)
def test_quoted_operators_are_meant_as_they_stand(line: str) -> None:
    assert _result(f"[==[{line}]==]")["success"] is True


def test_attack_arguments_from_an_event_start_nothing_of_their_own(tmp_path: Path) -> None:
    """The injection: a shell would run what the event's name holds."""
    owned = f"touch {tmp_path}/owned"
    name = f"x'; {owned}; echo '$({owned})`{owned}`\n&& {owned}"
    hostile = event(payload=json.dumps({"name": name}))
    found = output(_run("return true, exec.run({'printf', '%s', event.data.name}).stdout", hostile))
    assert found == name
    assert outcomes(_run("exec.run('printf %s ' .. event.data.name)", hostile)) == [Outcome.FAILED]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "exec.run takes a command, or a list of arguments, not a nil"),
        ("{}", "this one is empty"),
        ("'  '", "the line holds no word"),
        ("[[echo 'one]]", "cannot be split into words: no closing quotation"),
        ("{'echo', {}}", "argument 2 takes a string, not a table"),
        ("{'echo', 'a\\0b'}", "argument 2 holds a NUL byte"),
        ("'echo', 5", "takes a table of options, not a number"),
        ("'echo', {shell = true}", "unknown option shell; it takes cwd, env, stdin, timeout"),
        ("'echo', {cwd = 'here'}", "cwd takes an absolute path, not here"),
        ("'echo', {env = {['A=B'] = 'c'}}", "env takes names of letters, digits and _, not A=B"),
        ("'echo', {env = {A = 'b\\0C=d'}}", "env.A holds a NUL byte"),
        ("'echo', {timeout = 0}", "timeout takes a number of seconds above 0"),
        ("'echo', {timeout = 0/0}", "timeout takes a number of seconds above 0"),
        ("'echo', {stdin = 5}", "stdin takes a string, not a number"),
        ("'./run'", "./run depends on the working directory"),
    ],
)
def test_misuse_is_an_error_that_says_what_would_be_right(arguments: str, reason: str) -> None:
    assert reason in _refused(arguments)
    assert error(_run(f"\n\nexec.run({arguments})")).startswith("hook.lua:6:")


def test_without_a_grant_nothing_is_run_and_the_error_names_the_setting() -> None:
    for granted in (False, ()):
        assert "the permission 'exec' is not granted for it (HOOK_EXEC" in _refused("'true'", granted)


def test_only_what_policy_names_is_run(tmp_path: Path) -> None:
    own = _program(tmp_path, "own", "echo own")
    assert _result("'true'", granted=("true",))["success"] is True
    assert _result(f"'{own}'", granted=("true", str(own)))["stdout"] == "own\n"
    assert "may not use the program false" in _refused("'false'", ("true", str(own)))
    assert "may not use the program no-such" in _refused("'no-such'", ("true",))
    assert "may not use the program /bin/sh" in _refused("{'/bin/sh', '-c', 'true'}", ("true",))


def test_a_program_is_the_same_by_its_name_and_by_its_path() -> None:
    for path in ("/bin/true", "/usr/bin/true", "/usr/../bin/true"):
        assert _result(f"'{path}'", granted=("true",))["success"] is True


def test_attack_a_program_of_the_hooks_own_by_a_granted_name(tmp_path: Path) -> None:
    _program(tmp_path, "true", f"touch {tmp_path}/owned")
    assert _result(f"'true', {{cwd = '{tmp_path}'}}", granted=("true",))["success"] is True
    assert "PATH can make a program run other code" in _refused(f"'true', {{env = {{PATH = '{tmp_path}'}}}}", ("true",))
    assert _result(f"'true', {{env = {{PATH = '{tmp_path}'}}}}")["success"] is True
    assert "may not use the program" in _refused(f"'{tmp_path}/true'", ("true",))
    assert "may not use the program" in _refused(f"'/usr/bin/../..{tmp_path}/true'", ("true",))
    assert "depends on the working directory" in _refused(f"'./true', {{cwd = '{tmp_path}'}}", ("true",))
    assert not (tmp_path / "owned").exists()


def test_attack_a_path_that_leads_through_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, "true", f"touch {tmp_path}/owned")
    monkeypatch.setenv("PATH", f".::relative:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert _result("'true'", granted=("true",))["success"] is True
    passed_on = _result("{'sh', '-c', 'echo $PATH'}")["stdout"].split(":")
    assert [directory for directory in passed_on if not directory.startswith("/")] == []
    assert not (tmp_path / "owned").exists()


def test_attack_another_program_by_a_link_to_a_granted_one(tmp_path: Path) -> None:
    """One file may be many programs: its name decides. Granted is the name, not the file behind it."""
    one = _program(tmp_path, "box", 'echo "$(basename "$0")"')
    for applet in ("list", "erase"):
        (tmp_path / applet).symlink_to(one)
    assert _result(f"'{tmp_path}/list'", granted=(f"{tmp_path}/list",))["stdout"] == "list\n"
    assert "may not use the program" in _refused(f"'{tmp_path}/erase'", (f"{tmp_path}/list",))


@pytest.mark.parametrize(
    "variable",
    [
        *("LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "PYTHON_HISTORY", "PERL5OPT", "RUBYOPT", "LUA_INIT", "NODE_OPTIONS"),
        *("GIT_SSH_COMMAND", "MAKEFLAGS", "GNUMAKEFLAGS", "CC", "LESSOPEN", "MANPAGER", "SSH_ASKPASS", "RSYNC_RSH"),
        # Settings below these name programs: .gitconfig, .bashrc, git/config.
        *("HOME", "XDG_CONFIG_HOME", "KUBECONFIG", "AWS_CONFIG_FILE", "OPENSSL_CONF"),
    ],
)
def test_attack_lending_a_granted_program_to_other_code(variable: str) -> None:
    assert "can make a program run other code" in _refused(f"'true', {{env = {{{variable} = 'x'}}}}", ("true",))


@pytest.mark.parametrize("variable", ["APP_NAME", "VERSION", "DEPLOY_ENV", "TZ", "LC_ALL", "AWS_REGION", "PGHOST"])
def test_other_variables_are_for_every_hook_to_set(variable: str) -> None:
    assert _result(f"'true', {{env = {{{variable} = 'x'}}}}", granted=("true",))["success"] is True


def test_huge_output_is_cut_and_the_program_runs_to_its_end() -> None:
    script = "head -c 3000000 /dev/zero; echo no >&2; exit 4"
    found = output(_run(f"local r = exec.run({{'sh', '-c', '{script}'}}) {_SIZES}"))
    assert found == f"4 false {child.MAX_OUTPUT} [output cut] 3"


def test_attack_endless_output_neither_fills_memory_nor_outlives_its_time() -> None:
    found = output(_run(f"local r = exec.run({{'sh', '-c', 'yes & yes >&2'}}, {{timeout = 1.5}}) {_SIZES}"))
    size = child.MAX_OUTPUT
    assert found == f"143 true {size} [output cut] {size + len(child.CUT)}"


def test_a_program_that_takes_too_long_is_asked_to_end() -> None:
    found = _result("{'sh', '-c', 'trap \"echo bye; exit 0\" TERM; while :; do sleep 0.02; done'}, {timeout = 2}")
    assert (found["timed_out"], found["stdout"], found["exit_code"], found["success"]) == (True, "bye\n", 0, False)
    assert 2000 <= found["duration_ms"] < 2000 + 1000 * child.GRACE_SECONDS


def test_attack_a_child_that_forks_and_ignores_sigterm_is_killed_with_all_it_started(
    tmp_path: Path, processes: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.1)
    script = _RUNAWAY.format(tmp_path / "runaway")
    found = _result(f"{{'sh', '-c', [==[{script}]==]}}, {{timeout = 3}}")
    assert (found["timed_out"], found["exit_code"]) == (True, 128 + signal.SIGKILL)
    assert _dies(processes("runaway"))


def test_attack_an_orphan_in_a_session_of_its_own_is_killed_too(
    tmp_path: Path, processes: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice forked and out of the session: its parent is init, only its environment tells where it is from."""
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.1)
    script = f"(setsid sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/orphan; sleep 60' & ); sleep 60"
    assert _result(f"{{'sh', '-c', [==[{script}]==]}}, {{timeout = 3}}")["timed_out"] is True
    assert _dies(processes("orphan"))


def test_the_runs_deadline_ends_the_program_whatever_its_own_timeout_is(
    tmp_path: Path, processes: Callable[[str], int]
) -> None:
    script = _RUNAWAY.format(tmp_path / "runaway")
    started = time.monotonic()
    result = _run(f"pcall(exec.run, {{'sh', '-c', [==[{script}]==]}}, {{timeout = 600}})\nreturn true", timeout=3)
    assert outcomes(result) == [Outcome.TIMEOUT]
    assert time.monotonic() - started < 7
    assert _dies(processes("runaway"))


def test_a_run_that_is_given_up_takes_its_program_with_it(tmp_path: Path, processes: Callable[[str], int]) -> None:
    cancelled = threading.Event()
    script = _RUNAWAY.format(tmp_path / "runaway")
    text = f"return {{ execute = function() {_EXEC} exec.run({{'sh', '-c', [==[{script}]==]}}) end }}"
    lua = runtime(library=library(exec=True))
    thread = threading.Thread(target=lambda: lua.run(program(text, "hook"), 60, [event()], cancelled), daemon=True)
    thread.start()
    number = processes("runaway")
    cancelled.set()
    assert _dies(number)
    thread.join(5)
    assert not thread.is_alive()


def test_what_stays_in_the_background_ends_with_the_program(tmp_path: Path, processes: Callable[[str], int]) -> None:
    found = _result(f"{{'sh', '-c', 'sleep 60 & echo $! > {tmp_path}/left; echo done'}}, {{timeout = 20}}")
    assert (found["success"], found["stdout"]) == (True, "done\n")
    assert found["duration_ms"] < 10_000
    assert _dies(processes("left"))


def test_a_daemon_in_a_session_of_its_own_stays_and_holds_nothing_up(
    tmp_path: Path, processes: Callable[[str], int]
) -> None:
    script = "setsid sh -c 'echo $$ > daemon; sleep 60' & while [ ! -s daemon ]; do sleep 0.01; done; echo done"
    found = _result(f"{{'sh', '-c', [==[{script}]==]}}, {{timeout = 20, cwd = '{tmp_path}'}}")
    assert found["stdout"] == "done\n"
    assert found["duration_ms"] < 10_000
    assert _is_alive(processes("daemon"))


def test_nothing_is_left_in_the_processor_by_what_was_run() -> None:
    before = len(os.listdir("/proc/self/fd")), set(_zombies())
    for _ in range(20):
        assert _result("'echo one', {stdin = 'x'}")["success"] is True
    # Other tests' threads may open a few meanwhile.
    assert len(os.listdir("/proc/self/fd")) < before[0] + 20
    assert set(_zombies()) <= before[1]


def test_an_older_kernel_without_pidfd_is_looked_at_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> int:
        raise OSError("not on this kernel")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert _result("{'sh', '-c', 'exec >&- 2>&-; sleep 0.1; exit 7'}")["exit_code"] == 7
    found = _result("'sleep 30', {timeout = 0.2}")
    assert (found["timed_out"], found["exit_code"]) == (True, 128 + signal.SIGTERM)


def test_strays_are_not_killed_by_a_number_that_another_process_has_by_now() -> None:
    sleeper = os.posix_spawn("/bin/sleep", ["sleep", "30"], {})
    try:
        # Where ProtectProc= hides what may not be traced, it is not to be seen while it becomes that program.
        wait_for(lambda: strays._read(sleeper, b"") is not None, 5)
        found = strays._read(sleeper, b"")
        assert found is not None
        strays._kill(strays._Process(found.number, found.parent, found.session, b"1", marked=True))
        assert os.waitpid(sleeper, os.WNOHANG) == (0, 0)
        strays._kill(found)
    finally:
        os.kill(sleeper, signal.SIGKILL)
        os.waitpid(sleeper, 0)


def test_a_dry_run_shows_the_command_and_runs_nothing(tmp_path: Path) -> None:
    shown: list[str] = []
    lua = runtime(library=library(show=shown.append, exec=("touch",)))
    body = f"local r = exec.run({{'touch', '{tmp_path}/a b'}}, {{cwd = '{tmp_path}'}})\nreturn true, json.encode(r)"
    found = json.loads(output(execute(_EXEC + body, within=lua)))
    assert found == {
        "exit_code": 0,
        "stdout": "",
        "stderr": "",
        "success": True,
        "duration_ms": 0,
        "timed_out": False,
    }
    assert shown == [f"exec.run: touch '{tmp_path}/a b' (in {tmp_path})"]
    assert list(tmp_path.iterdir()) == []
    assert "may not use the program rm" in error(execute(f"{_EXEC}exec.run('rm x')", within=lua))


@pytest.mark.parametrize(
    ("secret", "command", "shown"),
    [
        ("ab'cdefgh12", "{'touch', s, '--key=' .. s}", "touch '***' '--key=***'"),
        ("ab'cdefgh12", """'touch "' .. s .. '"'""", "touch '***'"),
        ("abcdefgh12", "{'touch', ('x'):rep(1989) .. s}", f"touch '{'x' * 1989}***'"),
        ("abcdefgh12 ijkl", "'touch ' .. ('x'):rep(1985) .. ' ' .. s", f"touch {'x' * 1985} ***"),
    ],
    ids=["with a quote", "with a quote, in a line", "where it is cut", "of two words, where it is cut"],
)
def test_a_dry_run_shows_no_part_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, command: str, shown: str
) -> None:
    (tmp_path / "token").write_text(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    told: list[str] = []
    lua = runtime(library=library(show=told.append, exec=("touch",), secrets=("token",)))
    execute(f"{_EXEC}local s = require('secret').get('token')\nassert(exec.run({command}))", within=lua)
    assert told == [f"exec.run: {shown}"]
