"""`hep hook`: what runs for which events."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.hook_reports import add_report_commands
from hook_event_processor.cli.parser import add_command, add_format, add_group

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "hook", "add, list and inspect hooks")
    _add_add(group)
    command = add_command(group, "list", list_hooks, "list all hooks", "hep hook list --stack production")
    command.add_argument("--stack", help="only hooks of this stack")
    add_format(command)
    for name, run, summary in (
        ("enable", enable, "let a hook run again"),
        ("disable", disable, "keep a hook, but do not run it"),
        ("remove", remove, "remove a hook with its versions; its executions stay"),
    ):
        command = add_command(group, name, run, summary, f"hep hook {name} notify_on_failure")
        command.add_argument("name", metavar="NAME", help="the hook's name")
        add_format(command)
    add_report_commands(group)


def _add_add(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "add",
        add,
        "add a hook from a Lua file, or replace the text of the hook of that name",
        "hep hook add notify.lua --event 'task.*' --stack production",
        "What the file says of name, event types and so on holds unless an option says otherwise.\n"
        "The texts that a hook had before are kept; the same text adds no version.",
    )
    command.add_argument("file", metavar="FILE", help="the Lua file; - reads standard input")
    command.add_argument("--name", help="the hook's name (default: the file's, else the file name)")
    command.add_argument(
        "--event", action="append", metavar="PATTERN", help="event type, glob or ~regex; may be given several times"
    )
    command.add_argument("--stack", help="run for events of this stack only")
    command.add_argument("--description", help="what it is for")
    command.add_argument("--priority", type=int, help="lower runs first (default 0)")
    command.add_argument("--disabled", action="store_true", default=None, help="keep it, but do not run it yet")
    add_format(command)


def add(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_file import read_hook
    from hook_event_processor.cli.hook_reports import hook_document
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store import hooks

    hook, definition = read_hook(arguments, settings)
    with session(settings) as connection:
        change, stored = hooks.add(connection, hook)
    if arguments.format == "json":
        document({**hook_document(stored), "change": change})
        return 0
    stack = f" of the stack {stored.stack}" if stored.stack else ""
    line(f"{change}: hook {stored.name}, version {stored.version}, for {', '.join(stored.event_types)}{stack}")
    modules = f"; modules: {', '.join(definition.modules)}" if definition.modules else ""
    line(f"{'effectful: runs in a worker slot' if definition.effectful else 'pure: runs inside the claim'}{modules}")
    if not stored.enabled:
        line(f"It is disabled: 'hep hook enable {stored.name}' lets it run.")
    return 0


def list_hooks(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_reports import enabled_word, hook_document
    from hook_event_processor.cli.output import counted, document, line, local_time, table
    from hook_event_processor.store.hooks import known_hooks

    with session(settings) as connection:
        known = known_hooks(connection, arguments.stack)
    if arguments.format == "json":
        document([hook_document(hook) for hook in known])
    elif not known:
        line("No hooks" + (f" of the stack {arguments.stack}" if arguments.stack else "") + ".")
    else:
        headers = ("Name", "Event Type", "Stack", "Priority", "Status", "Kind", "Version", "Runs", "Last Run")
        rows = [
            (
                hook.name,
                ", ".join(hook.event_types),
                hook.stack or "-",
                str(hook.priority),
                enabled_word(hook),
                hook.kind,
                str(hook.version),
                f"{hook.run_count:,}",
                local_time(hook.last_run),
            )
            for hook in known
        ]
        table(headers, rows, right=("Priority", "Version", "Runs"), wrapped=("Name", "Event Type", "Stack"))
        line(counted(len(known), "hook"))
    return 0


def enable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=True)


def disable(arguments: argparse.Namespace, settings: Settings) -> int:
    return _set_enabled(arguments, settings, enabled=False)


def _set_enabled(arguments: argparse.Namespace, settings: Settings, *, enabled: bool) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hooks

    word = "enabled" if enabled else "disabled"
    with session(settings) as connection:
        changed = hooks.set_enabled(connection, arguments.name, enabled)
    text = f"{word}: hook {arguments.name}" if changed else f"hook {arguments.name} is {word} already"
    result(arguments.format, text, {"hook": arguments.name, "enabled": enabled, "changed": changed})
    return 0


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hooks

    with session(settings) as connection:
        removed = hooks.remove(connection, arguments.name)
    result(arguments.format, f"removed: hook {removed.name}; its executions are kept", {"removed": removed.name})
    return 0
