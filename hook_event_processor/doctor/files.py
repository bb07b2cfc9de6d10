"""Files of this host: secrets that others can read, and the room for what watchers and hooks keep."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from dotenv import dotenv_values
from psycopg import ProgrammingError

from hook_event_processor.connection_values import secrets_of
from hook_event_processor.doctor.finding import Area, Finding, Kind, Level, LocalCheck
from hook_event_processor.doctor.room import DISK_FULL, full_disk
from hook_event_processor.installation import places
from hook_event_processor.installation.places import NAME
from hook_event_processor.settings import Settings

_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_NOT_SECRET = ("HOOK_SECRETS", "HOOK_SECRET_KEY_FILE")  # names and a path
_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_ACL = "system.posix_acl_access"  # acl(5)

READABLE = Kind(
    "secrets-readable",
    Level.PROBLEM,
    "Other users of this host can read, or change, a file that holds secrets: the database's password, say.",
)


def _secrets(settings: Settings) -> Iterator[Finding]:
    for path in _candidates(settings):
        try:
            status = path.stat()
            right = 0o640 if status.st_mode & stat.S_IRGRP and _is_shared(path, status) else 0o600
        except OSError:  # it is not there, or nobody like us gets to it
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS & ~right and _has_secrets(path):
            what = f"{path} holds secrets, and its mode is {stat.S_IMODE(status.st_mode):04o}"
            yield Finding(READABLE, what, (f"chmod {right:o} {shlex.quote(str(path))}",), partial(_shut, path, right))


def _shut(path: Path, mode: int) -> str:
    path.chmod(mode)
    return f"shut {path} for others"


def _is_shared(path: Path, status: os.stat_result) -> bool:
    """Whether its group may read it on purpose, as a service's does: no file has another group or an ACL by itself."""
    with suppress(OSError):
        os.getxattr(path, _ACL)
        return True
    try:
        return status.st_gid != pwd.getpwuid(status.st_uid).pw_gid
    except KeyError:  # nobody has that number
        return False


def _candidates(settings: Settings) -> Iterator[Path]:
    yield Path(".env").absolute()
    for of in (places.for_machine(), places.for_user()):
        yield from sorted(_found(of.settings, "environment*"))
        if of.credentials is not None:
            yield from sorted(_found(of.credentials, f"{NAME}.*"))
    if settings.hook_secret_key_file is not None:
        yield settings.hook_secret_key_file


def _found(directory: Path, pattern: str) -> list[Path]:
    try:
        return list(directory.glob(pattern))
    except OSError:
        return []


def _has_secrets(path: Path) -> bool:
    """Whether a file of settings names one; keys and credentials are nothing else."""
    if not path.name.startswith((".env", "environment")):
        return True
    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError):
        return False
    return any(value and _is_secret(name, value) for name, value in values.items())


def _is_secret(name: str, value: str) -> bool:
    if name == "DATABASE_URL":
        try:
            return bool(secrets_of(value))
        except ProgrammingError:
            return True
    return name not in _NOT_SECRET and _SECRET_NAME.search(name) is not None


def _room(settings: Settings) -> Iterator[Finding]:
    yield from full_disk(settings.home, "HEP_HOME")


AREA = Area(
    "files",
    "secrets that others can read; room for HEP_HOME",
    (LocalCheck(_secrets, (READABLE,)), LocalCheck(_room, (DISK_FULL,))),
)
