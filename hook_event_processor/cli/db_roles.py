"""`hep db roles | grant | revoke | grants`: who may do what in the database."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.roles import Grant

_KINDS = {
    "source": "a source that it may publish events of; a role that has any may publish no others",
    "stack": "a stack whose hooks it may see, and change as a member of hook_author, propose as one of hook_proposer",
    "host": "a host that it may watch, as a member of hook_watcher; one that has none may watch any",
}
# What a role may do that has none of the kind; of stacks that is nothing.
_UNLIMITED = {"source": "publish events of any", "host": "watch any"}


def add_role_commands(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "roles",
        roles,
        "make database roles with no more than each needs",
        "hep db roles --print | psql -U postgres hep",
        "hook_owner migrates and administers, hook_processor runs hooks, hook_watcher watches, hook_publisher writes\n"
        "events, hook_author changes hooks of its stacks, hook_proposer proposes such changes, hook_reader reads,\n"
        "hook_retention removes what is old.\n"
        "It takes a superuser, or CREATEROLE and the tables; again after each migration. What works goes on working.",
    )
    command.add_argument("--print", action="store_true", help="print what would be run, for psql, and change nothing")
    add_format(command)
    command = add_command(group, "grant", grant, "allow a role single things", "hep db grant ci --source deploy")
    _add_role(command)
    command = add_command(
        group,
        "revoke",
        revoke,
        "take back what a role was granted",
        "hep db revoke ci --source deploy",
        "Without options, all of it. A role that has no source left may publish any, one without a host watch any.",
    )
    _add_role(command)
    add_format(add_command(group, "grants", grants, "list what single roles were granted", "hep db grants"))


def _add_role(command: argparse.ArgumentParser) -> None:
    command.add_argument("role", metavar="ROLE", help="a role of the database server")
    for kind, text in _KINDS.items():
        command.add_argument(f"--{kind}", action="append", default=[], metavar="NAME", help=f"{text}; may be repeated")
    add_format(command)


def roles(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, table, write
    from hook_event_processor.store import roles

    if arguments.print:
        if arguments.format == "json":
            raise UsageError("--print prints SQL: --format json is for the roles that were made")
        write(roles.script(settings.schema))
        return 0
    with session(settings) as connection:
        known = roles.apply(connection)
    if arguments.format == "json":
        document([dataclasses.asdict(role) for role in known])
    else:
        table(("Role", "Members"), [(role.name, ", ".join(role.members) or "-") for role in known])
    return 0


def _said(arguments: argparse.Namespace) -> list[Grant]:
    from hook_event_processor.store.roles import Grant

    said = [Grant(arguments.role, kind, value) for kind in _KINDS for value in getattr(arguments, kind)]
    if not all(wanted.value for wanted in said):
        raise UsageError("an empty name is none")
    return said


def grant(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import roles

    wanted = _said(arguments)
    if not wanted:
        raise UsageError("say what: --source, --stack or --host (see 'hep db grant --help')")
    with session(settings) as connection:
        count = roles.grant(connection, wanted)
    text = f"{counted(count, 'grant')} added to {arguments.role}"
    result(arguments.format, text, {"role": arguments.role, "added": count})
    return 0


def revoke(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import roles

    with session(settings) as connection:
        revoked = roles.revoke(connection, arguments.role, _said(arguments))
    text = f"{counted(revoked.count, 'grant')} taken from {arguments.role}"
    for kind, end in revoked.unlimited.items():
        text += f"; it is limited to no {kind} any more, and may {_UNLIMITED[kind]}"
        text += f": {end} ends that" if end else ""
    said = {"role": arguments.role, "removed": revoked.count, "unlimited": revoked.unlimited}
    result(arguments.format, text, said)
    return 0


def grants(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, table
    from hook_event_processor.store import roles

    with session(settings) as connection:
        known = roles.granted(connection)
    if arguments.format == "json":
        document([dataclasses.asdict(each) for each in known])
    elif known:
        table(("Role", "Kind", "Name"), [(each.role, each.kind, each.value) for each in known])
    else:
        line("No grants.")
    return 0
