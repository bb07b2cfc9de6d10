"""TLS to a real PostgreSQL: its certificate and its name are verified, and nothing goes on without."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import certificates
import psycopg
import pytest
from commands import Hep
from ports import free_ports
from psycopg.conninfo import make_conninfo
from running import all_processed, running
from waiting import wait_for

from hook_event_processor.store.database import Database

PASSWORD = "over-tls-alone"


def _binaries() -> Path:
    """Those of the distribution: the wheel's PostgreSQL is built without TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found and not os.environ.get("CI"):
        pytest.skip("the distribution's PostgreSQL is not installed")
    return found[-1].parent


@pytest.fixture(scope="module")
def authority(reachable_path: Path) -> Path:
    """The certificate of a server named localhost, and of no other name."""
    folder = reachable_path / "tls"
    folder.mkdir(mode=0o755)
    certificates.server_context(folder, "localhost")
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def server_parameters(reachable_path: Path, authority: Path) -> Iterator[dict[str, str]]:
    """A server that takes connections over TLS alone, with a password; what libpq needs but for how it verifies."""
    binaries, folder = _binaries(), reachable_path / "tls-server"
    account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder.mkdir(mode=0o700)
    (folder / "password").write_text(PASSWORD)
    for name in ("ca.pem", "key.pem"):
        shutil.copyfile(authority.parent / name, folder / name)
    (folder / "key.pem").chmod(0o600)
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, account)
    user = {"user": account} if os.geteuid() == 0 else {}
    initdb = [binaries / "initdb", "-D", folder / "data", "-U", "hep", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run(
        [*initdb, f"--pwfile={folder / 'password'}"], check=True, capture_output=True, cwd="/", timeout=60, **user
    )
    (folder / "data/pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    [port] = free_ports(1)
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(folder / "ca.pem"),
        "ssl_key_file": str(folder / "key.pem"),
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "off",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", *options], stdout=log, stderr=log, cwd="/", **user
        )
    parameters = {"port": str(port), "user": "hep", "password": PASSWORD, "dbname": "postgres"}
    try:
        wait_for(lambda: _answers({**parameters, "host": "127.0.0.1", "sslmode": "require"}))
        yield parameters
    finally:
        process.send_signal(2)
        process.wait(30)


def _answers(parameters: dict[str, str]) -> bool:
    try:
        psycopg.connect(make_conninfo(**parameters), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def verifying(
    server_parameters: dict[str, str], authority: Path, offline_hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> Hep:
    """The command line, which verifies whom it talks to."""

    def name(**more: str) -> str:
        verified = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(authority)}
        return make_conninfo(**{**server_parameters, **verified, **more})

    monkeypatch.setenv("DATABASE_URL", name())
    offline_hep.name = name  # type: ignore[attr-defined]
    return offline_hep


def test_everything_works_over_a_verified_connection(
    verifying: Hep, server_parameters: dict[str, str], tmp_path: Path
) -> None:
    """Migrations, roles (here also on this version of PostgreSQL), an event, and a processor that is woken for it."""
    verifying("db", "migrate")
    verifying("db", "check")
    assert "hook_processor" in verifying("db", "roles")
    verifying("events", "emit", "a.b")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        encrypted = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert encrypted is not None
        assert encrypted[0]
        assert encrypted[1] in ("TLSv1.2", "TLSv1.3")
        with running(Database(os.environ["DATABASE_URL"]), tmp_path):
            wait_for(lambda: all_processed(connection), 20)
            wake = "SELECT wake FROM hook_processors"
            wait_for(lambda: connection.execute(wake).fetchone() == ("listen",), 20)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"host": "127.0.0.1"}, "does not match host name"),
        ({"sslrootcert": "/nowhere/ca.pem"}, '"/nowhere/ca.pem" does not exist'),
        ({"sslmode": "disable"}, "no encryption"),
        ({"sslrootcert": "another"}, "certificate verify failed"),
    ],
)
def test_another_name_authority_or_none_is_refused(
    verifying: Hep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    if change.get("sslrootcert") == "another":
        certificates.server_context(tmp_path, "localhost")
        change = {"sslrootcert": str(tmp_path / "ca.pem")}
    monkeypatch.setenv("DATABASE_URL", verifying.name(**change))  # type: ignore[attr-defined]
    fault = verifying.fault("events", "emit", "a.b")
    assert fault.startswith("hep: the database cannot be reached: ")
    assert said in fault
    assert PASSWORD not in fault
