"""What hooks may use: the settings, refined by stack and hook in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hook_event_processor import settings
from hook_event_processor.errors import SettingsError
from hook_event_processor.policy import Grants, Policy

FILE = """
[stack.production]
exec = ["systemctl", "/usr/bin/make"]
env = ["APP_*"]

[hook.deploy]
exec = true
http_allow = ["*", "10.0.0.0/8"]
secrets = ["deploy_*"]

[hook.quiet]
exec = false
file_roots = []
"""


def _load(tmp_path: Path, **variables: str) -> settings.Settings:
    return settings.load({"HEP_HOME": str(tmp_path), **variables}, tmp_path / "none")


def test_by_default_hooks_reach_public_hosts_and_one_directory(tmp_path: Path) -> None:
    grants = _load(tmp_path).policy.grants("any", "production")
    assert grants == Grants(exec=False, http_allow=("*",), file_roots=(tmp_path / "files",), env=(), secrets=())


def test_without_a_word_a_hook_may_start_no_program() -> None:
    grants = Policy().grants("any", None)
    assert grants == Grants(exec=False, http_allow=("*",), http_deny=(), file_roots=(), env=(), secrets=())


def test_variables_grant_to_all_hooks(tmp_path: Path) -> None:
    loaded = _load(tmp_path, HOOK_EXEC="make, systemctl", HOOK_ENV="PATH", HOOK_FILE_ROOTS="/srv/a:/srv/b")
    grants = loaded.policy.grants("any", None)
    assert (grants.exec, grants.env) == (("make", "systemctl"), ("PATH",))
    assert grants.file_roots == (Path("/srv/a"), Path("/srv/b"))
    assert _load(tmp_path, HOOK_EXEC="on").policy.grants("any", None).exec is True


def test_a_file_refines_by_stack_and_then_by_hook(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(FILE)
    policy = _load(tmp_path, HOOK_POLICY=str(file), HOOK_EXEC="ls").policy
    assert policy.grants("other", None).exec == ("ls",)
    assert policy.grants("other", "production").exec == ("systemctl", "/usr/bin/make")
    deploy = policy.grants("deploy", "production")
    assert (deploy.exec, deploy.env, deploy.secrets) == (True, ("APP_*",), ("deploy_*",))
    assert (policy.grants("quiet", None).exec, policy.grants("quiet", None).file_roots) == (False, ())


def test_an_entry_of_a_hook_may_name_the_stack_that_it_must_have(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        FILE + "\n[hook.release]\nstack = 'production'\nexec = true\n[hook.tidy]\nstack = ''\nexec = true\n"
    )
    policy = _load(tmp_path, HOOK_POLICY=str(file)).policy
    assert policy.grants("release", "production") == Grants(True, file_roots=(tmp_path / "files",), env=("APP_*",))
    assert policy.grants("tidy", None).exec is True
    for other in ("web", "", None):
        assert policy.grants("release", other) == policy.default
    for other in ("web", "production"):
        assert policy.grants("tidy", other) == policy.grants("other", other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("exec = true", "unknown entry 'exec'; known are [stack.NAME] and [hook.NAME]"),
        ("hook = 5", "unknown entry 'hook'"),
        ("[user.a]\nexec = true", "unknown entry 'user'"),
        ("[stack]\na = 5", "[stack.a] takes a table of exec, http_allow"),
        ("[hook.a]\nexce = true", "[hook.a]: unknown key 'exce'; known are stack, exec, http_allow"),
        ("[hook.a]\nexec = 'ls'", "exec is 'ls': it takes true, false or a list of programs"),
        ("[hook.a]\nstack = ['b']", "[hook.a]: stack is ['b']: it takes a stack's name, or '' for none"),
        ("[stack.a]\nstack = 'b'", "[stack.a]: unknown key 'stack'; known are exec, http_allow"),
        ("[stack.a]\nenv = [1]", "env is [1]: it takes a list of strings"),
        ("[stack.a]\nfile_roots = ['files']", "file_roots has 'files': it takes absolute paths"),
        ("[hook.a]\nhttp_allow = ['10.0.0.0/8:99999']", "it takes 1 to 65535"),
        ("[hook", "policy.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(content)
    with pytest.raises(SettingsError) as refusal:
        _load(tmp_path, HOOK_POLICY=str(file))
    assert reason in str(refusal.value)


def test_all_wrong_variables_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        _load(tmp_path, HOOK_HTTP_DENY="no host", HOOK_FILE_ROOTS="files", HOOK_POLICY="/nonexistent/policy.toml")
    for name in ("HOOK_HTTP_DENY", "HOOK_FILE_ROOTS", "HOOK_POLICY"):
        assert name in str(refusal.value)
