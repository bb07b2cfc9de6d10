"""Accounts of the database server that are members of the product's roles."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hook_event_processor.store import roles
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.embedded.places import Places

_PREFIX = "login_"


def administrator(server: EmbeddedServer, database: Database) -> Connection:
    """A session of the superuser on that database, in autocommit; to be closed."""
    name = conninfo_to_dict(database.conninfo)["dbname"]
    return psycopg.connect(make_conninfo(server.administration, dbname=name), autocommit=True)


def let_in(server: EmbeddedServer, home: Path) -> None:
    """Let the tests' own user in as whatever role begins with login_."""
    ident = Places(home.resolve()).ident
    line = f'hep "{pwd.getpwuid(os.geteuid()).pw_name}" /^{_PREFIX}\n'
    if line not in ident.read_text():
        ident.write_text(ident.read_text() + line)
        with psycopg.connect(server.administration, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")


def make_login(administration: Connection, name: str, *member_of: str) -> str:
    """Make the role login_NAME, unless it is there, a member of these roles; returns its name."""
    login = f"{_PREFIX}{name}"
    if administration.execute("SELECT FROM pg_roles WHERE rolname = %s", (login,)).rowcount == 0:
        administration.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
    for role in member_of:
        administration.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))
    return login


def as_login(database: Database, name: str) -> Database:
    """The database as that login reaches it."""
    return Database(make_conninfo(database.conninfo, user=f"{_PREFIX}{name}"), database.schema)


def give_roles(server: EmbeddedServer, database: Database, home: Path) -> Connection:
    """Apply sql/roles.sql to the database, with a login for each role; returns the superuser's session."""
    let_in(server, home)
    administration = administrator(server, database)
    roles.apply(administration)
    for role in roles.NAMES:
        make_login(administration, role.removeprefix("hook_"), role)
    return administration
