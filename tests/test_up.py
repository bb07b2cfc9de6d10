"""The newcomer's command, `./ops/up`, from a clean checkout: as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import processes
import pytest
from waiting import wait_for

from hook_event_processor.cli import up
from hook_event_processor.store.embedded.places import Places
from hook_event_processor.store.embedded.postmaster import running

CHECKOUT = Path(__file__).parents[1]
NOT_IN_A_CLEAN_ONE = shutil.ignore_patterns(".git", ".venv", ".env", "build", "*.egg-info", "__pycache__", ".*_cache")
# What a checkout needs from its surroundings to install packages.
PASSED_ON = ("PATH", "LANG", "PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")

pytestmark = pytest.mark.timeout(600)  # the first start installs packages


@dataclass(frozen=True)
class Newcomer:
    """A user with a checkout of their own; `settings` are environment variables."""

    uid: int
    checkout: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def up(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A running `./ops/up`, and the line that it prints when it is ready."""
        with (self.checkout / "up.log").open("w") as log, self.start(["ops/up"], log) as process:
            try:
                assert process.stdout is not None
                ready = next((line for line in process.stdout if line.startswith("ready: ")), None)
                assert ready is not None, (self.checkout / "up.log").read_text()
                yield process, ready
            finally:
                if process.poll() is None:
                    process.terminate()

    def run(self, *command: str) -> str:
        """What a command prints; it must succeed."""
        with self.start(command, subprocess.PIPE) as process:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return output

    def document(self, *command: str) -> Any:
        return json.loads(self.run(".venv/bin/hep", *command, "--format", "json"))

    def start(self, command: Any, errors: int | IO[str]) -> subprocess.Popen[str]:
        other = self.uid != os.geteuid()
        return subprocess.Popen(
            command,
            cwd=self.checkout,
            env={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
            | {"HOME": pwd.getpwuid(self.uid).pw_dir}
            | self.settings,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            user=self.uid if other else None,
            group=pwd.getpwuid(self.uid).pw_gid if other else None,
            extra_groups=[] if other else None,
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="hep-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def clean_checkout(folder: Path) -> Path:
    return Path(shutil.copytree(CHECKOUT, folder / "checkout", ignore=NOT_IN_A_CLEAN_ONE))


@pytest.fixture
def root(folder: Path) -> Newcomer:
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("needs root")
    home = folder / "home"
    return Newcomer(0, clean_checkout(folder), home, {"HEP_HOME": str(home)})


@pytest.fixture
def ordinary_user(folder: Path) -> Iterator[Newcomer]:
    """The caller; for root, a user made for the test, with an empty home directory."""
    checkout = clean_checkout(folder)
    if os.geteuid() != 0:
        yield Newcomer(os.geteuid(), checkout, folder / "home", {"HEP_HOME": str(folder / "home")})
        return
    name = f"hep-test-{os.getpid()}"
    subprocess.run(["useradd", "--create-home", "--home-dir", folder / "user", name], check=True)
    try:
        user = pwd.getpwnam(name)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", checkout], check=True)
        yield Newcomer(user.pw_uid, checkout, folder / "user/.local/share/hook-event-processor")
    finally:
        subprocess.run(["userdel", name], check=True)


def greet_once_and_stop(newcomer: Newcomer, interrupt: signal.Signals) -> str:
    """Start everything, do what it says, see that it worked, and end it; returns the event's id."""
    with newcomer.up() as (process, ready):
        command = ready.rstrip().partition(" try: ")[2]
        newcomer.run("bash", "-c", command)
        wait_for(lambda: last_greeting(newcomer)["status"] == "completed")
        event = last_greeting(newcomer)["id"]
        assert "Hello, world" in newcomer.run(".venv/bin/hep", "hook", "logs", "greet", "--output")
        process.send_signal(interrupt)
        remaining, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "ready:" not in remaining
    assert processes.of_server(newcomer.home) == []
    assert processes.naming(newcomer.checkout) == []
    return str(event)


def last_greeting(newcomer: Newcomer) -> Any:
    return newcomer.document("events", "list", "--type", "greeting.sent", "--limit", "1")[0]


def lua_hooks(newcomer: Newcomer) -> set[str]:
    return {hook["name"] for hook in newcomer.document("hook", "list") if hook["kind"] == "lua"}


@pytest.mark.parametrize("who", ["root", "ordinary_user"])
def test_it_brings_everything_up_and_takes_it_down_again(who: str, request: pytest.FixtureRequest) -> None:
    newcomer: Newcomer = request.getfixturevalue(who)
    parents = [(path, path.stat()) for path in newcomer.checkout.parents]
    first = greet_once_and_stop(newcomer, signal.SIGINT)
    second = greet_once_and_stop(newcomer, signal.SIGTERM)
    assert first != second

    with newcomer.up() as (process, _):
        assert lua_hooks(newcomer) == {"greet", "dead_letter_alert"}
        assert {event["id"] for event in newcomer.document("events", "list")} == {first, second}
        newcomer.run(".venv/bin/hep", "hook", "remove", "greet")
        process.kill()
    wait_for(lambda: processes.of_server(newcomer.home) == [])

    with newcomer.up():
        assert lua_hooks(newcomer) == {"dead_letter_alert"}
    assert processes.of_server(newcomer.home) == []
    for path, before in parents:
        after = path.stat()
        assert (stat.S_IMODE(after.st_mode), after.st_uid) == (stat.S_IMODE(before.st_mode), before.st_uid)


def test_the_command_for_another_terminal_has_the_whole_path_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEP_HOME", "a home")
    assert f" try: HEP_HOME='{tmp_path}/a home' " in up._ready_line()


def test_its_server_is_started_again_and_it_goes_on(folder: Path) -> None:
    home, program = folder / "home", [sys.executable, "-m", "hook_event_processor"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "HEP_HOME": str(home)}
    log = folder / "up.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*program, "up"], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready: "), log.read_text()
            server = running(Places(home.resolve()))
            assert server is not None
            os.kill(server.pid, signal.SIGKILL)
            lines = (
                "PostgreSQL (status -9) has ended: starting it again\n",
                "PostgreSQL runs again\n",
                "is back after",
            )
            wait_for(lambda: all(line in log.read_text() for line in lines))
            subprocess.run(
                [*program, "events", "emit", "greeting.sent", '{"name": "world"}'], env=environment, check=True
            )
            wait_for(lambda: "HookRun: greet: " in log.read_text())
        finally:
            process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert processes.of_server(home) == []
