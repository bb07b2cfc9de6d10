"""`hep db`: migrations, roles, and the way into the database."""

from __future__ import annotations

import argparse
import os
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from hook_event_processor.cli.db_roles import add_role_commands
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.errors import HookEventProcessorError, UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "db", "migrate the database, check it, say who may do what, and get into it")
    command = add_command(group, "migrate", migrate, "apply the migrations that the database lacks", "hep db migrate")
    command.add_argument("--sql", action="store_true", help="print what would be run, for psql, and change nothing")
    add_format(command)
    add_format(
        add_command(group, "status", status, "list the migrations and whether they are applied", "hep db status")
    )
    command = add_command(
        group, "check", check, "fail unless the schema is exactly this program's", "hep db check && hep run"
    )
    add_format(command)
    add_role_commands(group)
    command = add_command(group, "url", url, "print the address of the database", 'psql "$(hep db url)"')
    command.add_argument("--with-password", action="store_true", help="print the password in it, where there is one")
    _add_psql(group)


def _add_psql(group: argparse._SubParsersAction[Any]) -> None:
    # No sign begins an option here: every argument is psql's.
    command = group.add_parser(
        "psql",
        help="open psql on the database",
        description="Open psql on the database, in the schema of the settings. All arguments are psql's own.",
        epilog="example: hep db psql -c 'SELECT * FROM events LIMIT 5'",
        prefix_chars="\1",
        add_help=False,
    )
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="passed on to psql")
    command.set_defaults(run=psql, show_help=command.print_help)


def migrate(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import line, result, write
    from hook_event_processor.store import migrate as migrations

    if arguments.sql and arguments.format == "json":
        raise UsageError("--sql prints SQL: --format json is for what was applied")
    with session(settings) as connection:
        if arguments.sql:
            write(migrations.script(connection, settings.schema))
            return 0
        applied: list[str] = []

        def report(migration: migrations.Migration) -> None:
            applied.append(f"{migration.version:04d} {migration.name}")
            if arguments.format == "table":
                line(f"applied {applied[-1]}")

        migrations.migrate(connection, settings.schema, report)
    done = f"{counted(len(applied), 'migration')} applied"
    result(arguments.format, done if applied else "nothing to apply: the database is up to date", {"applied": applied})
    return 0


def status(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, table
    from hook_event_processor.store import migrate as migrations

    with session(settings) as connection:
        known = migrations.status(connection)
    if arguments.format == "json":
        document([{"version": k.migration.version, "name": k.migration.name, "state": k.state} for k in known])
    else:
        table(("Version", "Name", "State"), [(f"{k.migration.version:04d}", k.migration.name, k.state) for k in known])
    return 0


def check(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import migrate as migrations

    with session(settings) as connection:
        migrations.check(connection)
    result(arguments.format, "the database's schema is this program's", {"ok": True})
    return 0


def url(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import open_database
    from hook_event_processor.cli.output import line

    line(_address(open_database(settings).conninfo, with_password=arguments.with_password))
    return 0


def _address(conninfo: str, *, with_password: bool) -> str:
    """A connection string as a URL (PostgreSQL manual, "Connection URIs")."""
    from psycopg.conninfo import conninfo_to_dict

    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    user, password = given.pop("user", ""), given.pop("password", "")
    given.pop("sslpassword", None)
    database = given.pop("dbname", "")
    authority = quote(user, safe="") + (f":{quote(password, safe='')}" if password and with_password else "")
    if "/" not in given.get("host", "/") and "," not in given["host"] and ":" not in given["host"]:
        port = given.pop("port", "")
        place = given.pop("host") + (f":{port}" if port else "")
    else:
        place = ""  # a socket's directory, several hosts, or IPv6: as parameters
    query = urlencode(given, quote_via=quote)
    return (
        f"postgresql://{authority}{'@' * bool(authority)}{place}/{quote(database, safe='')}{'?' * bool(query)}{query}"
    )


def psql(arguments: argparse.Namespace, settings: Settings) -> int:
    """Becomes psql, and so returns only after --help."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from hook_event_processor.cli.connect import open_database
    from hook_event_processor.store import embedded

    if arguments.arguments in (["--help"], ["-h"]):
        arguments.show_help()
        return 0
    database = open_database(settings)
    given = {name: str(value) for name, value in conninfo_to_dict(database.conninfo).items()}
    environment = dict(os.environ)
    # Not among the arguments, where every user of the machine could read it.
    if password := given.pop("password", None):
        environment["PGPASSWORD"] = password
    if (password := given.pop("sslpassword", None)) and "service" not in given:
        # No variable is for it: a file of services that only psql has.
        file = os.memfd_create("services", 0)
        os.write(file, f"[hep]\nsslpassword={password}\n".encode())
        environment["PGSERVICEFILE"], given["service"] = f"/proc/self/fd/{file}", "hep"
    if settings.schema:
        given["options"] = f'{given.get("options", "")} -c search_path="{settings.schema}"'.strip()
    # The wheel's knows no TLS, nor where this system's server has its socket: it is for the embedded server.
    own = None if given.get("host", "").startswith("/") else shutil.which("psql")
    program = own or str(embedded.psql_program())
    command = ["psql", "--dbname", make_conninfo(**given), *arguments.arguments]
    try:
        os.execve(program, command, environment)  # noqa: S606 - the arguments are psql's
    except OSError as fault:
        raise HookEventProcessorError(f"{program} cannot be run: {fault.strerror}") from None
