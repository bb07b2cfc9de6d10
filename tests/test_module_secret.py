"""secret: who gets a value, where it comes from, and that it is recorded nowhere."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from chunks import error, event, execute, output, program, run, runtime
from lupa.lua54 import LuaError
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from running import add_hook, count, insert, running, state
from waiting import wait_for

from hook_event_processor.errors import SecretRefused
from hook_event_processor.lua.door import Library, Services
from hook_event_processor.lua.modules import secret as module
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.run import ChunkResult
from hook_event_processor.settings import Settings
from hook_event_processor.store import key_ring, secrets
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import psql_program

TOKEN = b"hunter2-0123456789-swordfish"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


class Hooks:
    """Runs hooks that are granted the secrets slack_*."""

    def __init__(self, database: Database | None, home: Path) -> None:
        policy = Policy(
            Grants(secrets=("slack_*",)), {"production": {"secrets": ("db_main",)}}, {"backup": {"secrets": ("*",)}}
        )
        self.settings = Settings(home=home, conninfo=None, policy=policy)
        self.runtime = runtime(library=Library(Services(self.settings, database)))

    def run(self, body: str, **options: Any) -> ChunkResult:
        return execute(f'local secret = require("secret")\n{body}', within=self.runtime, **options)


@pytest.fixture
def hooks(database: Database, tmp_path: Path) -> Hooks:
    return Hooks(database, tmp_path)


def put(connection: Connection, home: Path, name: str, value: bytes = TOKEN) -> None:
    secrets.put(connection, lambda: key_ring.create(home / "secret.key"), name, value)


def test_a_granted_secret_is_what_was_stored(hooks: Hooks, connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    body = 'return true, #secret.get("slack_token") .. secret.get("slack_token"):sub(1, 3):reverse()'
    assert output(hooks.run(body)) == f"{len(TOKEN)}nuh"


def test_what_the_runner_itself_fails_with_tells_no_secret(
    hooks: Hooks, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(connection, tmp_path, "slack_token")
    text = 'return { execute = function() return true, require("secret").get("slack_token") end }'
    run_chunk = hooks.runtime._run_chunk

    def fail(*arguments: Any) -> ChunkResult:
        run_chunk(*arguments)
        raise LuaError(f"runner.lua:1: {TOKEN.decode()} and more")

    monkeypatch.setattr(hooks.runtime, "_run_chunk", fail)
    with pytest.raises(RuntimeError, match=r"^runner\.lua:1: \*\*\* and more$") as raised:
        hooks.runtime.run(program(text, "hook"), 5.0, [event()], threading.Event())
    assert raised.value.__suppress_context__


CUT_OFF = {
    "a method": 'http.request({method = X:rep(32) .. token, url = "http://a"})',
    "the name of a header": 'http.get("http://a", {headers = {[" " .. X:rep(51) .. token] = "1"}})',
    "an address": 'notify.email({smtp_host = "a", from = X:rep(72) .. token, to = "b@c.d", subject = "", body = ""})',
    "an algorithm": 'crypto.hmac(X:rep(32) .. token, "", "")',
    "a zone": 'raise(time.format(0, "%H", X:rep(56) .. token))',
    "a pattern": 'regex.find("", "(" .. X:rep(71) .. token)',
    "a key": 'local key = X:rep(32) .. token raise(yaml.decode(key .. ": 1\\n" .. key .. ": 1"))',
    "a value": 'raise(yaml.decode("!!int " .. X:rep(32) .. token))',
    "a tag": 'raise(yaml.decode("!" .. X:rep(31) .. token .. " 1"))',
    "a test": 'raise(template.render("{{ a|select(b)|list }}", {a = {1}, b = X:rep(32) .. token}))',
    "a filter": 'raise(template.render("{{ 1|" .. X:rep(34) .. token:sub(1, 7) .. " }}"))',
}
HEAD = """
local X, token = "x", secret.get("slack_token")
local crypto, http, notify, regex = require("crypto"), require("http"), require("notify"), require("regex")
local template, time, yaml = require("template"), require("time"), require("yaml")
local function raise(_, reason) error(reason) end
"""


@pytest.mark.parametrize("kind", CUT_OFF)
def test_the_beginning_of_a_secret_is_hidden_where_an_error_cuts_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "slack_token").write_bytes(TOKEN)
    said = error(Hooks(None, tmp_path).run(HEAD + CUT_OFF[kind]))
    assert "***[cut]" in said
    assert TOKEN[:2].decode() not in said


def test_a_secret_that_is_not_there_is_nil_and_a_reason(hooks: Hooks) -> None:
    assert output(hooks.run('print(secret.get("slack_none")) return true')) == (
        "nil\tthere is no secret 'slack_none': 'hep secret set slack_none' adds it"
    )


def test_a_secret_that_is_not_granted_is_refused_whether_it_is_there_or_not(hooks: Hooks) -> None:
    said = error(hooks.run('secret.get("db_main")'))
    assert said.startswith("hook.lua:4: the hook 'hook' may not use the secret 'db_main'")
    assert "HOOK_SECRETS" in said


def test_the_products_own_credentials_are_no_secrets_of_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    used = Library(Services(Settings(home=tmp_path, conninfo=None, policy=Policy(Grants(secrets=("*",))))))
    for name in ("database_url", "db_password", "hep_secret_key"):
        (tmp_path / name).write_text("postgresql://user:password@host/database")
        body = f'require("secret").get("{name}")'
        assert "is the product's own" in error(execute(body, within=runtime(library=used)))


def test_a_name_that_is_no_name_is_refused(hooks: Hooks) -> None:
    for name in ("../slack_x", "slack_/etc/passwd", "", ".slack_", "slack_\\0", "slack_" + "x" * 200):
        assert "is no name for a secret" in error(hooks.run(f'secret.get("{name}")'))


def test_misuse_names_the_function(hooks: Hooks) -> None:
    assert error(hooks.run("secret.get({})")).startswith("hook.lua:4: secret.get takes a name, not a table")


def test_a_credential_of_systemd_comes_first(
    hooks: Hooks, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(connection, tmp_path, "slack_token")
    (tmp_path / "slack_token").write_bytes(b"from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert output(hooks.run('return true, secret.get("slack_token"):reverse()')) == "dmetsys morf"


def test_a_credential_too_short_to_hide_is_not_handed_out(
    hooks: Hooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slack_pin").write_bytes(b"abc\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    said = output(hooks.run('print(secret.get("slack_pin")) return true'))
    assert said.startswith("nil\tthe secret 'slack_pin' cannot be read: the value is shorter than 4 bytes")


def test_a_changed_value_is_live_after_a_short_time(
    hooks: Hooks, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = 'return true, secret.get("slack_token"):reverse()'
    put(connection, tmp_path, "slack_token", b"first")
    assert output(hooks.run(body)) == "tsrif"
    put(connection, tmp_path, "slack_token", b"second")
    assert output(hooks.run(body)) == "tsrif"
    monkeypatch.setattr(module, "monotonic", lambda: 1e12)
    assert output(hooks.run(body)) == "dnoces"


def test_rows_cannot_be_exchanged(hooks: Hooks, connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    put(connection, tmp_path, "other")
    connection.execute(
        "UPDATE hook_secrets SET ciphertext = (SELECT ciphertext FROM hook_secrets WHERE name = 'other')"
        " WHERE name = 'slack_token'"
    )
    assert "its row was changed" in output(hooks.run('print(secret.get("slack_token")) return true'))


def test_a_row_of_another_schema_cannot_stand_in(connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    row = secrets.get(connection, "slack_token")
    ring = key_ring.create(tmp_path / "secret.key")
    assert row is not None
    assert row.open(ring) == TOKEN
    with pytest.raises(SecretRefused, match="comes from another schema"):
        secrets.Sealed(row.name, row.key_id, row.ciphertext, "elsewhere").open(ring)


def test_a_missing_key_is_named(hooks: Hooks, connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    ring = key_ring.create(tmp_path / "secret.key")
    key_ring.write(tmp_path / "secret.key", (key_ring.Key.new(),))
    said = output(hooks.run('print(secret.get("slack_token")) return true'))
    assert f"it is encrypted with the key {ring.first.id}, which is not in the key file" in said


def test_a_rotation_between_the_row_and_its_key_is_not_seen(
    hooks: Hooks, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(connection, tmp_path, "slack_token")
    load = key_ring.load

    def load_after_a_rotation(settings: Settings) -> key_ring.KeyRing | None:
        secrets.rotate(connection, lambda: key_ring.create(tmp_path / "secret.key"))
        return load(settings)

    monkeypatch.setattr(key_ring, "load", load_after_a_rotation)
    assert output(hooks.run('return true, #secret.get("slack_token")')) == str(len(TOKEN))


def test_a_lost_database_is_a_reason_and_no_hang(server: Any, tmp_path: Path) -> None:
    hooks = Hooks(Database(make_conninfo(server.conninfo, port=1)), tmp_path)
    assert output(hooks.run('print(secret.get("slack_token")) return true', timeout=30)) == (
        "nil\tthe secret 'slack_token' cannot be read: the database cannot be reached in time"
    )


def test_policy_refines_by_stack_and_hook(database: Database, connection: Connection, tmp_path: Path) -> None:
    policy = Hooks(database, tmp_path).settings.policy
    assert policy.grants("any", "production").secrets == ("db_main",)
    assert policy.grants("backup", "production").secrets == ("*",)


def test_each_run_of_a_chunk_is_masked(hooks: Hooks, connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    text = (
        'local secret, log = require("secret"), require("log")\n'
        "return {execute = function(event)\n"
        '  log.warn("sent", {token = secret.get("slack_token")})\n'
        '  if event.data.fail then error("https://x/?t=" .. secret.get("slack_token")) end\n'
        '  return true, secret.get("slack_token")\nend}'
    )
    result = run(text, event(), event('{"fail": true}'), within=hooks.runtime)
    assert result.outputs == [b"WARN sent token=***\n***", b"WARN sent token=***"]
    assert (result.errors[1] or b"").startswith(b"hook.lua:4: https://x/?t=***\n")


def test_output_that_was_cut_off_in_a_secret_tells_none_of_it(
    hooks: Hooks, connection: Connection, tmp_path: Path
) -> None:
    put(connection, tmp_path, "slack_token")
    for kept in range(1, len(TOKEN)):
        body = f'print(("."):rep(65536 - {kept}) .. secret.get("slack_token")) return true'
        said = output(hooks.run(body))
        assert said.rstrip("hu").endswith("***\n[output cut at 65536 bytes]") or kept == 1, said[-60:]
        assert TOKEN[:2].decode() not in said


def test_an_error_that_was_cut_off_in_a_secret_tells_none_of_it(
    hooks: Hooks, connection: Connection, tmp_path: Path
) -> None:
    put(connection, tmp_path, "slack_token")
    for kept in range(2, len(TOKEN)):
        said = error(hooks.run(f'return false, ("."):rep(16384 - {kept}) .. secret.get("slack_token")'))
        assert said.endswith("***\n[error cut]")
        assert TOKEN[:2].decode() not in said


def test_state_refuses_a_secret(database: Database, connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    hooks = Hooks(database, tmp_path)
    for stored in ('set("k", {secret.get("slack_token")})', 'set(secret.get("slack_token"), 1)'):
        assert "holds a secret, which must not be stored" in error(hooks.run(f'require("state").{stored}'))
    assert connection.execute("SELECT count(*) FROM hook_state").fetchone() == (0,)


@pytest.mark.parametrize(
    "written",
    [
        'require("yaml").encode({key = key})',
        'require("template").render("key: |\\n    {{ k|indent(4) }}", {k = key})',
        '(key:gsub("\\n", "\\r\\n"))',
    ],
)
def test_a_secret_of_several_lines_stays_hidden_when_it_is_written_anew(
    hooks: Hooks, connection: Connection, tmp_path: Path, written: str
) -> None:
    key = b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % base64.encodebytes(bytes(range(116)))
    put(connection, tmp_path, "slack_key", key)
    said = output(hooks.run(f'local key = secret.get("slack_key") print({written}) return true'))
    assert "***" in said
    assert not any(line in said for line in key.decode().splitlines())
    stored = hooks.run(f'local key = secret.get("slack_key") require("state").set("cfg", {written})')
    assert "holds a secret, which must not be stored" in error(stored)
    result = hooks.run(f'local key = secret.get("slack_key") event.dispatch("x.y", {{cfg = {written}}}) return true')
    [[dispatched]] = result.dispatched.values()
    assert b"***" in dispatched.data
    assert key.splitlines()[1] not in dispatched.data


LEAKS = """
local secret, log, crypto, state = require("secret"), require("log"), require("crypto"), require("state")
local hook = {}
function hook.execute(event)
  local token = secret.get("slack_token")
  local kind = event.data.kind
  if kind == "log" then log.error("the token is " .. token, {token = token}) end
  if kind == "print" then print(token:sub(1, 10)) print(token:sub(11)) end
  if kind == "message" then return true, "token " .. token end
  if kind == "base64" then print(crypto.base64_encode("user:" .. token)) end
  if kind == "hex" then print((token:gsub(".", function(c) return string.format("%02X", c:byte()) end))) end
  if kind == "url" then print((token:gsub("[^%w]", function(c) return string.format("%%%02x", c:byte()) end))) end
  if kind == "state" then state.set("token", token) end
  if kind == "error" then error("GET https://example.com/?token=" .. token .. " failed") end
  if kind == "false" then return false, token end
  if kind == "raised" then error({token}) end
  if kind == "result" then return token end
  if kind == "http" then print(require("http").get("http://127.0.0.1:1/?token=" .. token)) end
  local child = {[token] = {token}, text = "is " .. token}
  if kind == "dispatch" then event.dispatch("leak.child", child, {stack = token}) end
  if kind == "type" then event.dispatch("leak." .. token, {}) end
