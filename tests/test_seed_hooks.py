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
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection
from waiting import wait_for
from web import Answer
from world import World, world

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


@pytest.fixture
def seed(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    options: dict[str, Any] = {"programs": ("make", "sloth-runner"), "secrets": ("slack_webhook_url",)}
    with world(hep, connection, database, tmp_path, monkeypatch, sites=(SLACK, STAGING), **options) as made:
        yield made


def add(seed: World, name: str, *options: str) -> None:
    seed.hep("hook", "add", str(HOOKS / f"{name}.lua"), *options)


def test_notify_on_failure_tells_slack(seed: World) -> None:
    add(seed, "notify_on_failure")
    with seed.running():
        seed.emit("task.failed", {"task": TASK}, "--stack", "production")
        seed.emit("task.failed", {"task": TASK}, "--stack", "staging")
    assert seed.requests == [("POST", f"https://{SLACK}/...")]
    (received,) = seed.site.received
    assert received.headers["content-type"] == "application/json"
    assert json.loads(received.body) == {"text": "Task deploy_app failed on web-server-01: Connection refused"}
    assert seed.executions() == [("notify_on_failure", True, "Notification sent successfully")]


def test_notify_on_failure_fails_when_slack_refuses(seed: World) -> None:
    add(seed, "notify_on_failure")
    seed.site.answers(Answer(500, body=b"no_service"))
    with seed.running():
        seed.hep("events", "emit", "task.failed", json.dumps({"task": TASK}), "--stack", "production")
        wait_for(lambda: len(seed.executions()) > 0, 10)
    assert [(each[1], each[2].splitlines()[0]) for each in seed.executions()][:1] == [
        (False, "notify_on_failure.lua:32: Failed to send notification")
    ]


def test_slack_notifications_go_to_the_secret_address(seed: World) -> None:
    add(seed, "slack_notify_failures")
    seed.hep("secret", "set", "slack_webhook_url", stdin=WEBHOOK)
    with seed.running():
        seed.emit("task.failed", {"task": TASK}, "--stack", "production")
    assert seed.requests == [("POST", WEBHOOK)]
    (received,) = seed.site.received
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
    assert seed.executions() == [("slack_notify_failures", True, "Notification sent")]


def test_auto_scaling_adds_one_agent_and_cools_down(seed: World) -> None:
    add(seed, "auto_scale_agents")
    started = int(time.time())
    with seed.running():
        for _ in range(2):
            seed.emit("system.cpu_high", {"resource": {"current": 93.5, "threshold": 80}})
    (state,) = seed.connection.execute("SELECT scope, name, key, value FROM hook_state").fetchall()
    assert state[:3] == ("hook", "auto_scale_agents", "last_scale_time")
    assert started <= state[3] <= time.time()
    assert seed.commands == [f"sloth-runner agent install new-agent-{state[3]}"]
    assert [each[2] for each in seed.executions()] == [
        "Scaled up infrastructure",
        "Cooldown active, skipping scale",
    ]


DEPLOY = {"deploy": {"deploy_id": "d-42", "version": "v2.0.0"}}
PIPELINE = ["make test", "make build", "make deploy-staging"]


def test_the_pipeline_tests_builds_deploys_and_hands_on(seed: World) -> None:
    add(seed, "deployment_pipeline")
    with seed.running():
        seed.emit("deploy.started", DEPLOY)
    assert seed.commands == PIPELINE
    assert seed.requests == [("GET", f"https://{STAGING}/health")]
    assert seed.children() == [("deploy.staging_success", {"deploy_id": "d-42", "version": "v2.0.0"})]
    assert seed.executions() == [("deployment_pipeline", True, "Staging deployment completed")]


@pytest.mark.parametrize(
    ("failing", "status", "commands", "reason", "line"),
    [
        ("test", 200, PIPELINE[:1], "Tests failed", "20: Tests failed"),
        ("none", 503, [*PIPELINE, "make rollback-staging"], "Health check failed", "37: Staging health check failed"),
    ],
)
def test_the_pipeline_stops_where_something_fails_and_tells(
    seed: World, failing: str, status: int, commands: list[str], reason: str, line: str
) -> None:
    add(seed, "deployment_pipeline")
    seed.fail(failing)
    seed.site.answers(Answer(status))
    with seed.running():
        seed.hep("events", "emit", "deploy.started", json.dumps(DEPLOY))
        wait_for(lambda: len(seed.executions()) > 0, 10)
        # The next attempt repeats all of it: this is what the first one did.
        assert seed.commands[: len(commands)] == commands
    assert seed.children()[0] == ("deploy.failed", {"deploy_id": "d-42", "reason": reason})
    hook, success, error = seed.executions()[0]
    assert (hook, success, error.splitlines()[0]) == ("deployment_pipeline", False, f"deployment_pipeline.lua:{line}")


def test_the_production_monitor_sees_its_stack_only(seed: World) -> None:
    text = (HOOKS / "production_monitor.lua").read_text()
    function = (
        'function hook.execute(event) return true, event.stack .. ": " .. event.data.agent.name end\nreturn hook\n'
    )
    seed.hep("hook", "add", "-", "--stack", "production", stdin=text + function)
    with seed.running():
        for stack in ("production", "staging"):
            seed.emit("agent.heartbeat_failed", {"agent": {"name": f"{stack}-01"}}, "--stack", stack)
        seed.emit("agent.heartbeat_failed", {"agent": {"name": "nobody's"}})
    assert seed.executions() == [("production_monitor", True, "production: production-01")]


def test_a_table_without_a_function_is_refused(seed: World) -> None:
    fault = seed.hep.fault("hook", "add", str(HOOKS / "production_monitor.lua"))
    assert "returns a table" in fault


def test_the_validated_flow_runs_its_five_hooks_twice(seed: World) -> None:
    """Event Flow Validation; the document names the hooks, and what they are told, without their texts."""
    names = ["file_changed", "command_output_changed", "disk_high_usage", "memory_high_usage", "service_status_changed"]
    for name in names:
        text = (
            'local log = require("log")\nreturn {event_type = "file.modified", execute = function(event)'
            ' log.info("changed", {size = event.data.old_size .. " -> " .. event.data.new_size}) end}'
        )
        seed.hep("hook", "add", "-", "--name", f"{name}_alert", stdin=text)
    change = {"path": "/tmp/test-hooks-final.txt", "old_size": 0, "new_size": 17, "new_hash": "e5f6g7h8"}
    with seed.running():
        for _ in range(2):
            seed.emit("file.modified", change)
    hooks = seed.connection.execute("SELECT name, run_count FROM hooks WHERE name LIKE '%alert'").fetchall()
    assert sorted(hooks) == sorted((f"{name}_alert", 2) for name in names)
    assert {each[1:] for each in seed.executions()} == {(True, "INFO changed size=0 -> 17")}


def test_a_dispatched_event_takes_its_stack_from_the_data(seed: World) -> None:
    """Stack Usage: event.dispatch("custom.deployment", {stack = "production", ...})."""
    text = (
        'return {name = "deployer", event_type = "custom.start", execute = function(event)\n'
        'event.dispatch("custom.deployment", {\n    stack = "production",\n    version = "v2.0.0"\n})\nend}'
    )
    seed.hep("hook", "add", "-", stdin=text)
    receiver = (
        'return {name = "receiver", event_type = "custom.deployment", stack = "production",'
        " execute = function(event) return true, event.data.version end}"
    )
    seed.hep("hook", "add", "-", stdin=receiver)
    with seed.running():
        # Not the one that it would inherit.
        seed.emit("custom.start", {}, "--stack", "staging")
    assert seed.executions()[1:] == [("receiver", True, "v2.0.0")]


# Available Modules in Hooks: the calls as they stand in the table.
CALLS = [
    'exec.run("systemctl restart app")',
    'http.get("https://api.example.com")',
    "json.encode(data)",
    "yaml.decode(content)",
    'template.render("{{.name}}", data)',
    "crypto.sha256(data)",
    'env.get("PATH")',
    'file.read("/etc/config")',
    'state.get("counter")',
    'secret.get("api_key")',
    'event.dispatch("custom", data)',
]


def test_the_calls_of_the_table_of_modules_work(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ['local json, given, content, results = require("json"), { name = "Ada" }, "name: Ada", {}']
    for call in CALLS:
        module = call.partition(".")[0]
        data = '"Ada"' if module == "crypto" else "given"
        lines.append(f'do local {module}, data = require("{module}"), {data}')
        lines.append(f'results["{module}"] = json.array({{ ({call}) }}) end')
    body = "\n".join([*lines, "return true, json.encode(results)"])
    text = f'return {{ name = "table", event_type = "custom.start", execute = function(event)\n{body}\nend }}'
    hep("hook", "add", "-", stdin=text)
    options: dict[str, Any] = {"secrets": ("api_key",), "env": ("PATH",), "file_roots": (Path("/etc"),)}
    programs = ("systemctl",)
    with world(
        hep, connection, database, tmp_path, monkeypatch, sites=("api.example.com",), programs=programs, **options
    ) as made:
        hep("secret", "set", "api_key", stdin="0123456789")
        hep("state", "set", "counter", "7", "--hook", "table")
        with made.running():
            made.emit("custom.start", {})
    ((_, success, said),) = [each for each in made.executions() if each[0] == "table"]
    assert success, said
    results = json.loads(said)
    assert (made.commands, results["exec"][0]["exit_code"]) == (["systemctl restart app"], 0)
    assert (made.requests, results["http"][0]["body"]) == ([("GET", "https://api.example.com/")], "ok")
    assert [results[name][0] for name in ("json", "yaml", "template")] == ['{"name":"Ada"}', {"name": "Ada"}, "Ada"]
    assert results["crypto"] == [sha256(b"Ada").hexdigest()]
    assert results["env"][0].startswith(f"{tmp_path}/bin:")
    assert (results["file"], results["state"]) == ([], [7])
    assert "0123456789" not in said
    assert made.children() == [("custom", {"name": "Ada"})]
