"""`hep hook propose | approve | reject`: hooks that somebody else approves than writes them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.hook_add import add_options
from hook_event_processor.cli.hook_proposal_reports import add_number, add_proposal_reports
from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_proposal_commands(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "propose",
        propose,
        "propose a hook, or a change of one, for somebody else to approve",
        "hep hook propose notify.lua --event 'task.*' --stack production --reason 'tell of failures'",
        "It takes what 'hep hook add' takes and refuses what that refuses, and changes nothing that runs. The\n"
        "database role that proposes cannot approve. hook_proposer may do no more than this (hep db roles).",
    )
    add_options(command)
    add_reason(command)
    add_format(command)
    add_proposal_reports(group)
    command = add_command(
        group,
        "approve",
        approve,
        "add a hook as it was proposed",
        "hep hook approve 3 --reason 'read and tried'",
        "As 'hep hook add' does, by whoever approves: it takes the right to do that, and another database role\n"
        "than the one that proposed. A hook that has changed since stays as it is.",
    )
    add_number(command)
    add_reason(command)
    add_format(command)
    command = add_command(
        group,
        "reject",
        reject,
        "refuse a proposal, or withdraw one's own",
        "hep hook reject 3 --reason 'it would mail everybody'",
    )
    add_number(command)
    command.add_argument("--reason", metavar="TEXT", required=True, type=some_name, help="why, for who proposed it")
    add_format(command)


def propose(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_add import missing_uses, runs_for, tell_uses
    from hook_event_processor.cli.hook_file import hook_of, newest_texts, read_file, said_by
    from hook_event_processor.cli.output import document, line, result, told
    from hook_event_processor.cli.type_note import note_slips_in_patterns
    from hook_event_processor.store import hook_changes, libraries
    from hook_event_processor.store import proposals as store

    file, said = read_file(arguments.file), said_by(arguments)
    with session(settings) as connection:
        hook, definition = hook_of(file, said, newest_texts(libraries.known(connection)), settings)
        base = hook_changes.replaceable(connection, hook.name)
        missing = missing_uses(hook, settings)
        about = {"base_version": base and base.version, "not_granted": {use.module: use.setting for use in missing}}
        if base is not None and store.changes_nothing(connection, base, hook):
            text = f"unchanged: hook {hook.name}, version {base.version}, is what is proposed"
            result(arguments.format, text, {"proposal": None, "hook": hook.name, "change": "unchanged", **about})
            return 0
        is_new, number = store.add(connection, hook, base, arguments.reason or "")
        note_slips_in_patterns(connection, list(hook.event_types))
    change = "proposed" if is_new else "proposed already"
    what = f"changes version {base.version} of" if base else "the new"
    text = f"{change}: proposal {number}, {what} hook {hook.name}, for {runs_for(hook)}"
    with told(text):
        if arguments.format == "json":
            document({"proposal": number, "hook": hook.name, "change": change, **about})
            return 0
        line(text)
        if arguments.reason and not is_new:
            line("Its reason is the one that was given first.")
        tell_uses(hook, definition, missing)
        authors = f"an author of the stack {hook.stack}, or the owner" if hook.stack else "the owner"
        line(f"Somebody else approves it ({authors}): 'hep hook approve {number}'")
    return 0


def approve(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_add import tell
    from hook_event_processor.cli.hook_file import newest_texts
    from hook_event_processor.cli.proposed_hook import proposed_hook
    from hook_event_processor.cli.type_note import note_slips_in_patterns
    from hook_event_processor.errors import HookRefused
    from hook_event_processor.store import audit, hook_changes, hooks, libraries
    from hook_event_processor.store import proposals as store

    with session(settings) as connection:
        with audit.because(connection, arguments.reason), connection.transaction():
            # First of all: whoever has it locked must not hold up those who change hooks.
            store.lock(connection, arguments.number)
            hook_changes.lock(connection)
            found = store.get(connection, arguments.number)
            before = hooks.find(connection, found.hook_name)
            refusal = store.why_not(found, before)
            if refusal:
                raise HookRefused(refusal)
            hook, definition = proposed_hook(found, newest_texts(libraries.known(connection)), settings)
            change, stored = hook_changes.add(connection, hook)
            store.decide(connection, found.id, "approved", arguments.reason or "")
        note_slips_in_patterns(connection, stored.event_types)
    tell(arguments.format, (change, before, stored), definition, settings, proposal=found.id)
    return 0


def reject(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import proposals as store

    with session(settings) as connection:
        found = store.get(connection, arguments.number)
        store.decide(connection, found.id, "rejected", arguments.reason)
    text = f"{'withdrawn' if found.own else 'rejected'}: proposal {found.id}, hook {found.hook_name}"
    result(arguments.format, text, {"proposal": found.id, "hook": found.hook_name, "state": "rejected"})
    return 0