end
return hook
"""
KINDS = (
    *("log", "print", "message", "base64", "hex", "url", "state", "error", "false", "raised", "result", "http"),
    *("dispatch", "type"),
)


def test_a_secret_is_nowhere_in_the_database_and_the_log(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    """A hook puts it into everything that it can reach; a dump and the log are searched for it in many forms."""
    put(connection, tmp_path, "slack_token")
    add_hook(connection, "leaks", "leak.now", LEAKS)
    add_hook(connection, "children", "leak.*", 'return {execute = function(e) return true, e.type .. "" end}')
    policy = Policy(Grants(secrets=("*",), http_allow=("127.0.0.1",)))
    with running(database, tmp_path, policy=policy, log_level="DEBUG", max_retry_count=1) as process:
        events = [insert(connection, "leak.now", f'{{"kind": "{kind}"}}')[0] for kind in KINDS]
        wait_for(lambda: all(state(connection, event) in ("completed", "failed") for event in events), 20)
        wait_for(lambda: count(connection, "source = 'leak' AND action <> 'now' AND processed") == 2, 10)
        wait_for(lambda: len(process.said("leaks: ")) >= len(KINDS), 5)
    _check_that_it_did_so(connection, events)
    for text in (_dump(database), process.log_path.read_bytes()):
        assert b"leaks" in text
        for written in _written():
            assert written not in text


def _check_that_it_did_so(connection: Connection, events: list[UUID]) -> None:
    """Every kind left its trace, masked."""
    rows = connection.execute(
        "SELECT event_id, coalesce(output, '') || coalesce(error, '') FROM event_hook_executions"
        " WHERE hook_name = 'leaks'"
    ).fetchall()
    said = dict(rows)
    for identity, kind in zip(events, KINDS, strict=True):
        if kind not in ("raised", "result", "http", "dispatch", "type", "state"):
            assert "***" in said[identity], (kind, said[identity])
    child = connection.execute("SELECT payload, metadata->>'stack' FROM hook_events WHERE action = 'child'").fetchone()
    assert child == ({"***": ["***"], "text": "is ***"}, "***")


def _dump(database: Database) -> bytes:
    """The database as a dump, with bytea in full."""
    program = psql_program().with_name("pg_dump")
    finished = subprocess.run(
        [program, "--inserts", "-d", database.conninfo], capture_output=True, check=True, timeout=60
    )
    return finished.stdout


def _written() -> list[bytes]:
    """Forms of the token, and halves of it."""
    half = len(TOKEN) // 2
    plain = [TOKEN, TOKEN[:half], TOKEN[half:]]
    encoded = [base64.b64encode(b"." * shift + TOKEN)[4:-4] for shift in range(3)]
    return [
        *plain,
        *encoded,
        *(part.hex().encode() for part in plain),
        *(part.hex().upper().encode() for part in plain),
    ]


def test_rotation_keeps_every_value(connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    for n in range(5):
        put(connection, tmp_path, f"s{n}", TOKEN + str(n).encode())
    before = key_ring.create(file)
    changed, ring = secrets.rotate(connection, lambda: key_ring.create(file))
    assert (changed, len(ring.keys)) == (5, 1)
    assert ring.first != before.first
    assert {known.key_id for known in secrets.known(connection)} == {ring.first.id}
    for n in range(5):
        row = secrets.get(connection, f"s{n}")
        assert row is not None
        assert row.open(key_ring.create(file)) == TOKEN + str(n).encode()


@pytest.mark.parametrize("written", [1, 2])
def test_a_rotation_that_is_interrupted_loses_nothing(
    written: int, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once the file has the new key, or before the old one has left it: all is readable, and it runs again."""
    file = tmp_path / "secret.key"
    put(connection, tmp_path, "one")
    write, calls = key_ring.write, []

    def killed(path: Path, keys: tuple[key_ring.Key, ...]) -> key_ring.KeyRing:
        calls.append(keys)
        if len(calls) == 2:
            raise KeyboardInterrupt
        ring = write(path, keys)
        if written == 1:
            raise KeyboardInterrupt
        return ring

    monkeypatch.setattr(key_ring, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        secrets.rotate(connection, lambda: key_ring.create(file))
    monkeypatch.setattr(key_ring, "write", write)
    assert (len(calls), len(key_ring.create(file).keys)) == (written, 2)
    for _ in range(2):
        row = secrets.get(connection, "one")
        assert row is not None
        assert row.open(key_ring.create(file)) == TOKEN
        changed, ring = secrets.rotate(connection, lambda: key_ring.create(file))
        assert (changed, len(ring.keys)) == (1, 1)


def test_what_is_set_during_rotations_is_not_lost(database: Database, connection: Connection, tmp_path: Path) -> None:
    """Two rotate and one sets, all at once: every value that was set last can be read."""
    file = tmp_path / "secret.key"
    put(connection, tmp_path, "s0")

    def rotate(_: int) -> None:
        with database.session("tests") as session:
            for _ in range(6):
                secrets.rotate(session, lambda: key_ring.create(file))

    def set_many() -> None:
        with database.session("tests") as session:
            for n in range(40):
                put(session, tmp_path, f"s{n % 8}", TOKEN + str(n).encode())

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(rotate, 1), threads.submit(rotate, 2), threads.submit(set_many)]:
            done.result(60)
    ring = key_ring.create(file)
    for n in range(32, 40):
        row = secrets.get(connection, f"s{n % 8}")
        assert row is not None
        assert row.open(ring) == TOKEN + str(n).encode()
    assert len(ring.keys) == 1


