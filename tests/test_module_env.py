"""env: the variables that hooks may read, and the secrets that no glob gives them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from chunks import error, execute, library, outcomes, output, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.settings import Settings

_ENV = 'local env, json = require("env"), require("json")\n'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("APP_", "PG", "DB_", "DATABASE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APP_REGION", "north")
    monkeypatch.setenv("APP_EMPTY", "")
    monkeypatch.setenv("OTHER", "private")


def _returns(expression: str, *granted: str, conninfo: str | None = None) -> Any:
    policy = Policy(Grants(env=granted))
    settings = Settings(home=Path("/nonexistent"), conninfo=conninfo, policy=policy)
    body = f"return true, json.encode({{{expression}}})"
    return json.loads(output(execute(_ENV + body, within=runtime(library=Library(Services(settings))))))


def _refused(expression: str, *granted: str) -> str:
    result = execute(_ENV + expression, within=runtime(library=library(env=granted)))
    assert outcomes(result) == [Outcome.FAILED]
    return error(result)


def test_a_variable_that_is_granted_is_read() -> None:
    assert _returns("env.get('APP_REGION'), env.get('APP_EMPTY')", "APP_*") == ["north", ""]
    assert _returns("env.get('APP_REGION', 'default')", "APP_REGION") == ["north"]


def test_one_that_is_not_set_is_nil_or_the_default() -> None:
    assert _returns("env.get('APP_NONE') == nil, env.get('APP_NONE', 'x'), env.get('APP_NONE', false)", "APP_*") == [
        True,
        "x",
        False,
    ]


def test_nothing_is_granted_by_default_and_the_error_names_the_setting() -> None:
    found = _refused("env.get('OTHER')")
    assert "the hook 'hook' may not use the variable OTHER: the permission 'env' is not granted" in found
    assert "HOOK_ENV" in found
    assert "OTHER" in _refused("env.get('OTHER', 'default')", "APP_*", "OTHER_*", "other")


def test_the_names_that_may_be_read_are_listed() -> None:
    assert _returns("env.list()", "APP_*") == [["APP_EMPTY", "APP_REGION"]]
    assert _returns("env.list()", "NONE_*") == [[]]
    assert _returns("env.list()") == [[]]


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "DATABASE_URL",
        "DATABASE_URL_REPLICA",
        "PGPASSWORD",
        "PGPASSFILE",
        "PGSSLPASSWORD",
        "PGSERVICEFILE",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "HEP_SECRET_KEY",
        "HOOK_SECRET_KEY",
        "db_password",
    ],
)
def test_attack_the_processors_own_secrets_by_a_glob(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3same")
    assert "may hold a secret of the processor's own" in _refused(f"env.get('{name}')", "*", name)
    assert name not in _returns("table.unpack(env.list())", "*", name)


@pytest.mark.parametrize(
    ("password", "within"), [("s3same", "s3same"), ("s3/s@me", "s3%2Fs%40me"), ("s3 same", "s3+same")]
)
@pytest.mark.parametrize("parameter", ["password", "sslpassword"])
def test_attack_the_databases_password_by_another_name(
    monkeypatch: pytest.MonkeyPatch, parameter: str, password: str, within: str
) -> None:
    monkeypatch.setenv("APP_DSN", f"mysql://app:{within}@db")
    assert _returns("env.get('APP_DSN')", "*", conninfo="host=db password=another") == [f"mysql://app:{within}@db"]
    settings = Settings(
        home=Path("/nonexistent"), conninfo=f"host=db {parameter}='{password}'", policy=Policy(Grants(env=("*",)))
    )
    lua = runtime(library=Library(Services(settings)))
    result = execute(_ENV + "env.get('APP_DSN')", within=lua)
    assert "may hold a secret of the processor's own" in error(result)
    assert within not in error(result)
    assert "APP_DSN" not in output(execute(_ENV + "return true, table.concat(env.list(), ' ')", within=lua))


@pytest.mark.parametrize("name", ["''", "'A=B'", "'A\\0B'", "('x'):rep(256)"])
def test_what_is_no_name_is_misuse(name: str) -> None:
    found = _refused(f"env.get({name})", "*")
    assert "env.get takes a name of 1 to 255 bytes" in found
    assert found.startswith("hook.lua:4:")


def test_a_name_that_is_no_text_is_refused_like_any_other() -> None:
    assert "may not use the variable \ufffd" in _refused("env.get('\\255')", "APP_*")
    assert _returns("env.get('\\255', 'none')", "*") == ["none"]
