"""`hep config`: the settings in effect, and where each comes from."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings

_DOTENV = Path(".env")
_MASK = "***"
_MEGABYTE = 1024 * 1024
# Each leads to a server by itself where no connection string is given; in the order of settings.load.
_BESIDE_A_URL = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "DB_PASSWORD")
_BESIDE_A_PASSWORD = ("DB_HOST", "DB_PORT", "DB_USER", "DB_NAME")
_NEAR = 0.8  # how much of two names must be the same, as difflib counts it
_PATHS = ("HOOK_FILE_ROOTS",)  # separated by colons


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "config",
        config,
        "show the settings in effect and where each comes from",
        "POLL_INTERVAL=5 hep config",
        "Passwords are masked.",
    )
    add_format(command)


def config(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.output import document, table

    rows = [_database(settings), ("HEP_HOME", str(settings.home), _origin("HEP_HOME")), *_settings(settings)]
    if arguments.log_level:
        rows = [
            ("LOG_LEVEL", value, "--log-level") if name == "LOG_LEVEL" else (name, value, origin)
            for name, value, origin in rows
        ]
    if arguments.format == "json":
        document([{"name": name, "value": value, "from": origin} for name, value, origin in rows])
    else:
        table(("Setting", "Value", "From"), rows, wrapped=("Value", "From"))
    _note_misspelled()
    return 0


def _note_misspelled() -> None:
    """Note names in .env that are nearly those of settings; others are of no concern to this program."""
    from hook_event_processor.cli.output import note
    from hook_event_processor.settings import LIBPQ_VARIABLES, VARIABLES, read_dotenv

    known = {*VARIABLES, *LIBPQ_VARIABLES, "DATABASE_URL", *_BESIDE_A_URL, *_BESIDE_A_PASSWORD, "HEP_HOME"}
    for name in read_dotenv(_DOTENV):
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_NEAR)
        if near and name not in known:
            note(f"note: {_DOTENV}: {name} is no setting; did you mean {near[0]}?")


def _settings(settings: Settings) -> list[tuple[str, str, str]]:
    from hook_event_processor.settings import VARIABLES

    return [
        (variable, shown(variable, getattr(settings, attribute)), _origin(variable))
        for variable, (attribute, _) in VARIABLES.items()
    ]


def shown(variable: str, value: object) -> str:
    """The value as its variable would take it."""
    if variable in ("RETENTION", "AUDIT_RETENTION"):
        return f"{value / timedelta(hours=1):g}h" if isinstance(value, timedelta) else "off"
    if isinstance(value, bool):
        return "on" if value else "off"
    if variable.endswith("_MB") and isinstance(value, int):
        return str(value // _MEGABYTE)
    if isinstance(value, tuple):
        return (":" if variable in _PATHS else ",").join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value or "")


def _database(settings: Settings) -> tuple[str, str, str]:
    from psycopg.conninfo import conninfo_to_dict

    from hook_event_processor.connection_values import SECRETS

    if settings.conninfo is None:
        return "DATABASE_URL", f"the embedded PostgreSQL in {settings.home}", "default"
    given = conninfo_to_dict(settings.conninfo)
    shown = " ".join(f"{name}={_MASK if name in SECRETS else value}" for name, value in given.items())
    return "DATABASE_URL", shown, _origin_of_database()


def _origin_of_database() -> str:
    """What leads to the server, as settings.load decides."""
    from hook_event_processor.settings import credential, merged

    if given := _given("DATABASE_URL"):
        return given
    if not credential(merged(os.environ, _DOTENV), "database_url"):
        for name in _BESIDE_A_URL:
            if given := _given(name):
                return f"{given}: {name}"
    return "systemd credential"


def _origin(name: str) -> str:
    return _given(name) or "default"


def _given(name: str) -> str | None:
    """Where this variable comes from; None if nowhere: one that is empty hides what a later source has."""
    for origin, values in _sources():
        if name in values:
            return origin if values[name].strip() else None
    return None


def _sources() -> tuple[tuple[str, Mapping[str, str]], ...]:
    from hook_event_processor.settings import read_dotenv

    return ("environment", os.environ), (".env", read_dotenv(_DOTENV))