def test_a_secret_that_cannot_be_decrypted_stops_a_rotation_and_changes_nothing(
    connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "secret.key"
    put(connection, tmp_path, "good")
    put(connection, tmp_path, "zombie")
    connection.execute("UPDATE hook_secrets SET key_id = 'gone' WHERE name = 'zombie'")
    before = file.read_bytes()
    with pytest.raises(SecretRefused, match="nothing was changed: the secret 'zombie' cannot be decrypted"):
        secrets.rotate(connection, lambda: key_ring.create(file))
    assert file.read_bytes() == before
    row = secrets.get(connection, "good")
    assert row is not None
    assert row.open(key_ring.create(file)) == TOKEN


def test_a_credentials_first_key_is_what_a_rotation_leads_to(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials" / key_ring.CREDENTIAL
    file.parent.mkdir()
    settings = Settings(home=tmp_path, conninfo=None)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    old, new = key_ring.Key.new(), key_ring.Key.new()

    def ring() -> key_ring.KeyRing:
        loaded = key_ring.load(settings)
        assert loaded is not None
        return loaded

    key_ring.write(file, (old,))
    secrets.put(connection, ring, "one", TOKEN)
    key_ring.write(file, (new, old))
    changed, used = secrets.rotate(connection, ring)
    assert (changed, used.first, used.path) == (1, new, None)
    key_ring.write(file, (new,))
    row = secrets.get(connection, "one")
    assert row is not None
    assert row.open(ring()) == TOKEN


def test_the_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret.key"
    ring = key_ring.create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert key_ring.create(file) == ring
    assert [path.name for path in file.parent.iterdir()] == ["secret.key"]
    file.chmod(0o644)
    with pytest.raises(SecretRefused, match=f"is open to others: chmod 600 {file}"):
        key_ring.load(Settings(home=file.parent, conninfo=None))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_key_file_that_cannot_be_written_leaves_no_keys_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    file = tmp_path / "secret.key"
    ring = key_ring.create(file)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(SecretRefused, match=r"cannot be written: No space left"):
        key_ring.write(file, (key_ring.Key.new(),))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert key_ring.load(Settings(home=tmp_path, conninfo=None)) == ring


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_a_key_file_that_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret.key"
    file.parent.mkdir()
    os.chown(file.parent, 65534, 65534)
    key_ring.create(file)
    assert file.stat().st_uid == 65534
    os.chown(file, 65533, 65533)
    key_ring.write(file, (key_ring.Key.new(),))
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (65533, 0o600)


def test_a_damaged_key_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    for text, said in (("c2hvcnQ=\n", "a line that is no key"), ("# nothing\n", "holds no key")):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(SecretRefused, match=said) as refusal:
            key_ring.load(Settings(home=tmp_path, conninfo=None))
        assert "c2hvcnQ" not in str(refusal.value)


def test_the_number_of_secrets_is_bounded(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 2)
    for name in ("a", "b"):
        put(connection, tmp_path, name)
    put(connection, tmp_path, "a", b"another value")
    with pytest.raises(SecretRefused, match="there are 2 secrets"):
        put(connection, tmp_path, "c")


def test_a_row_in_the_table_holds_no_value(connection: Connection, tmp_path: Path) -> None:
    put(connection, tmp_path, "slack_token")
    put(connection, tmp_path, "same")
    rows = connection.execute("SELECT ciphertext FROM hook_secrets").fetchall()
    assert all(TOKEN not in bytes(row[0]) for row in rows)
    assert rows[0][0] != rows[1][0]
