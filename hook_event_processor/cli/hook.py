"""`hep hook`: what runs for which events."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.hook_add import add_add
from hook_event_processor.cli.hook_apply import add_apply
from hook_event_processor.cli.hook_lib import add_lib_commands
from hook_event_processor.cli.hook_proposals import add_proposal_commands
from hook_event_processor.cli.hook_reports import add_report_commands
from hook_event_processor.cli.hook_versions import add_version_commands
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.workshop import add_workshop_commands

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hooks import KnownHook

_NOT_KEPT = "Events that come meanwhile are not kept for it: 'hep pause --hook NAME' keeps them."


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "hook", "add, list and inspect hooks")
    add_add(group)
    command = add_command(group, "list", list_hooks, "list all hooks", "hep hook list --stack production")
    command.add_argument("--stack", help="only hooks of this stack")
    add_format(command)
    for name, run, summary, more in (
        ("enable", enable, "let a hook run again", ""),
        ("disable", disable, "keep a hook, but do not run it", _NOT_KEPT),
        ("remove", remove, "remove a hook with its versions; its executions stay", ""),
    ):
        command = add_command(group, name, run, summary, f"hep hook {name} notify_on_failure", more)
        command.add_argument("name", metavar="NAME", help="the hook's name")
        add_reason(command)
        add_format(command)
    add_report_commands(group)
    add_version_commands(group)
    add_proposal_commands(group)
    add_apply(group)
    add_lib_commands(group)
    add_workshop_commands(group)


def list_hooks(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_reports import standing_document
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store.hooks import known_hooks
    from hook_event_processor.store.pauses import paused_hooks
    from hook_event_processor.store.suspects import deadly_hooks

    with session(settings) as connection:
        known = known_hooks(connection, arguments.stack)
        apart = deadly_hooks(connection)
        paused = paused_hooks(connection)
    if arguments.format == "json":
        document([standing_document(hook, paused) for hook in known])
    elif not known:
        line("No hooks" + (f" of the stack {arguments.stack}" if arguments.stack else "") + ".")
    else:
        _show_hooks(known, apart, paused)
    return 0


def _show_hooks(known: Sequence[KnownHook], apart: Collection[int], paused: Mapping[str, datetime | None]) -> None:
    """A table of hooks; `apart` has the ids of those that run in processes of their own."""
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.hook_reports import set_text, status_word
    from hook_event_processor.cli.output import line, local_time, table

    with_set = any(hook.params for hook in known)
    headers = ("Name", "Event Type", "Stack", *("Set",) * with_set, "Priority", "Status", "Kind", "Version", "Runs")
    rows = [
        (
            hook.name,
            ", ".join(hook.event_types),
            hook.stack or "-",
            *(set_text(hook),) * with_set,
            str(hook.priority),
            status_word(hook, apart, paused),
            hook.kind,
            str(hook.version),
            f"{hook.run_count:,}",
            local_time(hook.last_run),
        )
        for hook in known
    ]
    table(
        (*headers, "Last Run"),
        rows,
        right=("Priority", "Version", "Runs"),
        wrapped=("Name", "Event Type", "Stack", "Set"),
    )
    line(counted(len(known), "hook"))
    for hook in known:
        if hook.fault:
            line(f"The row of {hook.name} makes no sense: {hook.fault}")


def enable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=True)


def disable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=False)


def _set_enabled(arguments: argparse.Namespace, settings: Settings, *, enabled: bool) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, hook_changes

    word = "enabled" if enabled else "disabled"
    with session(settings) as connection, audit.because(connection, arguments.reason):
        changed = hook_changes.set_enabled(connection, arguments.name, enabled)
    text = f"{word}: hook {arguments.name}" if changed else f"hook {arguments.name} is {word} already"
    if changed and not enabled:
        text += f"; events that come meanwhile are not kept for it: 'hep pause --hook {arguments.name}' keeps them"
    result(arguments.format, text, {"hook": arguments.name, "enabled": enabled, "changed": changed})
    return 0


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, hook_changes

    with session(settings) as connection, audit.because(connection, arguments.reason):
        removed = hook_changes.remove(connection, arguments.name)
    result(arguments.format, f"removed: hook {removed.name}; its executions are kept", {"removed": removed.name})
    return 0
