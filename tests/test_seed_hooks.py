"""The first documents' example hooks, word for word as they stand in seed_hooks/, on real servers and commands.

| hook | section of "Hooks and Events System" |
|---|---|
| notify_on_failure | Hook System: Hook Structure |
| production_monitor | Stack Isolation (a table without its function, which the test adds behind it) |
| slack_notify_failures | Examples: Example 1: Slack Notifications |
| auto_scale_agents | Examples: Example 2: Auto-Scaling |
| deployment_pipeline | Examples: Example 3: Deployment Pipeline |
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certificates import resolve, server_context, trust
from commands import Hep
from psycopg import Connection
from running import all_processed, running, wait_for
from web import Answer, Site, serving

from hook_event_processor.policy import Grants, Policy
from hook_event_processor.store.database import Database

HOOKS = Path(__file__).parent / "seed_hooks"
SLACK, STAGING = "hooks.slack.com", "staging.example.com"
TASK = {
    "task_name": "deploy_app",
    "agent_name": "web-server-01",
    "status": "failed",
    "exit_code": 1,
    "error": "Connection refused",
    "duration": "2m30s",
}
WEBHOOK = f"https://{SLACK}/services/T00000000/B00000000/0123456789abcdefghijklmn"
# Writes down how it was called; fails when a file of its first argument's name lies beside it.
PROGRAM = (
    '#!/bin/sh\nhere=$(dirname "$0")\necho "$(basename "$0") $*" >> "$here/commands"\ntest ! -e "$here/$1.fails"\n'
)


@dataclass
class World:
    """What the hooks reach: a site under the names that they write, and programs that keep a record."""

    hep: Hep
    connection: Connection
    database: Database
    site: Site
    folder: Path

    def add(self, name: str, *options: str) -> None:
        self.hep("hook", "add", str(HOOKS / f"{name}.lua"), *options)

    def emit(self, event_type: str, data: Any, *options: str) -> None:
        """Publish an event and wait until it, and what came of it, is done."""
        self.hep("events", "emit", event_type, json.dumps(data), *options)
        wait_for(lambda: all_processed(self.connection), 10)

    @contextmanager
    def running(self) -> Iterator[None]:
        grants = Grants(exec=("make", "sloth-runner"), http_allow=(SLACK, STAGING), secrets=("slack_webhook_url",))
        key = self.folder / "secret.key"
        with running(self.database, self.folder, policy=Policy(grants), hook_secret_key_file=key):
            yield

    def fail(self, argument: str) -> None:
        """From now on the programs fail when this is their first argument."""
        (self.folder / "bin" / f"{argument}.fails").touch()

    @property
    def commands(self) -> list[str]:
        return (self.folder / "bin/commands").read_text().splitlines()

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and URL of each, by the name that was asked for."""
        return [(each.method, f"https://{each.headers['host']}{each.path}") for each in self.site.received]

    def executions(self) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT hook_name, success, coalesce(error, output) FROM event_hook_executions"
            " WHERE NOT starts_with(hook_name, 'handle_') ORDER BY executed_at, id"
        ).fetchall()

    def children(self) -> list[tuple[str, Any]]:
        """Type and data of the events that hooks dispatched."""
        return self.connection.execute(
            "SELECT type, data FROM events WHERE metadata ? 'causation_id' ORDER BY seq"
        ).fetchall()


