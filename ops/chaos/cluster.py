"""PostgreSQL clusters that can be killed, run out of disk, and have a standby that takes over.

They are made as the embedded server's is: on a socket only, for the caller
and the server's own user alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from hook_event_processor.store.embedded.account import name_of, server_account
from hook_event_processor.store.embedded.cluster import DATABASE, ROLE, SUPERUSER, create_database
from hook_event_processor.store.embedded.postmaster import _ending_with_its_starter
from hook_event_processor.store.embedded.program import copied, installed

START_SECONDS = 60.0
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_POLL_SECONDS = 0.05


class Cluster:
    """A data directory below `place` (whom everybody may enter), its socket, and the server while it runs.

    `environment` is what the server gets beside its own: for libfaketime.
    `programs` is where PostgreSQL's programs are copied to, beside `place` if not given.
    """

    def __init__(self, place: Path, *, environment: dict[str, str] | None = None, programs: Path | None = None) -> None:
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
        self.place = place
        self.data, self.sockets, self.log = place / "data", place / "socket", place / "server.log"
        self.environment = environment or {}
        self._account = server_account()
        where = programs or place.parent / "program"
        self._programs = (installed() if self._account.is_caller else copied(where)) / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (self.data, self.sockets):
            self._account.make_directory(directory)

    @property
    def socket(self) -> str:
        """The path of the server's socket."""
        return str(self.sockets / ".s.PGSQL.5432")

    @property
    def for_auditor(self) -> str:
        return make_conninfo(self._session(ROLE), dbname=DATABASE)

    for_writer = for_processors = for_auditor

    @property
    def for_administrator(self) -> str:
        return make_conninfo(self._session(SUPERUSER), dbname=DATABASE)

    def initialise(self, *options: str, wal: Path | None = None, **settings: str) -> None:
        """Make the data directory with options of initdb and settings, and with a directory of its own for the WAL."""
        if wal is not None:
            self._account.make_directory(wal)
            options = (*options, f"--waldir={wal}")
        given = [f"--set={name}={value}" for name, value in settings.items()]
        fixed = [f"--username={SUPERUSER}", "--auth=peer", "--no-locale", "--encoding=UTF8"]
        self._run("initdb", f"--pgdata={self.data}", *fixed, *options, *given)

    def copy_of(self, primary: Cluster) -> None:
        """Make this a streaming standby of a running primary."""
        source = f"--dbname={primary._session(SUPERUSER)}"
        options = [
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--create-slot",
            "--slot=standby",
        ]
        self._run("pg_basebackup", f"--pgdata={self.data}", source, *options)

    def _session(self, role: str) -> str:
        return make_conninfo(host=str(self.sockets), port=5432, user=role)

    def _run(self, program: str, *arguments: str) -> None:
        status, output = self._account.run([self._programs / program, *arguments])
        assert status == 0, f"{program}: {output}"

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start the server; it takes connections later, or ends."""
        self._write_access()
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": str(self.sockets),
            "hba_file": str(self.place / "pg_hba.conf"),
            "ident_file": str(self.place / "pg_ident.conf"),
        }
        given = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        faking = ["env", *(f"{name}={value}" for name, value in self.environment.items())] if self.environment else []
        command = [*_ending_with_its_starter(), *faking, str(self._programs / "postgres"), "-D", str(self.data)]
        with self.log.open("ab") as log:
            self._process = self._account.start([*command, *given], log.fileno())

    def _write_access(self) -> None:
        hba, ident = self.place / "pg_hba.conf", self.place / "pg_ident.conf"
        hba.write_text("local all all peer map=hep\nlocal replication all peer map=hep\n")
        names = {name_of(os.geteuid()), self._account.name}
        ident.write_text("".join(f'hep "{name}" {role}\n' for name in names for role in (SUPERUSER, ROLE)))
        for file in (hba, ident):
            file.chmod(0o644)

    def await_ready(self) -> None:
        """Wait until the server takes connections."""
        ends = time.monotonic() + START_SECONDS
        while not self.takes_connections():
            assert self.running, f"PostgreSQL has ended: {self.log_tail()}"
            assert time.monotonic() < ends, f"PostgreSQL takes no connections: {self.log_tail()}"
            time.sleep(_POLL_SECONDS)

    def takes_connections(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self._superuser, connect_timeout=2):
            return True
        return False

    @property
    def _superuser(self) -> str:
        return make_conninfo(self._session(SUPERUSER), dbname="postgres")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def create_database(self) -> None:
        """The product's role and database."""
        create_database(self._superuser)

    def set(self, **settings: str) -> None:
        """Change settings of the running server that need no restart."""
        with psycopg.connect(self._superuser, autocommit=True) as connection:
            for name, value in settings.items():
                change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                connection.execute(change)
            connection.execute("SELECT pg_reload_conf()")

    def has_standby(self, state: str) -> bool:
        """Whether a standby is attached that is async or sync."""
        with psycopg.connect(self._superuser) as connection:
            return connection.execute("SELECT FROM pg_stat_replication WHERE sync_state = %s", (state,)).rowcount > 0

    def promote(self) -> None:
        """Let a standby become a primary, and wait for that."""
        with psycopg.connect(self._superuser, autocommit=True) as connection:
            connection.execute("SELECT pg_promote(wait => true, wait_seconds => 60)")

    def kill(self) -> None:
        """kill -9 of the server and all of its processes at once, as when the machine dies."""
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server in one of PostgreSQL's ways, or kill it; wait for that."""
        if not self.running:
            return
        assert self._process is not None
        if mode == "kill":
            self.kill()
            return
        self._process.send_signal(_SIGNALS[mode])
        self._process.wait(60)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self) -> str:
        return " / ".join(self.log_text().splitlines()[-4:])


def _children(parent: int) -> list[int]:
    """By proc_pid_stat(5): the state and the parent follow the name, which may hold anything."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
