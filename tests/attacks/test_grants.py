"""Attacks on what policy grants: one hook's secrets in the hands of another, and names that lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from chunks import error, execute, output, run, runtime

from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.settings import Settings

VALUE = "s3same-0123456789"
READS = 'return { execute = function() return true, #require("secret").get("deploy_key") end }'


@pytest.fixture
def within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The hook `deploy` may read the secret deploy_key and any that begins so; others read those of app_.

    `rollout` may as well, if it is one of the stack production.
    """
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "deploy_key").write_text(VALUE)
    (tmp_path / "app_outside").write_text(VALUE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    own = {"secrets": ("deploy_*",)}
    policy = Policy(
        Grants(secrets=("app_*", "..*", "*/app_*")),
        hooks={"deploy": own, "rollout": own},
        hooks_of={"rollout": "production"},
    )
    return runtime(library=Library(Services(Settings(home=tmp_path, conninfo=None, policy=policy))))


def test_a_secret_of_another_hook_is_refused(within: Runtime) -> None:
    assert output(run(READS, within=within, name="deploy")) == str(len(VALUE))
    # What one hook read a moment ago is kept, and no other hook gets it.
    for name in ("other", "deploy2", "Deploy"):
        said = error(run(READS, within=within, name=name))
        assert f"the hook '{name}' may not use the secret 'deploy_key'" in said
        assert VALUE not in said


def test_a_hook_of_another_stack_under_a_granted_name_is_refused(within: Runtime) -> None:
    assert output(run(READS, within=within, name="rollout", stack="production")) == str(len(VALUE))
    for stack in ("web", "Production", None):
        said = error(run(READS, within=within, name="rollout", stack=stack))
        assert "the hook 'rollout' may not use the secret 'deploy_key'" in said
        assert VALUE not in said


def test_a_name_that_leads_out_of_the_credentials_is_none(within: Runtime) -> None:
    for name in ("../app_outside", "..\\0/app_outside", "./../app_outside"):
        assert "is no name for a secret" in error(execute(f'require("secret").get("{name}")', within=within))
