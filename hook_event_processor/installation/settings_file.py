"""The settings' file that an installation begins with, and what one that is there already says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from hook_event_processor.installation.places import NAME, Places

# Each names a database by itself.
_NAMES_A_DATABASE = (
    "DATABASE_URL",
    "DB_PASSWORD",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGSERVICE",
)
CREDENTIALS = ("database_url", "db_password")
_ESCAPED = r'[\\"`$]'  # in double quotes; a backslash before any other stays there
_HEAD = f"""\
# Settings of the hook event processor, NAME=value; a value with spaces, quotes or backslashes stands in
# double quotes, with a backslash before " and \\ (systemd.exec(5), EnvironmentFile=). After a change:
#   systemctl reload {NAME}            takes over LOG_LEVEL and what hooks may use
#   systemctl restart {NAME}.target    takes over everything
# What is commented out is the default.
"""


def template(given: Mapping[str, str], defaults: Iterable[tuple[str, str, str]], *, of_user: bool) -> str:
    """The file: `given` in force, and every setting of `defaults` (name, what it accepts, default) commented out."""
    head = _HEAD.replace("systemctl re", "systemctl --user re") if of_user else _HEAD
    where = "# Where the events are: DATABASE_URL, PG*, or DB_PASSWORD with DB_HOST, DB_PORT, DB_USER and DB_NAME."
    lines = [head, where]
    if not of_user:
        lines.append(
            f"# A password or the whole string is better kept in /etc/credstore/{NAME}.db_password or .database_url."
        )
    lines += [f"{name}={quoted(value)}" for name, value in given.items()]
    for name, accepts, default in defaults:
        if name not in given:
            lines += ["", f"# {accepts}", f"#{name}={default}"]
    return "\n".join(lines) + "\n"


def quoted(value: str) -> str:
    """A value as EnvironmentFile= reads it back."""
    return '"' + re.sub(_ESCAPED, r"\\\g<0>", value) + '"'


def unquoted(text: str) -> str:
    """The value that EnvironmentFile= reads from what stands behind the = of one line."""
    text = text.strip()
    match text[:1], text[-1:]:
        case "'", "'":
            return text[1:-1]
        case '"', '"':
            return re.sub(rf"\\({_ESCAPED})", r"\1", text[1:-1])
        case _:
            return re.sub(r"\\(.)", r"\1", text)


def credential(places: Places, name: str) -> Path | None:
    """The file that the units load this credential from."""
    return places.credentials / f"{NAME}.{name}" if places.credentials else None


def encrypted_credential(places: Places, name: str) -> Path | None:
    """The file of systemd-creds(1) that the units load it from instead, where it is there."""
    return places.encrypted_credentials / f"{NAME}.{name}" if places.encrypted_credentials else None


def credential_files(places: Places, names: Iterable[str]) -> list[Path]:
    """The files that are there of these credentials, plain and encrypted."""
    files = [path(places, name) for name in names for path in (credential, encrypted_credential)]
    return [file for file in files if file is not None and file.is_file()]


def names_a_database(places: Places) -> bool:
    """Whether the settings or credentials that are there say where the events are."""
    if credential_files(places, CREDENTIALS):
        return True
    try:
        lines = places.environment.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    names = {line.partition("=")[0].strip() for line in lines if line.partition("=")[2].strip(" \"'")}
    return bool(names.intersection(_NAMES_A_DATABASE))


def other_database(places: Places, given: str) -> Path | None:
    """The file whose connection string stays though it is another than `given`; None where that cannot be told, too."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    credential_file = credential(places, "database_url")
    try:
        settings = places.environment.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition("=")[2] for line in settings if line.startswith("DATABASE_URL=")]
        value = unquoted(named[-1]) if named else ""
        path = places.environment if value else credential_file
        if not value and credential_file is not None:
            value = credential_file.read_text(encoding="utf-8").strip()
        is_other = bool(value) and conninfo_to_dict(value) != conninfo_to_dict(given)
    except (OSError, ValueError, ProgrammingError):
        return None
    return path if is_other else None
