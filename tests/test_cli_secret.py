"""`hep secret`: setting, listing, removing and rotating, without a value ever being shown."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Hep
from psycopg import Connection

from hook_event_processor.store import key_ring, secrets
from hook_event_processor.store.database import Database

TOKEN = "hunter2-0123456789"


@pytest.fixture
def home(hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path / "home"


def value(connection: Connection, home: Path, name: str) -> bytes:
    row = secrets.get(connection, name)
    assert row is not None
    return row.open(key_ring.create(home / "secret.key"))


def test_set_reads_standard_input_and_makes_the_key(hep: Hep, home: Path, connection: Connection) -> None:
    said = hep("secret", "set", "slack_token", stdin=f"{TOKEN}\n")
    key = key_ring.create(home / "secret.key").first
    assert said == f"stored: secret slack_token, encrypted with the key {key.id} of {home}/secret.key\n"
    assert (home / "secret.key").stat().st_mode & 0o777 == 0o600
    assert value(connection, home, "slack_token") == TOKEN.encode()


def test_set_again_changes_the_value(hep: Hep, home: Path, connection: Connection) -> None:
    hep("secret", "set", "slack_token", stdin=TOKEN)
    said = hep.document("secret", "set", "slack_token", "--format", "json", stdin="another")
    assert said == {"secret": "slack_token", "new": False, "key": key_ring.create(home / "secret.key").first.id}
    assert value(connection, home, "slack_token") == b"another"


def test_set_reads_a_file_of_any_bytes(hep: Hep, home: Path, connection: Connection, tmp_path: Path) -> None:
    (tmp_path / "key.bin").write_bytes(b"\0\xff\r\n two\nlines\r\n")
    hep("secret", "set", "binary", "--file", str(tmp_path / "key.bin"))
    assert value(connection, home, "binary") == b"\0\xff\r\n two\nlines"
    assert "cannot be read: No such file" in hep.fault("secret", "set", "x", "--file", str(tmp_path / "none"))


@pytest.mark.parametrize("surplus", [(TOKEN,), ("--", TOKEN), (f"--value={TOKEN}",), ("--value", TOKEN)])
def test_a_value_on_the_command_line_is_refused_and_not_repeated(
    hep: Hep, home: Path, connection: Connection, surplus: tuple[str, ...]
) -> None:
    finished = hep.run("secret", "set", "slack_token", *surplus)
    assert finished.status == 2
    assert "takes the value from standard input or --file" in finished.fault
    assert TOKEN not in finished.errors
    assert secrets.get(connection, "slack_token") is None


def _at_a_terminal(database: Database, home: Path, *typed: str) -> tuple[int, str]:
    """Exit status and screen of `hep secret set slack_token`, typed at once."""
    main, terminal = pty.openpty()
    environment = {**os.environ, "DATABASE_URL": database.conninfo, "HEP_HOME": str(home)}
    command = [sys.executable, "-m", "hook_event_processor", "secret", "set", "slack_token"]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=home, start_new_session=True
    ) as process:
        os.close(terminal)
        screen = b""
        deadline = time.monotonic() + 20
        try:
            while chunk := os.read(main, 1000):
                screen += chunk
                if typed and chunk.endswith(b": "):
                    os.write(main, f"{typed[0]}\n".encode())
                    typed = typed[1:]
                assert time.monotonic() < deadline, screen
        except OSError:  # so a terminal ends whose other side is closed
            pass
        status = process.wait(10)
    os.close(main)
    return status, screen.decode()


def test_an_end_at_a_terminal_stores_nothing_and_says_so(
    hep: Hep, home: Path, database: Database, connection: Connection
) -> None:
    home.mkdir()
    status, screen = _at_a_terminal(database, home, "\x04")
    assert (status, "no value was given: nothing was stored" in screen) == (2, True), screen
    assert secrets.get(connection, "slack_token") is None


def test_set_asks_at_a_terminal_without_showing(
    hep: Hep, home: Path, database: Database, connection: Connection
) -> None:
    home.mkdir()
    status, screen = _at_a_terminal(database, home, TOKEN, TOKEN)
    assert status == 0, screen
    assert "Value of slack_token: " in screen
    assert TOKEN not in screen
    assert value(connection, home, "slack_token") == TOKEN.encode()
    status, screen = _at_a_terminal(database, home, TOKEN, "a slip")
    assert (status, "the two values differ: nothing was stored" in screen) == (2, True)


def test_the_products_own_names_are_refused(hep: Hep, home: Path) -> None:
    for name in ("database_url", "db_password", "hep_secret_key"):
        assert f"the name '{name}' is the product's own" in hep.fault("secret", "set", name, stdin=TOKEN)


def test_a_name_is_letters_digits_and_little_else(hep: Hep, home: Path) -> None:
    for name in ("", "a/b", "..", ".x", "é", "x" * 129):
        assert "is no name for a secret" in hep.fault("secret", "set", name, stdin=TOKEN)


def test_a_value_has_its_bounds_and_is_never_quoted(hep: Hep, home: Path) -> None:
    short = hep.fault("secret", "set", "pin", stdin="qzx\n")
    assert "the value is shorter than 4 bytes" in short
    assert "qzx" not in short
    assert "the value has 65538 bytes: at most 65536" in hep.fault("secret", "set", "long", stdin="v" * 70_000)
    assert not (home / "secret.key").exists()


def test_a_value_on_the_command_line_is_refused(hep: Hep, home: Path) -> None:
    assert hep.run("secret", "set", "slack_token", TOKEN).status == 2


def test_list_shows_names_times_and_keys_only(hep: Hep, home: Path) -> None:
    assert hep("secret", "list") == "No secrets.\n"
    for name in ("beta", "alpha"):
        hep("secret", "set", name, stdin=TOKEN)
    header, first, second, total = hep("secret", "list").splitlines()
    assert header.split() == ["Name", "Created", "Set", "Key"]
    assert (first.split()[0], second.split()[0], total) == ("alpha", "beta", "2 secrets")
    documents = hep.document("secret", "list", "--format", "json")
    assert [set(document) for document in documents] == [{"name", "key", "created_at", "updated_at"}] * 2


def test_remove_takes_a_secret_away(hep: Hep, home: Path, connection: Connection) -> None:
    hep("secret", "set", "slack_token", stdin=TOKEN)
    assert hep("secret", "remove", "slack_token") == "removed: secret slack_token\n"
    assert secrets.known(connection) == []
    assert "there is no secret 'slack_token'" in hep.fault("secret", "remove", "slack_token")


def test_rotate_replaces_the_key(hep: Hep, home: Path, connection: Connection) -> None:
    assert "there is no key" in hep.fault("secret", "rotate")
    for name in ("one", "two"):
        hep("secret", "set", name, stdin=TOKEN)
    before = key_ring.create(home / "secret.key")
    said = hep("secret", "rotate")
    after = key_ring.create(home / "secret.key")
    assert said == f"2 secrets encrypted anew with the key {after.first.id} of {home}/secret.key\n"
    assert (len(after.keys), after.first != before.first) == (1, True)
    assert value(connection, home, "two") == TOKEN.encode()
    kept = hep.document("secret", "rotate", "--keep-old", "--format", "json")
    assert kept["secrets"] == 2
    assert key_ring.create(home / "secret.key").keys[1:] == after.keys


def test_the_key_file_can_lie_elsewhere(hep: Hep, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET_KEY_FILE", str(tmp_path / "keys" / "hooks"))
    hep("secret", "set", "slack_token", stdin=TOKEN)
    assert (tmp_path / "keys" / "hooks").is_file()
    assert not home.exists()
    monkeypatch.setenv("HOOK_SECRET_KEY_FILE", "relative")
    assert "HOOK_SECRET_KEY_FILE is 'relative': it takes an absolute path" in hep.fault("secret", "list")


def test_an_open_key_file_is_refused(hep: Hep, home: Path) -> None:
    hep("secret", "set", "slack_token", stdin=TOKEN)
    (home / "secret.key").chmod(0o644)
    assert "is open to others: chmod 600" in hep.fault("secret", "set", "another", stdin=TOKEN)
