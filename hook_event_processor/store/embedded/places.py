"""Where the embedded server's files lie, and that its user can reach them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store.embedded.account import Account, name_of

_UNUSABLE = frozenset('"$`\\')  # initdb passes paths to a shell, between quotation marks
SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path without its NUL, unix(7)


@dataclass(frozen=True, slots=True)
class Places:
    """The paths below `home` (absolute, without links). All but data and log belong to the caller."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "postgresql"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def start_log(self) -> Path:
        """What the server prints before it opens its log."""
        return self.folder / "start.log"

    @property
    def programs(self) -> Path:
        return self.folder / "program"

    @property
    def lock(self) -> Path:
        return self.folder / "owner.lock"

    @property
    def hba(self) -> Path:
        return self.folder / "pg_hba.conf"

    @property
    def ident(self) -> Path:
        return self.folder / "pg_ident.conf"

    @property
    def cluster_name(self) -> str:
        """Unlike any other home's; it shows in the titles of the server's processes."""
        return "hep-" + hashlib.sha256(os.fsencode(self.data)).hexdigest()[:10]


def make_home(home: Path, account: Account) -> Places:
    """The home directory, made when it is missing; what is there already keeps its mode and owner.

    Raises EmbeddedServerError when it belongs to another user, or when the
    server's user cannot reach it; nothing is made then.
    """
    places = Places(home.resolve())
    if not str(places.home).isprintable() or _UNUSABLE.intersection(str(places.home)):
        raise EmbeddedServerError(f"{str(places.home)!r} holds a character that PostgreSQL's programs cannot take")
    way = [*reversed(places.folder.parents), places.folder]
    there = [directory for directory in way if directory.exists()]
    for directory in there[len(places.home.parents) :]:
        _refuse_foreign(directory)
    if not there[-1].is_dir():
        raise EmbeddedServerError(f"{there[-1]} is not a directory")
    closed = account.first_closed(there[-1])
    if closed is not None:
        raise EmbeddedServerError(
            f"PostgreSQL runs as the user {account.name}, who cannot enter {closed} on the way to {places.folder}:"
            f" let that user pass (chmod o+x {closed}), or point HEP_HOME elsewhere"
        )
    for directory in way[len(there) :]:
        if account.is_caller:
            directory.mkdir(mode=0o700, exist_ok=True)  # another start may be making it
        else:
            _make_passable(directory)
        _refuse_foreign(directory)
    return places


def _make_passable(directory: Path) -> None:
    """Whatever the umask, the server's user passes through it: before it has its name, since another start may look."""
    unnamed = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    unnamed.chmod(0o755)
    try:
        unnamed.rename(directory)
    except OSError:  # another was first
        unnamed.rmdir()


def _refuse_foreign(directory: Path) -> None:
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        raise EmbeddedServerError(
            f"{directory} belongs to {name_of(owner)}: run as {name_of(owner)}, or point HEP_HOME elsewhere"
        )


def make_socket_directory(places: Places, account: Account) -> Path:
    """An empty directory for the socket that only the server's user can enter, with a short path.

    Not in XDG_RUNTIME_DIR, which is emptied when the user logs out, while a
    server that was started in tmux goes on.
    """
    if account.is_caller:
        directory = Path("/tmp", places.cluster_name)  # noqa: S108 - checked right here
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        if not account.has_alone(directory):  # somebody has taken the name
            directory = Path(tempfile.mkdtemp(prefix="hep-", dir="/tmp"))
    else:
        directory = Path("/run", places.cluster_name)
        account.make_directory(directory)
    if len(os.fsencode(directory / SOCKET)) > _SOCKET_PATH_BYTES:
        raise EmbeddedServerError(f"the path {directory / SOCKET} is too long for a socket")
    clear(directory)
    return directory


def clear(socket_directory: Path) -> None:
    """Remove what a server that was killed has left there."""
    for leftover in (socket_directory / SOCKET, socket_directory / f"{SOCKET}.lock"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or what a directory names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
