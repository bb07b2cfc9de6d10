"""A real PostgreSQL for the tests: started once, with a migrated template database that each test clones."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from box import Box, booted
from clinic import Clinic
from clock import Clock
from commands import Hep
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from watching import add_kinds, kill_all

from hook_event_processor.settings import LIBPQ_VARIABLES
from hook_event_processor.store import embedded
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.embedded.cluster import ROLE
from hook_event_processor.store.migrate import migrate

_TEMPLATE = "template_migrated"
_LONGEST = (
    "test_systemd.py",
    "test_systemd_sandbox.py",
    "test_systemd_install.py",
    "test_systemd_watchers.py",
    "test_systemd_watcher_faults.py",
    "test_up.py",
    "test_processor.py",
    "test_processor_faults.py",
    "test_watch_daemon.py",
)
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 8 << 30
_JOURNAL_LINES = 200
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgres", type=int, choices=(18, 16), default=18, help="major version of the server")


def pytest_configure(config: pytest.Config) -> None:
    """What the caller's environment says of a database or a directory must not decide what is tested."""
    config.addinivalue_line("markers", "store: works on PostgreSQL; every test that uses the server has it by itself")
    for name in (*LIBPQ_VARIABLES, "DATABASE_URL", "DB_PASSWORD", "HEP_HOME", "RUNTIME_DIRECTORY"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "server" in item.fixturenames:
            item.add_marker("store")
    # With files side by side, one that takes minutes and comes last is waited for alone.
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With what fails in a box, what its journal said last."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for machine in {value for value in item.funcargs.values() if isinstance(value, Box)}:
            said = machine.run("journalctl", "--no-pager", f"--lines={_JOURNAL_LINES}", check=False)
            report.sections.append(("the machine's journal", said))
    return report


@pytest.fixture(scope="session")
def reachable_path() -> Iterator[Path]:
    """A directory that the server's own user can enter, too (pytest's tmp_path is the caller's alone)."""
    # A database for each test is hundreds of files: in memory they cost a tenth of the time.
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    path = Path(tempfile.mkdtemp(prefix="hep-tests-", dir=_MEMORY if in_memory else "/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, reachable_path: Path) -> Iterator[EmbeddedServer]:
    """An embedded server of the version that --postgres asks for."""
    with embedded.start(reachable_path / "home", request.config.getoption("--postgres")) as running:
        yield running


@contextmanager
def _fresh_database(server: EmbeddedServer, template: str, name: str) -> Iterator[Database]:
    identifiers = {"name": sql.Identifier(name), "owner": sql.Identifier(ROLE), "template": sql.Identifier(template)}
    with psycopg.connect(server.administration, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template} STRATEGY wal_log").format(**identifiers)
        )
    yield Database(make_conninfo(server.conninfo, dbname=name))
    with psycopg.connect(server.administration, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**identifiers))


@pytest.fixture(scope="session")
def migrated_template(server: EmbeddedServer) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    with _fresh_database(server, "template0", _TEMPLATE) as database:
        with database.session("tests") as connection:
            migrate(connection)
        yield _TEMPLATE


@pytest.fixture
def database(server: EmbeddedServer, migrated_template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with _fresh_database(server, migrated_template, f"test_{next(_numbers)}") as database:
        yield database


@pytest.fixture(scope="module")
def shared_database(server: EmbeddedServer, migrated_template: str) -> Iterator[Database]:
    """A migrated database for all tests of a module: for rows that take long to make."""
    with _fresh_database(server, migrated_template, f"test_{next(_numbers)}") as database:
        yield database


@pytest.fixture
def empty_database(server: EmbeddedServer) -> Iterator[Database]:
    """A database of the test's own that has not been migrated."""
    with _fresh_database(server, "template0", f"test_{next(_numbers)}") as database:
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A session in autocommit on the test's database."""
    with database.session("tests") as connection:
        yield connection


@pytest.fixture
def hep(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hep:
    """The command line on the test's database, in a directory without an .env file."""
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    return _hep(tmp_path, monkeypatch, capsys)


@pytest.fixture
def offline_hep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hep:
    """The command line where there is no database, in a directory without an .env file."""
    return _hep(tmp_path, monkeypatch, capsys)


def _hep(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hep:
    # What runs on this machine beside the tests must not be in what they read.
    monkeypatch.chdir(directory)
    monkeypatch.setenv("HEP_HOME", str(directory / "home"))
    return Hep(monkeypatch, capsys)


@pytest.fixture
def clinic(
    offline_hep: Hep, shared_database: Database, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> Clinic:
    """One database for all tests of a module: each leaves it well."""
    monkeypatch.setenv("DATABASE_URL", shared_database.conninfo)
    return Clinic(offline_hep, shared_database, server)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until its `now` is set."""
    return Clock()


@pytest.fixture
def counting_kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Types of watchers that count, beside the others; no daemon of the test outlives it."""
    add_kinds(monkeypatch)
    yield
    kill_all()


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """The file that watchers of the test read from: 0."""
    path = tmp_path / "number"
    path.write_text("0")
    return path


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that keeps the product's installation for all boxes."""
    # What xdist's workers share lies above the directory of each.
    run = tmp_path_factory.getbasetemp()
    return (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "installation.tar"


@pytest.fixture(scope="session")
def box(installation: Path) -> Iterator[Box]:
    """A machine with systemd, PostgreSQL and the product, as box.booted() has it; the first takes half a minute."""
    with booted(installation) as machine:
        yield machine
