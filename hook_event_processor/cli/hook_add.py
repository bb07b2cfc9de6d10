"""`hep hook add`: a hook from a file, and what is said of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import hook_description, hook_stack, pattern, some_name
from hook_event_processor.cli.parser import Parser, add_command, add_format

if TYPE_CHECKING:
    from hook_event_processor.cli.hook_permissions import Use
    from hook_event_processor.lua.loader import Definition
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change, NewHook
    from hook_event_processor.store.hooks import KnownHook
    from hook_event_processor.store.proposals import Proposal


def add_add(group: argparse._SubParsersAction[Any]) -> None:
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
    add_options(command)
    command.add_argument(
        "--watch",
        action="store_true",
        help="FILE is a directory: add its hooks, and lib/*.lua as libraries, and again whenever one is saved,"
        " until Ctrl-C",
    )
    add_format(command)


def add_options(command: argparse.ArgumentParser) -> None:
    """The file of a hook, and what may be said over it."""
    assert isinstance(command, Parser)  # noqa: S101 - all commands are
    command.several = "; it takes one file: 'hep hook apply DIR' adds a directory's"
    command.add_argument("file", type=some_name, metavar="FILE", help="the Lua file; - reads standard input")
    command.add_argument("--name", type=some_name, help="the hook's name (default: the file's, else the file name)")
    command.add_argument(
        "--event",
        action="append",
        type=pattern,
        metavar="PATTERN",
        help="event type, glob or ~regex; may be given several times",
    )
    stack = command.add_mutually_exclusive_group()
    stack.add_argument("--stack", type=hook_stack, help="run for events of this stack only")
    stack.add_argument(
        "--all-stacks", dest="stack", action="store_const", const="", help="run for all, where the file names a stack"
    )
    command.add_argument("--description", type=hook_description, help="what it is for")
    command.add_argument("--priority", type=int, help="lower runs first (default 0)")
    command.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="a parameter: JSON, or else a string; may be given several times",
    )
    command.add_argument("--disabled", action="store_true", default=None, help="keep it, but do not run it yet")


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
    tell(arguments.format, (change, before, stored), definition, settings)
    return 0


def tell(
    form: str, done: tuple[Change, KnownHook | None, KnownHook], definition: Definition, settings: Settings, **more: Any
) -> None:
    """Say what adding a hook did: the change, the hook before, if there was one, and as it is stored."""
    from hook_event_processor.cli.hook_reports import hook_document
    from hook_event_processor.cli.output import document, line, told

    change, before, stored = done
    missing = missing_uses(stored, settings)
    text = f"{change}: hook {stored.name}, version {stored.version}, for {runs_for(stored)}"
    with told(text):
        if form == "json":
            not_granted = {use.module: use.setting for use in missing}
            document({**hook_document(stored), "change": change, "not_granted": not_granted, **more})
            return
        line(text)
        tell_uses(stored, definition, missing)
        if not stored.enabled:
            line(f"It is disabled: 'hep hook enable {stored.name}' lets it run.")
        if before is not None:
            _tell_dropped(before, stored)


def runs_for(hook: KnownHook | NewHook | Proposal) -> str:
    """Which events a hook runs for."""
    return ", ".join(hook.event_types) + (f" of the stack {hook.stack}" if hook.stack else "")


def missing_uses(hook: KnownHook | NewHook, settings: Settings) -> list[Use]:
    """The modules that the hook needs and is not granted on this host."""
    from hook_event_processor.cli.hook_permissions import uses

    return [use for use in uses(hook.modules, settings.policy.grants(hook.name, hook.stack)) if use.missing]


def tell_uses(hook: KnownHook | NewHook, definition: Definition, missing: list[Use]) -> None:
    """Say how a hook runs, and with what."""
    from hook_event_processor.cli.hook_permissions import missing_line
    from hook_event_processor.cli.hook_reports import libraries_text, params_text
    from hook_event_processor.cli.output import line

    modules = f"; modules: {', '.join(definition.modules)}" if definition.modules else ""
    line(f"{'effectful: runs in a worker slot' if definition.effectful else 'pure: runs inside the claim'}{modules}")
    if hook.libraries:
        line(f"libraries: {libraries_text(hook)}")
    if hook.param_defaults:
        line(f"parameters: {params_text(hook)}")
    for use in missing:
        line(missing_line(use))


def _tell_dropped(before: KnownHook, stored: KnownHook) -> None:
    """Options are not remembered from one add to the next, and that is easily overlooked."""
    from hook_event_processor.cli.output import line

    dropped = [f"--set {name}" for name in before.params if name not in stored.params]
    stack = "--stack" if before.overrides.get("stack") else "--all-stacks"
    options = {"event_types": "--event", "stack": stack, "priority": "--priority", "description": "--description"}
    dropped += [option for name, option in options.items() if name in before.overrides and name not in stored.overrides]
    if dropped:
        line(f"No longer in force: {', '.join(dropped)}, given when it was added before.")
