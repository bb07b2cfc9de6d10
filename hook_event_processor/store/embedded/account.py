"""Whom the embedded server runs as, and what that account can reach."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hook_event_processor.errors import EmbeddedServerError

SYSTEM_USER = "hep-postgres"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nothing of the caller's environment reaches the server: PG* variables of
# another server least of all.
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system user: the caller's own, or the server's own when the caller is root."""

    name: str
    uid: int
    gid: int

    @property
    def is_caller(self) -> bool:
        """Whether no change of user is needed."""
        return self.uid == os.geteuid()

    def start(self, arguments: Sequence[str | Path], output: int) -> subprocess.Popen[bytes]:
        """Start a program as this account; what it prints goes to the file descriptor `output`.

        It leads a session of its own, so that a terminal's Ctrl-C does not
        reach it. Raises EmbeddedServerError when it cannot be started.
        """
        try:
            return subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                user=None if self.is_caller else self.uid,
                group=None if self.is_caller else self.gid,
                extra_groups=None if self.is_caller else [],
            )
        except (OSError, subprocess.SubprocessError) as fault:
            raise EmbeddedServerError(f"{arguments[0]} cannot be started as {self.name}: {fault}") from None

    def run(self, arguments: Sequence[str | Path]) -> tuple[int, str]:
        """Run a program as this account to its end; returns its exit status and what it printed."""
        with self.start(arguments, subprocess.PIPE) as process:
            try:
                output = process.communicate()[0]
            except BaseException:  # Ctrl-C reaches only us: it is in a session of its own
                process.terminate()
                raise
        return process.returncode, output.decode(errors="replace")

    def first_closed(self, path: Path) -> Path | None:
        """The first directory on the way to `path`, or `path`, that this account may not enter."""
        if self.is_caller or self._may_enter(path):
            return None
        return next((directory for directory in reversed(path.parents) if not self._may_enter(directory)), path)

    def _may_enter(self, directory: Path) -> bool:
        # Asked of the kernel as that user: modes alone do not know of ACLs.
        return self.run(["test", "-x", directory])[0] == 0

    def make_directory(self, path: Path) -> None:
        """Create `path` with mode 0700 for this account, or make sure that it is so.

        Its parent belongs to the caller. Raises EmbeddedServerError when the
        place is taken by something else.
        """
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            if not self.is_caller:  # who may not even ask for what it has already, in a sandbox
                os.chown(path, self.uid, self.gid)
        if not self.has_alone(path):
            raise EmbeddedServerError(f"{path} is not a directory of mode 0700 that belongs to {self.name}")

    def has_alone(self, path: Path) -> bool:
        """Whether `path` is a directory, no link to one, that only this account can enter."""
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == self.uid and stat.S_IMODE(found.st_mode) == 0o700


def name_of(uid: int) -> str:
    """The name of a user, which peer authentication goes by. Raises EmbeddedServerError when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise EmbeddedServerError(
            f"the user with the id {uid} has no name in the password database, and PostgreSQL does not run without"
        ) from None


def server_account() -> Account:
    """The account for the server: the caller's; for root, whom PostgreSQL refuses, a system user, made if need be."""
    uid = os.geteuid()
    if uid != 0:
        return Account(name_of(uid), uid, os.getegid())
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _add_system_user()
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _add_system_user() -> None:
    program = shutil.which("useradd", path=_PATH)
    if program is None:
        raise EmbeddedServerError(f"useradd is missing: install the package passwd, or add a user {SYSTEM_USER}")
    options = ["--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin"]
    added = subprocess.run(
        [program, *options, "--comment=PostgreSQL of Hook Event Processor", SYSTEM_USER],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    # 9: the name is taken, by another start at the same time.
    if added.returncode not in (0, 9):
        raise EmbeddedServerError(f"the system user {SYSTEM_USER} cannot be added: {' '.join(added.stderr.split())}")
