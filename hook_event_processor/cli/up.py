"""`hep up`: everything at once - database, migrations, starter hooks, a processor and watchers, until Ctrl-C."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.output import flush, line, note
from hook_event_processor.cli.parser import add_command

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings

_NAMES_THE_DATABASE = ("DATABASE_URL", "DB_PASSWORD", "DB_HOST", "DB_PORT", "DB_USER", "DB_NAME", "DB_SCHEMA")
_FIRST_EVENT = ("events", "emit", "greeting.sent", '{"name": "world"}')
_STARTERS = Path(__file__).parents[1] / "starter"
_UNTOUCHED = 1  # the registry's revision before the first hook


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    add_command(
        commands,
        "up",
        up,
        "start the database, migrate it, and run a processor and this host's watchers until Ctrl-C",
        "HEP_HOME=/srv/hooks hep up",
        "The database is the one that DATABASE_URL, PG* or DB_PASSWORD name, else an embedded PostgreSQL.\n"
        "The first time, two starter hooks are added. The watcher daemon is started once this host has a watcher.",
    )


def up(_: argparse.Namespace, settings: Settings) -> int:
    """Returns the processor's exit status, once all that was started here has ended."""
    with _signals(), ExitStack() as started:
        return _run(settings, started)


def _run(settings: Settings, started: ExitStack) -> int:
    from hook_event_processor.cli.beside import Beside
    from hook_event_processor.service import serve
    from hook_event_processor.store.database import Database

    conninfo = settings.conninfo or _start_embedded(settings.home, started)
    settings = dataclasses.replace(settings, conninfo=conninfo)
    database = Database(conninfo, settings.schema)
    with database.session("up") as connection:
        _prepare(connection, settings)
    beside = Beside(settings, database)
    started.callback(beside.stop)
    beside.start()
    return serve(settings, database, on_ready=_say_ready)


def _start_embedded(home: Path, started: ExitStack) -> str:
    """The connection string of the embedded server, which `started` stops when it is this process's."""
    from hook_event_processor.store import embedded

    note(f"starting PostgreSQL in {home}")
    server = started.enter_context(embedded.start(home))
    if server.owned:
        server.keep(note)
        started.callback(note, "stopping PostgreSQL")
    else:
        note("it is running already, and will go on: another process started it")
    return server.conninfo


@contextmanager
def _signals() -> Iterator[None]:
    """Until the processor takes it over, SIGTERM ends the command as Ctrl-C does, so that nothing is left behind.

    A closed terminal (SIGHUP) counts as SIGTERM all the time.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def terminate(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt),
        signal.SIGHUP: signal.signal(signal.SIGHUP, terminate),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prepare(connection: Connection, settings: Settings) -> None:
    from hook_event_processor.store.migrate import migrate

    count = migrate(connection, settings.schema)
    if count:
        note(f"applied {count} migrations")
    for name in _add_starters(connection, settings):
        note(f"added the starter hook {name}")


def _add_starters(connection: Connection, settings: Settings) -> list[str]:
    """Add the starter hooks to a database that never had a hook, so that one that was removed stays so."""
    from hook_event_processor.cli.hook_file import read_hook
    from hook_event_processor.cli.parser import parser
    from hook_event_processor.store import hook_changes, hooks

    if hooks.revision(connection) != _UNTOUCHED:
        return []
    with connection.transaction():
        hook_changes.lock(connection)
        if hooks.revision(connection) != _UNTOUCHED:  # another `hep up` was faster
            return []
        for file in sorted(_STARTERS.glob("*.lua")):
            hook, _ = read_hook(parser().parse_args(["hook", "add", str(file)]), settings)
            hook_changes.add(connection, hook)
    return [hook.name for hook in hooks.known_hooks(connection)]


def _say_ready() -> None:
    line(_ready_line())
    flush()


def _ready_line() -> str:
    """`ready:` and a command for another terminal, with this one's HEP_HOME; other settings are only named."""
    from hook_event_processor.settings import LIBPQ_VARIABLES

    command = shlex.join((_program(), *_FIRST_EVENT))
    if os.environ.get("HEP_HOME"):
        command = f"HEP_HOME={shlex.quote(os.path.abspath(os.environ['HEP_HOME']))} {command}"
    given = [name for name in (*_NAMES_THE_DATABASE, *LIBPQ_VARIABLES) if os.environ.get(name)]
    same = f" with the same {' and '.join(given)}" if given else ""  # they may hold a password
    return f"ready: in another terminal{same} try: {command}"


def _program() -> str:
    """How this program is called: by its name when it is on the PATH, else by the shorter path."""
    called = Path(sys.argv[0]).absolute()
    found = shutil.which(called.name)
    if found is not None and Path(found) == called:
        return called.name
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)
