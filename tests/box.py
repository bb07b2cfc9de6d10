"""A throw-away machine with systemd, PostgreSQL and the product, for the tests of the units."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ports import free_ports
from waiting import wait_for

from hook_event_processor.store.embedded.program import copied

REPOSITORY = Path(__file__).parent.parent
UNITS = REPOSITORY / "systemd"
INSTALLED = "/opt/hook-event-processor"
WHEELS = "/opt/wheels-of-tests"
SERVICE = "hook-event-processor"
PASSWORD = "s3same/open'" + secrets.token_hex(4)

# As a distribution's own unit would be named, so that After=postgresql.service means it.
_POSTGRESQL = """
[Install]
WantedBy=default.target
[Service]
User=hep-database
RuntimeDirectory=hep-database
StateDirectory=hep-database
ExecStart={binaries}/postgres -D %S/hep-database/data -k %t/hep-database -c listen_addresses=127.0.0.1 -p {port}
KillSignal=SIGINT
"""


class Box:
    """The machine. Its network and one directory are the host's; the rest dies with it, or is kept on a disk."""

    def __init__(self, state: Path, postgresql: Path, disk: Path, shared: Path) -> None:
        """Take a directory for the box's state, and PostgreSQL's programs, which every user must be able to reach.

        `disk` is a directory for what the box changes, on a file system that an overlay can write to; `shared` is
        one that is the host's and the box's, by the same path.
        """
        self._environment = {**os.environ, "SYSTEMD_BOX": str(state)}
        self._state = state
        self._disk = disk
        self.shared = shared
        self._binaries = postgresql / "bin"
        [self.port] = free_ports(1)

    def _call(self, *arguments: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(REPOSITORY / "tests/systemd-box"), *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=self._environment, timeout=110, check=False
        )
        assert done.returncode == 0 or not check, f"{shlex.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def start(self) -> None:
        """Boot."""
        self.stop()
        self._call("start", "--disk", str(self._disk), "--bind", str(self.shared))

    def stop(self) -> None:
        """Power off, and leave no trace but the disk."""
        self._call("stop")

    def reboot(self) -> None:
        """Power off and boot again, with the same disk."""
        self.start()

    def inside(self, path: str) -> Path:
        """A path of the box's, as the host finds it; a socket there can be bound from here."""
        pid = (self._state / "pid").read_text().strip()
        return Path(f"/proc/{pid}/root", path.lstrip("/"))

    def files(self, *except_below: str) -> dict[str, str]:
        """What the box has otherwise than the host: path -> mode, owner and target of its files and new directories."""
        upper, found = self._disk / "upper", {}
        for folder, folders, files in os.walk(upper):
            below = f"/{Path(folder).relative_to(upper)}".replace("/.", "")
            folders[:] = [name for name in folders if f"{below}/{name}" not in except_below]
            for name in (*files, *folders):
                path = f"{below}/{name}"
                if not (name in folders and Path(path).is_dir()):
                    entry = Path(folder, name)
                    stat = entry.lstat()
                    target = entry.readlink() if entry.is_symlink() else ""
                    found[path] = f"{stat.st_mode:o} {stat.st_uid} {stat.st_gid} {target}"
        units = self._disk / "units"
        return {**found, **{str(path.relative_to(units)): "" for path in units.rglob("*")}}

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """What a command of root's prints."""
        return self._call("exec", *command, check=check, text=text).stdout

    def finished(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """How a command of root's ended, and what it wrote."""
        return self._call("exec", *command, check=False, text=text)

    def status(self, *command: str) -> int:
        """The exit status of a command of root's."""
        return self._call("exec", *command, check=False).returncode

    def shell(self, script: str, user: str = "root") -> str:
        """What a script prints that a user runs in their home directory, as after a login."""
        uid = self.run("id", "-u", user).strip()
        prefix = ["runuser", "-u", user, "--", "env", "-C", self.run("sh", "-c", f"echo ~{user}").strip()]
        variables = [f"XDG_RUNTIME_DIR=/run/user/{uid}", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"]
        # From stdin, so that `pkill -f` does not find its own shell by the script's text.
        return self.run(*prefix, *variables, "bash", "-eu", text=script)

    def popen(self, *command: str) -> subprocess.Popen[str]:
        """Start a command of root's, and read what it prints."""
        return subprocess.Popen(
            [str(REPOSITORY / "tests/systemd-box"), "exec", *command],
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file of root's, and make its directories."""
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("install", "-m", f"{mode:o}", "/dev/stdin", path, text=content)

    def install_product(self, kept: Path) -> None:
        """Build the wheel, and install it into a fresh environment; both are left in the file `kept` for other boxes.

        Where another box has left them there, they are taken from it.
        """
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                self._install_product()
                # The overlay's own directory, which has what the box has otherwise than the host.
                below = [path.lstrip("/") for path in (INSTALLED, WHEELS)]
                packed = kept.with_suffix(".new")
                subprocess.run(["tar", "-C", self._disk / "upper", "-cf", packed, *below], check=True)
                packed.rename(kept)
                return
        with kept.open("rb") as packed_before:
            # From stdin: what the host writes after the box has booted, the box may not see.
            command = [str(REPOSITORY / "tests/systemd-box"), "exec", "tar", "-C", "/", "-x"]
            subprocess.run(command, stdin=packed_before, env=self._environment, timeout=110, check=True)

    def _install_product(self) -> None:
        pip = [f"{INSTALLED}/bin/pip", "--quiet", "--disable-pip-version-check"]
        self.run("/usr/bin/python3", "-m", "venv", INSTALLED)
        self.run(*pip, "wheel", "--no-deps", "--wheel-dir", WHEELS, str(REPOSITORY))
        self.run(*pip, "install", self.run("sh", "-c", f"ls {WHEELS}/*.whl").strip())

    def clear(self) -> None:
        """Take away what tests have put in place of units, accounts and settings, as if it had never been there."""
        self.run("systemctl", "stop", "hook*", check=False)
        # Users of other tests, whose processors would take events, after a reboot at the latest.
        self.shell("for user in $(ls /var/lib/systemd/linger 2>/dev/null); do loginctl disable-linger $user; done")
        self.shell(
            "loginctl terminate-user $(loginctl list-users --no-legend | awk '{ print $2 }') 2>/dev/null || true"
        )
        self.shell("rm -rf /etc/systemd/system/hook-* /etc/hook-event-processor /etc/credstore")
        self.run("rm", "-rf", "/var/lib/hook-event-processor", "/srv/reports")  # the host may have had one, too
        self.run("userdel", "hep", check=False)
        self.run("systemctl", "daemon-reload")

    def start_postgresql(self) -> None:
        """A server on 127.0.0.1 whose role and database `hep` need PASSWORD, as the unit postgresql.service."""
        data = "/var/lib/hep-database/data"
        self.run("useradd", "--system", "hep-database")
        self.run("install", "-d", "-o", "hep-database", "-m", "700", "/var/lib/hep-database")
        initdb = f"{self._binaries}/initdb -D {data} -U hep-database --auth-local=peer --auth-host=scram-sha-256 -N"
        self.run("runuser", "-u", "hep-database", "--", *initdb.split())
        unit = _POSTGRESQL.format(binaries=self._binaries, port=self.port)
        self.write("/etc/systemd/system/postgresql.service", unit)
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "enable", "--now", "postgresql")
        wait_for(lambda: self._administer("SELECT 1", check=False), 30, "PostgreSQL runs")
        password = PASSWORD.replace("'", "''")
        self._administer(f"CREATE ROLE hep LOGIN PASSWORD '{password}'")
        self._administer("CREATE DATABASE hep OWNER hep")

    def _administer(self, sql: str, *, check: bool = True) -> str:
        psql = f"{self._binaries}/psql -X -h /run/hep-database -p {self.port} -d postgres -c"
        return self.run("runuser", "-u", "hep-database", "--", *psql.split(), sql, check=check)

    @property
    def url(self) -> str:
        """The connection string of the role hep, with its password."""
        return f"postgresql://hep:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/hep"

    def answers(self) -> bool:
        """Whether PostgreSQL does."""
        return self._psql("SELECT 1", check=False) == "1"

    def psql(self, sql: str) -> str:
        """What psql prints for a statement, unaligned and without headings, as the role hep."""
        return self._psql(sql, check=True)

    def _psql(self, sql: str, *, check: bool) -> str:
        variables = ["PGHOST=127.0.0.1", f"PGPORT={self.port}", "PGUSER=hep", f"PGPASSWORD={PASSWORD}"]
        psql = f"{self._binaries}/psql -XAtq -v ON_ERROR_STOP=1 -d hep -c"
        return self.run("env", *variables, *psql.split(), sql, check=check).strip()

    def with_database(self) -> Sequence[str]:
        """What stands before a command that is to be given the database."""
        return "env", "-C", "/", f"DB_PASSWORD={PASSWORD}", f"DB_PORT={self.port}", "DB_USER=hep", "DB_NAME=hep"

    def hep(self, *arguments: str) -> str:
        """What the command hep prints, with the database given."""
        return self.run(*self.with_database(), f"{INSTALLED}/bin/hep", *arguments)

    def properties(self, *names: str, unit: str = SERVICE) -> list[str]:
        """What `systemctl show` has under these names."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(names)}").splitlines()
        shown = dict(line.split("=", 1) for line in lines)
        return [shown[name] for name in names]

    def journal(self, *matches: str) -> list[dict[str, str]]:
        """The journal's entries with these fields."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", *matches).splitlines()
        return [json.loads(line) for line in lines]

    def messages(self, *matches: str) -> Sequence[str]:
        """The texts of the journal's entries with these fields."""
        return [entry["MESSAGE"] for entry in self.journal(*matches)]


@contextmanager
def machine() -> Iterator[Box]:
    """A machine that has nothing of ours yet."""
    # Not below /tmp, which the units do not see, nor below pytest's own directory, which is root's alone.
    with tempfile.TemporaryDirectory(prefix="hep-box-", dir="/var/lib") as directory:
        Path(directory).chmod(0o755)
        disk, shared = Path(directory, "disk"), Path(directory, "shared")
        disk.mkdir()
        shared.mkdir()
        # An overlay cannot be written to another one, which a container's own file system may be.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "hep-box", str(disk)], check=True)
        box = Box(Path(directory, "state"), copied(Path(directory, "postgresql")), disk, shared)
        try:
            box.start()
            yield box
        finally:
            box.stop()
            subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def booted(kept: Path) -> Iterator[Box]:
    """A machine with PostgreSQL and the product's schema, the product installed from its wheel, and no unit of it.

    `kept` is a file for the installation: the first box makes it, others take it from there.
    """
    with machine() as box:
        box.start_postgresql()
        box.install_product(kept)
        box.hep("db", "migrate")
        yield box
