"""docs/hooks: the examples pass their checks and specs, are installed as their pages say, and do it for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from certificates import resolve
from commands import Hep
from pages import ROOT, blocks
from psycopg import Connection
from shell import Shell
from smtp import post_office
from waiting import wait_for
from web import Answer
from world import World, world

from hook_event_processor.store.database import Database

EXAMPLES = ROOT / "docs/hooks"
JOBS = ("monitoring", "security", "deployment", "integration", "scaling", "backups", "compliance")
DIRECTORIES = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_an_example_passes_its_check_and_its_specs(offline_hep: Hep, directory: Path) -> None:
    complaints = offline_hep.run("hook", "check", str(directory)).output.splitlines()
    assert [line for line in complaints[:-1] if ": note: the event type" not in line] == []
    hooks = {path.stem for path in directory.glob("*.lua") if not path.stem.endswith("_spec")}
    assert {path.stem for path in directory.glob("*_spec.lua")} == {f"{hook}_spec" for hook in hooks}
    report = offline_hep.document("hook", "spec", "--format", "json", str(directory))
    assert report["failed"] == 0


def test_every_job_has_an_example_and_every_example_a_line() -> None:
    index = (EXAMPLES / "README.md").read_text()
    assert {path.name for path in DIRECTORIES} == {*JOBS, "packages"}
    for directory in DIRECTORIES:
        assert f"]({directory.name}/README.md)" in index


def test_the_examples_are_installed_as_their_pages_say(
    hep: Hep, database: Database, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "webhook.txt").write_text("https://hooks.slack.com/services/T0/B0/x")
    shell = Shell(hep, database, tmp_path)
    for job in JOBS:
        for block in blocks(EXAMPLES / job / "README.md"):
            shell.run(block.text)
    stored = {row[0] for row in connection.execute("SELECT name FROM hooks").fetchall()}
    written = {path.stem for job in JOBS for path in (EXAMPLES / job).glob("*.lua")}
    assert stored == {name for name in written if not name.endswith("_spec")}


Reach = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def reach(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reach:
    """Makes what hooks reach: see world."""
    return partial(world, hep, connection, database, tmp_path, monkeypatch)


def _add(hep: Hep, path: str, *options: str) -> None:
    hep("hook", "add", str(EXAMPLES / path), *options)


def test_an_agent_that_stays_away_raises_an_alert(hep: Hep, reach: Reach, tmp_path: Path) -> None:
    _add(hep, "monitoring/agent_watch.lua", "--set", "grace=0.2")
    with reach() as made, made.running():
        made.emit("agent.disconnected", {"name": "web-1"})
        assert [each[0] for each in made.children()] == ["custom.agent_check", "alert.raised"]
        made.hep("hook", "add", str(EXAMPLES / "monitoring/agent_watch.lua"), "--set", "grace=2")
        made.hep("events", "emit", "agent.disconnected", '{"name": "web-2"}')
        made.hep("events", "emit", "agent.connected", '{"name": "web-2"}', "--priority", "9")
        wait_for(lambda: any(each[2] == "web-2 was back in time" for each in made.executions()), 10)
    assert [each[1]["agent"] for each in made.children() if each[0] == "alert.raised"] == ["web-1"]


def test_an_address_is_blocked_at_its_fifth_failure(hep: Hep, reach: Reach, tmp_path: Path) -> None:
    _add(hep, "security/lockout.lua")
    with reach(programs=("systemctl",)) as made, made.running():
        for _ in range(5):
            made.emit("security.login_failed", {"user": "root", "ip_address": "203.0.113.7"})
    assert made.commands == ["systemctl start block-ipv4@203.0.113.7.service"]
    ((event_type, data),) = made.children()
    assert (event_type, data["ip_address"], data["severity"]) == ("security.breach", "203.0.113.7", "high")


DEPLOY = {"deploy_id": "d1", "service": "shop", "version": "1.2.0"}


@pytest.mark.parametrize(
    ("status", "steps", "events"),
    [
        (200, ["test", "build", "deploy"], ["deploy.built", "deploy.completed"]),
        (500, ["test", "build", "deploy", "rollback"], ["deploy.built", "deploy.failed", "deploy.rollback"]),
    ],
)
def test_a_deployment_goes_step_by_step_and_back(
    hep: Hep, reach: Reach, tmp_path: Path, status: int, steps: list[str], events: list[str]
) -> None:
    made = reach(sites=("shop.example.com",), programs=("make",))
    with made as reached:
        hep("hook", "apply", str(EXAMPLES / "deployment"))
        for name in ("deploy_build", "deploy_release", "deploy_rollback"):
            health = ("--set", "health=https://shop.example.com/health") if name == "deploy_release" else ()
            _add(hep, f"deployment/{name}.lua", "--set", f"directory={tmp_path}", *health)
        reached.site.answers(Answer(status))
        with reached.running():
            hep("events", "emit", "deploy.started", json.dumps(DEPLOY))
            wait_for(lambda: events[-1] in [each[0] for each in reached.children()], 10)
    assert reached.commands == [f"make {step}" for step in steps]
    assert [each[0] for each in reached.children()] == events
    assert set(reached.requests) == {("GET", "https://shop.example.com/health")}
    correlations = reached.connection.execute(
        "SELECT count(DISTINCT coalesce(metadata ->> 'correlation_id', id::text)) FROM events WHERE source = 'deploy'"
    ).fetchone()
    assert correlations == (1,)


def test_a_failed_task_reaches_the_chat_and_heavy_load_the_mail(
    hep: Hep, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("notify_on_failure", "notify_on_high_load"):
        _add(hep, f"integration/{name}.lua")
    hosts = ("hooks.slack.com", "smtp.example.com")
    options = {"secrets": ("chat_webhook",)}
    with reach(sites=hosts, **options) as made, post_office() as post:
        resolve(monkeypatch, smtp_example_com=(post.host, post.port))
        _add(hep, "integration/deliver_notification.lua", "--set", "smtp_host=smtp.example.com")
        hep("secret", "set", "chat_webhook", stdin="https://hooks.slack.com/services/T0/B0/x")
        with made.running():
            made.emit("task.failed", {"task": {"task_name": "deploy", "agent_name": "web-1", "error": "disk full"}})
            made.emit("system.cpu_high", {"current": 97}, "--stack", "production")
    texts = ["Task deploy failed on web-1: disk full", "system.cpu_high: 97 %"]
    assert [json.loads(each.body)["text"] for each in made.site.received] == texts
    assert [mail.message["subject"] for mail in post.mails] == texts[1:]


def test_machines_follow_the_load(hep: Hep, reach: Reach, tmp_path: Path) -> None:
    _add(hep, "scaling/scale.lua", "--set", "cooldown=0.001")
    with reach(programs=("set-machines",)) as made, made.running():
        for event_type in ("system.cpu_high", "system.cpu_high", "system.cpu_normal"):
            made.emit(event_type, {"current": 95})
        assert hep("state", "get", "machines", "--hook", "scale") == "3\n"
    assert made.commands == [f"set-machines {n}" for n in (3, 4, 3)]


def test_a_deployment_is_preceded_by_a_backup(hep: Hep, reach: Reach, tmp_path: Path) -> None:
    kept = tmp_path / "backups"
    kept.mkdir()
    (kept / "backup-20250101T000000Z-00000000.dump").write_text("old")
    _add(hep, "backups/backup_before.lua", "--set", f"directory={kept}", "--set", "keep=1")
    programs = {"make-backup": '#!/bin/sh\nprintf rows > "$1"\n'}
    with reach(programs=programs, file_roots=(kept,)) as made, made.running():
        made.emit("deploy.started", DEPLOY)
    ((event_type, data),) = made.children()
    assert (event_type, data["size"]) == ("backup.completed", 4)
    assert [str(path) for path in kept.iterdir()] == [data["destination"]]


def test_a_trail_that_was_changed_is_noticed(hep: Hep, reach: Reach, tmp_path: Path) -> None:
    hep("hook", "apply", str(EXAMPLES / "compliance"))
    (tmp_path / "trail").mkdir()
    with reach(file_roots=(tmp_path / "trail",)) as made, made.running():
        for n in range(3):
            made.emit("secret.accessed", {"secret_name": f"s{n}", "accessed_by": "ada"})
        made.emit("schedule.triggered", {"schedule_name": "audit"})
        assert made.executions()[-1] == ("audit_check", True, "3 lines are as they were written")
        (trail,) = (tmp_path / "trail").iterdir()
        lines = trail.read_text().splitlines()
        digests = ["", *(sha256(line.encode()).hexdigest() for line in lines)]
        assert [json.loads(line)["before"] for line in lines] == digests[:-1]
        trail.write_text(trail.read_text().replace("ada", "bob", 1))
        made.emit("schedule.triggered", {"schedule_name": "audit"})
    assert [each[0] for each in made.children()] == ["security.breach"]
    outputs = [each[2] for each in made.executions() if each[0] == "audit_check"]
    assert outputs[1] == "alarm: line 2 is not the one that was written"
