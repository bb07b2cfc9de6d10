"""`hep hook`: what runs for which events."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.hook_apply import add_apply
from hook_event_processor.cli.hook_lib import add_lib_commands
from hook_event_processor.cli.hook_reports import add_report_commands
from hook_event_processor.cli.hook_versions import add_version_commands
from hook_event_processor.cli.names import pattern, some_name
from hook_event_processor.cli.parser import Parser, add_command, add_format, add_group
from hook_event_processor.cli.workshop import add_workshop_commands

if TYPE_CHECKING:
    from hook_event_processor.cli.hook_permissions import Use
    from hook_event_processor.lua.loader import Definition
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change
    from hook_event_processor.store.hooks import KnownHook

_NOT_KEPT = "Events that come meanwhile are not kept for it: 'hep pause --hook NAME' keeps them."


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "hook", "add, list and inspect hooks")
    _add_add(group)
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
    add_apply(group)
    add_lib_commands(group)
    add_workshop_commands(group)


def _add_add(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "add",
        add,
        "add a hook from a Lua file, or replace the text of the hook of that name",
        "hep hook add notify.lua --event 'task.*' --stack production",
        "What the file says of name, event types and so on holds unless an option says otherwise.\n"
        "The texts that a hook had before are kept; the same text adds no version.\n"
        "--set gives a value to a parameter, whose default stands in the table params of the hook:\n"
        "with --name it makes several hooks from one text.",
    )
    assert isinstance(command, Parser)  # noqa: S101 - all commands are
    command.several = "; it takes one file: 'hep hook apply DIR' adds a directory's"
    command.add_argument("file", metavar="FILE", help="the Lua file; - reads standard input")
    command.add_argument("--name", type=some_name, help="the hook's name (default: the file's, else the file name)")
    command.add_argument(
        "--event",
        action="append",
        type=pattern,
        metavar="PATTERN",
        help="event type, glob or ~regex; may be given several times",
    )
    stack = command.add_mutually_exclusive_group()
    stack.add_argument("--stack", type=some_name, help="run for events of this stack only")
    stack.add_argument(
        "--all-stacks", dest="stack", action="store_const", const="", help="run for all, where the file names a stack"
    )
    command.add_argument("--description", help="what it is for")
    command.add_argument("--priority", type=int, help="lower runs first (default 0)")
    command.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="a parameter: JSON, or else a string; may be given several times",
    )
    command.add_argument("--disabled", action="store_true", default=None, help="keep it, but do not run it yet")
    command.add_argument(
        "--watch",
        action="store_true",
        help="FILE is a directory: add its hooks, and lib/*.lua as libraries, and again whenever one is saved,"
        " until Ctrl-C",
    )
    add_format(command)


def add(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.watch:
        from hook_event_processor.cli.hook_watch import watch

        return watch(arguments, settings)
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_file import hook_of, newest_texts, read_file, said_by
    from hook_event_processor.cli.type_note import note_slips_in_patterns
    from hook_event_processor.store import hook_changes, hooks, libraries

    file, said = read_file(arguments.file), said_by(arguments)
    with session(settings) as connection:
        with connection.transaction():
            hook_changes.lock(connection)
            hook, definition = hook_of(file, said, newest_texts(libraries.known(connection)), settings)
            before = hooks.find(connection, hook.name)
            change, stored = hook_changes.add(connection, hook)
        note_slips_in_patterns(connection, stored.event_types)
    _tell(arguments.format, change, stored, definition, settings)
    if arguments.format != "json" and before is not None:
        _tell_dropped(before, stored)
    return 0


def _tell_dropped(before: KnownHook, stored: KnownHook) -> None:
    """Options are not remembered from one add to the next, and that is easily overlooked."""
    from hook_event_processor.cli.output import line

    dropped = [f"--set {name}" for name in before.params if name not in stored.params]
    stack = "--stack" if before.overrides.get("stack") else "--all-stacks"
    options = {"event_types": "--event", "stack": stack, "priority": "--priority", "description": "--description"}
    dropped += [option for name, option in options.items() if name in before.overrides and name not in stored.overrides]
    if dropped:
        line(f"No longer in force: {', '.join(dropped)}, given when it was added before.")


def _tell(form: str, change: Change, stored: KnownHook, definition: Definition, settings: Settings) -> None:
    from hook_event_processor.cli.hook_permissions import uses
    from hook_event_processor.cli.hook_reports import hook_document
    from hook_event_processor.cli.output import document, line

    missing = [use for use in uses(stored.modules, settings.policy.grants(stored.name, stored.stack)) if use.missing]
    if form == "json":
        not_granted = {use.module: use.setting for use in missing}
        document({**hook_document(stored), "change": change, "not_granted": not_granted})
        return
    stack = f" of the stack {stored.stack}" if stored.stack else ""
    line(f"{change}: hook {stored.name}, version {stored.version}, for {', '.join(stored.event_types)}{stack}")
    _tell_uses(stored, definition, missing)
    if not stored.enabled:
        line(f"It is disabled: 'hep hook enable {stored.name}' lets it run.")


def _tell_uses(stored: KnownHook, definition: Definition, missing: list[Use]) -> None:
    from hook_event_processor.cli.hook_permissions import missing_line
    from hook_event_processor.cli.hook_reports import libraries_text, params_text
    from hook_event_processor.cli.output import line

    modules = f"; modules: {', '.join(definition.modules)}" if definition.modules else ""
    line(f"{'effectful: runs in a worker slot' if definition.effectful else 'pure: runs inside the claim'}{modules}")
    if stored.libraries:
        line(f"libraries: {libraries_text(stored)}")
    if stored.param_defaults:
        line(f"parameters: {params_text(stored)}")
    for use in missing:
        line(missing_line(use))


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
    from hook_event_processor.cli.hook_reports import set_text, status_word
    from hook_event_processor.cli.output import counted, line, local_time, table

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
