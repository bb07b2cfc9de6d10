"""docs/writing-hooks.md: its hooks run, its fragments give what they promise, its commands work in their order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from certificates import resolve, server_context, trust
from chunks import event, execute, output, runtime
from commands import Hep
from pages import ROOT, Block, blocks, instrumented, matches, prints, promises
from psycopg import Connection
from running import all_processed, running
from shell import Shell
from smtp import post_office
from waiting import wait_for
from web import Answer, Received, serving

from hook_event_processor.event import Outcome, outcome_of
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.loader import MODULES, program, read_definition
from hook_event_processor.policy import Grants, Policy, read_policy
from hook_event_processor.settings import Settings
from hook_event_processor.store import key_ring, secrets
from hook_event_processor.store.database import Database

PAGE = ROOT / "docs/writing-hooks.md"
BLOCKS = blocks(PAGE)
FRAGMENTS = [block for block in BLOCKS if block.language == "lua" and not block.file]
FILES = [block for block in BLOCKS if block.file]
INSPECT = (ROOT / "hook_event_processor/workshop/lua/inspect.lua").read_text()
SITES = ("api.example.com", "hooks.slack.com", "discord.com", "example.webhook.office.com", "api.telegram.org")
GRANTS: dict[str, Any] = {
    "exec": ("make", "date", "cat", "sleep"),
    "http_allow": (*SITES, "smtp.example.com"),
    "env": ("LANG", "APP_*"),
    "secrets": ("slack_*",),
}
EVENT = {"source": "task", "action": "failed", "metadata": '{"stack": "production"}'}
TASK = '{"task": {"task_name": "build", "agent_name": "web-1", "error": "disk full", "exit_code": 1}}'


def _answer(received: Received) -> Answer:
    if received.path.startswith("/missing"):
        return Answer(404, body=b"no such page")
    if received.path.startswith("/users/"):
        return Answer(headers={"Content-Type": "application/json"}, body=b'{"id": 7, "name": "Ada"}')
    return Answer(body=b"ok")


@pytest.fixture
def library(
    database: Database, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Library]:
    """The library with all that the page's fragments reach: servers, programs, files, variables and secrets."""
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("APP_REGION", "eu-1")
    monkeypatch.delenv("APP_MISSING", raising=False)
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\ntest "$1" = test && echo "3 tests passed"\n')
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    secrets.put(connection, lambda: key_ring.create(tmp_path / "secret.key"), "slack_token", b"xoxb-0123456789")
    tls = server_context(tmp_path, *SITES, "smtp.example.com")
    with serving(tls=tls) as site, post_office(tls=tls) as post:
        site.answer = _answer
        trust(monkeypatch, tmp_path / "ca.pem")
        resolve(monkeypatch, **{name.replace(".", "_"): (site.host, site.port) for name in SITES})
        resolve(monkeypatch, smtp_example_com=(post.host, post.port))
        grants = Grants(**GRANTS, file_roots=(tmp_path / "files",))
        settings = Settings(
            home=tmp_path, conninfo=None, policy=Policy(grants), hook_secret_key_file=tmp_path / "secret.key"
        )
        yield Library(Services(settings, database))


def run_once(text: str, event_type: str, data: str, stack: str | None, libraries: Mapping[str, str]) -> str:
    """The message of a run without effects, `filtered`, or `fails with` and the reason."""
    source, _, action = event_type.partition(".")
    row = event(data, json.dumps({"stack": stack} if stack else {}), source=source, action=action)
    result = runtime().run(program(text, "hook", libraries=libraries), 5.0, [row], threading.Event())
    outcome = outcome_of(result.codes[0])
    if outcome is Outcome.CONTINUE:
        return (result.outputs[0] or b"").decode().splitlines()[-1]
    return "filtered" if outcome is Outcome.FILTERED else f"fails with {(result.errors[0] or b'').decode()}"


