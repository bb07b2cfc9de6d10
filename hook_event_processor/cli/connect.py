"""Where the database is, and what to say when it will not do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hook_event_processor.errors import HookEventProcessorError, SchemaError, SettingsError, StoreUnavailable

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.database import Database


def open_database(settings: Settings) -> Database:
    """The database of the settings, else the embedded one that is running. Raises StoreUnavailable when none is."""
    import logging

    from hook_event_processor.store.database import Database

    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of what Ctrl-C has cut off
    conninfo = settings.conninfo
    if conninfo is None:
        from hook_event_processor.store import embedded

        conninfo = embedded.conninfo(settings.home)
    if conninfo is None:
        raise StoreUnavailable(
            f"no database: the embedded one in {settings.home} is not running and no other is set;"
            " start it with ./ops/up or 'hep up', or set DATABASE_URL, or DB_PASSWORD beside DB_HOST and the like"
        )
    return Database(conninfo, settings.schema)


def service_database(settings: Settings) -> Database:
    """The same for a service: that none is named is a setting that is missing, and no reason to try again.

    Raises SettingsError.
    """
    try:
        return open_database(settings)
    except StoreUnavailable as fault:
        raise SettingsError(str(fault)) from None


@contextmanager
def session(settings: Settings) -> Iterator[Connection]:
    """A session on the database for one command, in autocommit."""
    from psycopg import errors

    from hook_event_processor.store import own_events
    from hook_event_processor.store.audit import COMMAND_OF, fitted

    # The audit has it from the session's name, which poolers keep with each transaction.
    role = COMMAND_OF + fitted(f"{own_events.actor()}@{socket.gethostname()}")
    with open_database(settings).session(role) as connection:
        own_events.attach(connection, settings, "hep")
        try:
            yield connection
        except errors.LockNotAvailable as refusal:
            if whose := _changing(connection):
                raise HookEventProcessorError(f"{database_fault(refusal)}: {whose}") from None
            raise


def _changing(connection: Connection) -> str | None:
    """Who keeps others from changing hooks, pauses and schedules, if somebody does."""
    from psycopg import Error

    from hook_event_processor.store.checkup import sessions

    holder = None
    with suppress(Error):  # not every role may look
        holder = sessions.changing(connection)
    if holder is None:
        return None
    return (
        f"process {holder.pid} ({holder.user}, {holder.application or 'no application_name'}) has changed hooks, pauses"
        f" or schedules in a transaction that is open; SELECT pg_terminate_backend({holder.pid}) ends it"
    )


def database_fault(fault: Exception) -> HookEventProcessorError | None:
    """A database's refusal as an error of one line; None for what is none."""
    from psycopg import Error, errors

    if not isinstance(fault, Error):
        return None
    if isinstance(fault, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedFunction):
        return SchemaError("the database has not been migrated for this program: run 'hep db migrate'")
    said = fault.diag.message_primary or " ".join(str(fault).split()) or type(fault).__name__
    if said.startswith("permission denied"):
        # Of a role that lacks it on purpose, and of one that was granted what an older version needs.
        said += "; after an upgrade, the owner runs 'hep db roles' again"
    return HookEventProcessorError(f"the database refused: {said}")
