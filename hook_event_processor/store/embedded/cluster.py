"""The embedded server's cluster: how its data directory is made, and who may connect."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from psycopg import connect, sql

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store.embedded.account import Account
from hook_event_processor.store.embedded.places import Places, sync

SUPERUSER = "postgres"
# Not the package's name: these show in the titles of the server's processes,
# and pkill -f hook_event_processor is for processors.
ROLE = "hep"
DATABASE = "hep"

_TAIL_LINES = 3
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[\d+\] *")
# What initdb writes into postgresql.conf; an administrator may change it there.
_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    # A log file a weekday, each overwritten after a week.
    "logging_collector": "on",
    "log_filename": "%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


def check_version(places: Places, major: int) -> None:
    """Raise EmbeddedServerError when another major version made the data directory."""
    if not places.data.is_dir():
        return
    try:
        found = (places.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedServerError(f"{places.data} holds no PostgreSQL database: move it away") from None
    if found != str(major):
        raise EmbeddedServerError(
            f"{places.data} was made by PostgreSQL {found}, and this is PostgreSQL {major}: carry the data over with"
            f" pg_dump and pg_restore, or point HEP_HOME elsewhere"
        )


def initialise(places: Places, account: Account, binaries: Path, major: int) -> None:
    """Make the data directory, unless it is there; an attempt that was cut off leaves none."""
    account.make_directory(places.log)
    if places.data.is_dir():
        return
    unfinished = places.folder / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    account.make_directory(unfinished)
    # The locale of PostgreSQL's own making sorts alike on every machine; before 17 only C does.
    locale = ["--locale=C"]
    if major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options = [
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        "--auth=peer",
        "--encoding=UTF8",
        "--data-checksums",
        "--no-instructions",
        *locale,
        *(f"--set={name}={value}" for name, value in _SETTINGS.items()),
    ]
    status, output = account.run([binaries / "initdb", *options])
    if status != 0:
        raise EmbeddedServerError(f"the data directory {places.data} cannot be made: {tail(output)}")
    unfinished.rename(places.data)
    sync(places.folder)


def write_access(places: Places, names: Iterable[str]) -> None:
    """Write who may connect: over the socket only, and only these users of the operating system."""
    places.hba.write_text("# Written at every start.\nlocal all all peer map=hep\n")
    lines = [f'hep "{name}" {role}\n' for name in sorted(set(names)) for role in (SUPERUSER, ROLE)]
    places.ident.write_text("# Written at every start.\n" + "".join(lines))
    for file in (places.hba, places.ident):
        file.chmod(0o644)  # the server's user reads them, whatever the umask


def create_database(administration: str) -> None:
    """Create the product's role, which is no superuser, and its database, unless they are there.

    `administration` is a connection string for the superuser.
    """
    with connect(administration, autocommit=True) as connection:
        role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (ROLE,)).rowcount == 0:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).rowcount == 0:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))


def log_tail(places: Places) -> str:
    """The end of the server's newest log, as one line."""
    files = [places.start_log, *places.log.glob("*.log")]
    newest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_mtime_ns, default=None)
    return tail(newest.read_text(errors="replace")) if newest else "it left no log"


def tail(output: str) -> str:
    """The last lines of what a program of PostgreSQL printed, as one line: the cause often stands above the error."""
    lines = [_PREFIX.sub("", line).strip() for line in output.splitlines() if line.strip()]
    return " / ".join(lines[-_TAIL_LINES:]) or "it printed nothing"