def _program(fragment: str) -> str:
    modules = sorted(MODULES - {"event"})
    names, required = ", ".join(modules), ", ".join(f'require("{name}")' for name in modules)
    return f"""
local {names} = {required}
local inspect = (function(...) {INSPECT} end)(json.null)
local seen = json.array({{}})
local function see(line, ...)
  local values = {{}}
  for i = 1, select("#", ...) do values[i] = inspect((select(i, ...))) end
  seen[#seen + 1] = {{ line = line, values = table.concat(values, ", ") }}
end
local function see_error(line, f)
  local ok, message = pcall(f)
  message = tostring(message):gsub("^[%w_]+%.lua:%d+: ", "")
  seen[#seen + 1] = {{ line = line, values = ok and "no error" or "error: " .. message }}
end
do
{instrumented(fragment)}
end
return true, "SEEN " .. json.encode(seen)
"""


def _broken(block: Block, library: Library) -> Iterator[str]:
    """What the fragment promises and does not give."""
    result = execute(_program(block.text), event(TASK, **EVENT), within=runtime(library=library))
    if result.errors[0] is not None:
        yield f"{PAGE.name}:{block.line}: {result.errors[0].decode()}"
        return
    seen = json.loads(output(result).rpartition("SEEN ")[2])
    given = {each["line"]: each["values"] for each in seen}
    for each in promises(block.text):
        if not each.is_kept_by(given.get(each.line, "nothing")):
            place = f"{PAGE.name}:{block.line + each.line - 1}"
            yield f"{place}: {each.code}\n  promised {each.values}\n  gives    {given.get(each.line)}"


def test_every_fragment_gives_what_it_promises(library: Library) -> None:
    broken = [line for block in FRAGMENTS for line in _broken(block, library)]
    assert not broken, "\n".join(broken)


def test_every_fragment_promises_something() -> None:
    assert [block.line for block in FRAGMENTS if not list(promises(block.text))] == []


def test_every_file_of_the_page_is_one(tmp_path: Path) -> None:
    assert {block.language for block in BLOCKS} <= {"lua", "bash", "text", "toml", "python"}
    for block in FILES:
        if block.is_hook:
            assert read_definition(block.text, block.file or "", {"disks": "return {}"}).description, block.file
            assert block.runs, f"{PAGE.name}:{block.line}: no --> line says what a run comes to"


def _typed(shell: Shell, line: str) -> str:
    """What a command prints. A hook is live on every processor within a second, which is waited for."""
    printed = shell.run(line)
    if line.startswith("hep hook add"):
        time.sleep(1)
    return printed


def test_the_commands_work_in_their_order(
    hep: Hep, database: Database, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bash block, with the files that stand before it; the text block behind it is what it prints."""
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    shell = Shell(hep, database, tmp_path)
    printed = ""
    with running(database, tmp_path):
        for block in BLOCKS:
            if block.file:
                (tmp_path / block.file).parent.mkdir(exist_ok=True)
                (tmp_path / block.file).write_text(block.text)
            elif block.language == "bash":
                printed = "".join(_typed(shell, line) for line in block.text.splitlines())
                wait_for(lambda: all_processed(connection), 10)
            elif block.language == "text":
                assert prints(block.text, printed), f"{PAGE.name}:{block.line}: {printed}"


@pytest.mark.parametrize("block", [each for each in FILES if each.is_hook], ids=lambda block: block.file)
def test_every_hook_of_the_page_comes_to_what_it_says(block: Block) -> None:
    shared = {Path(each.file).stem: each.text for each in FILES if each.file and each.file.startswith("lib/")}
    for event_type, data, stack, outcome in block.runs:
        assert matches(outcome, run_once(block.text, event_type, data, stack, shared)), event_type


def test_the_policy_of_the_page_is_one(tmp_path: Path) -> None:
    (toml,) = [block for block in BLOCKS if block.language == "toml"]
    (tmp_path / "policy.toml").write_text(toml.text)
    policy = read_policy(tmp_path / "policy.toml", Grants())
    assert policy.grants("deploy", "production").exec == ("make", "/usr/local/bin/release")
    assert policy.grants("deploy", "web") == policy.default
    assert policy.grants("other", "production").http_allow == ("hooks.slack.com", "10.0.0.0/8")


def test_the_handlers_of_the_page_can_be_registered() -> None:
    (python,) = [block for block in BLOCKS if block.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(python.text, PAGE.name, "exec"), names)
    registry = EventHandlerRegistry()
    names["register"](registry)
    served_by = registry.candidates("CustomSource", "custom_action")[0]
    assert served_by.handler({"resource_id": "a"}).message == "seen a"