@pytest.fixture
def world(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    for name in ("make", "sloth-runner"):
        (tmp_path / "bin" / name).write_text(PROGRAM)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with serving(tls=server_context(tmp_path, SLACK, STAGING)) as site:
        trust(monkeypatch, tmp_path / "ca.pem")
        here = (site.host, site.port)
        resolve(monkeypatch, hooks_slack_com=here, staging_example_com=here)
        yield World(hep, connection, database, site, tmp_path)


def test_notify_on_failure_tells_slack(world: World) -> None:
    world.add("notify_on_failure")
    with world.running():
        world.emit("task.failed", {"task": TASK}, "--stack", "production")
        world.emit("task.failed", {"task": TASK}, "--stack", "staging")
    assert world.requests == [("POST", f"https://{SLACK}/...")]
    (received,) = world.site.received
    assert received.headers["content-type"] == "application/json"
    assert json.loads(received.body) == {"text": "Task deploy_app failed on web-server-01: Connection refused"}
    assert world.executions() == [("notify_on_failure", True, "Notification sent successfully")]


def test_notify_on_failure_fails_when_slack_refuses(world: World) -> None:
    world.add("notify_on_failure")
    world.site.answers(Answer(500, body=b"no_service"))
    with world.running():
        world.hep("events", "emit", "task.failed", json.dumps({"task": TASK}), "--stack", "production")
        wait_for(lambda: len(world.executions()) > 0, 10)
    assert [(each[1], each[2].splitlines()[0]) for each in world.executions()][:1] == [
        (False, "notify_on_failure.lua:32: Failed to send notification")
    ]


def test_slack_notifications_go_to_the_secret_address(world: World) -> None:
    world.add("slack_notify_failures")
    world.hep("secret", "set", "slack_webhook_url", stdin=WEBHOOK)
    with world.running():
        world.emit("task.failed", {"task": TASK}, "--stack", "production")
    assert world.requests == [("POST", WEBHOOK)]
    (received,) = world.site.received
    assert received.headers["content-type"] == "application/json"
    fields = [
        {"title": "Error", "value": "Connection refused", "short": False},
        {"title": "Duration", "value": "2m30s", "short": True},
        {"title": "Exit Code", "value": "1", "short": True},
    ]
    assert json.loads(received.body) == {
        "text": "🚨 Task Failed: deploy_app on web-server-01",
        "attachments": [{"color": "danger", "fields": fields}],
    }
    assert world.executions() == [("slack_notify_failures", True, "Notification sent")]


def test_auto_scaling_adds_one_agent_and_cools_down(world: World) -> None:
    world.add("auto_scale_agents")
    started = int(time.time())
    with world.running():
        for _ in range(2):
            world.emit("system.cpu_high", {"resource": {"current": 93.5, "threshold": 80}})
    (state,) = world.connection.execute("SELECT scope, name, key, value FROM hook_state").fetchall()
    assert state[:3] == ("hook", "auto_scale_agents", "last_scale_time")
    assert started <= state[3] <= time.time()
    assert world.commands == [f"sloth-runner agent install new-agent-{state[3]}"]
    assert [each[2] for each in world.executions()] == [
        "Scaled up infrastructure",
        "Cooldown active, skipping scale",
    ]


DEPLOY = {"deploy": {"deploy_id": "d-42", "version": "v2.0.0"}}
PIPELINE = ["make test", "make build", "make deploy-staging"]


def test_the_pipeline_tests_builds_deploys_and_hands_on(world: World) -> None:
    world.add("deployment_pipeline")
    with world.running():
        world.emit("deploy.started", DEPLOY)
    assert world.commands == PIPELINE
    assert world.requests == [("GET", f"https://{STAGING}/health")]
    assert world.children() == [("deploy.staging_success", {"deploy_id": "d-42", "version": "v2.0.0"})]
    assert world.executions() == [("deployment_pipeline", True, "Staging deployment completed")]


@pytest.mark.parametrize(
    ("failing", "status", "commands", "reason", "line"),
    [
        ("test", 200, PIPELINE[:1], "Tests failed", "20: Tests failed"),
        ("none", 503, [*PIPELINE, "make rollback-staging"], "Health check failed", "37: Staging health check failed"),
    ],
)
def test_the_pipeline_stops_where_something_fails_and_tells(
    world: World, failing: str, status: int, commands: list[str], reason: str, line: str
) -> None:
    world.add("deployment_pipeline")
    world.fail(failing)
    world.site.answers(Answer(status))
    with world.running():
        world.hep("events", "emit", "deploy.started", json.dumps(DEPLOY))
        wait_for(lambda: len(world.executions()) > 0, 10)
        # The next attempt repeats all of it: this is what the first one did.
        assert world.commands[: len(commands)] == commands
    assert world.children()[0] == ("deploy.failed", {"deploy_id": "d-42", "reason": reason})
    hook, success, error = world.executions()[0]
    assert (hook, success, error.splitlines()[0]) == ("deployment_pipeline", False, f"deployment_pipeline.lua:{line}")


def test_the_production_monitor_sees_its_stack_only(world: World) -> None:
    text = (HOOKS / "production_monitor.lua").read_text()
    function = (
        'function hook.execute(event) return true, event.stack .. ": " .. event.data.agent.name end\nreturn hook\n'
    )
    world.hep("hook", "add", "-", "--stack", "production", stdin=text + function)
    with world.running():
        for stack in ("production", "staging"):
            world.emit("agent.heartbeat_failed", {"agent": {"name": f"{stack}-01"}}, "--stack", stack)
        world.emit("agent.heartbeat_failed", {"agent": {"name": "nobody's"}})
    assert world.executions() == [("production_monitor", True, "production: production-01")]


def test_a_table_without_a_function_is_refused(world: World) -> None:
    fault = world.hep.fault("hook", "add", str(HOOKS / "production_monitor.lua"))
    assert "returns a table" in fault


def test_the_validated_flow_runs_its_five_hooks_twice(world: World) -> None:
    """Event Flow Validation; the document names the hooks, and what they are told, without their texts."""
    names = ["file_changed", "command_output_changed", "disk_high_usage", "memory_high_usage", "service_status_changed"]
    for name in names:
        text = (
            'local log = require("log")\nreturn {event_type = "file.modified", execute = function(event)'
            ' log.info("changed", {size = event.data.old_size .. " -> " .. event.data.new_size}) end}'
        )
        world.hep("hook", "add", "-", "--name", f"{name}_alert", stdin=text)
    change = {"path": "/tmp/test-hooks-final.txt", "old_size": 0, "new_size": 17, "new_hash": "e5f6g7h8"}
    with world.running():
        for _ in range(2):
            world.emit("file.modified", change)
    hooks = world.connection.execute("SELECT name, run_count FROM hooks WHERE name LIKE '%alert'").fetchall()
    assert sorted(hooks) == sorted((f"{name}_alert", 2) for name in names)
    assert {each[1:] for each in world.executions()} == {(True, "INFO changed size=0 -> 17")}


def test_a_dispatched_event_takes_its_stack_from_the_data(world: World) -> None:
    """Stack Usage: event.dispatch("custom.deployment", {stack = "production", ...})."""
    text = (
        'return {name = "deployer", event_type = "custom.start", execute = function(event)\n'
        'event.dispatch("custom.deployment", {\n    stack = "production",\n    version = "v2.0.0"\n})\nend}'
    )
    world.hep("hook", "add", "-", stdin=text)
    receiver = (
        'return {name = "receiver", event_type = "custom.deployment", stack = "production",'
        " execute = function(event) return true, event.data.version end}"
    )
    world.hep("hook", "add", "-", stdin=receiver)
    with world.running():
        world.emit("custom.start", {})
    assert world.executions()[1:] == [("receiver", True, "v2.0.0")]
