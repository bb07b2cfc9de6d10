"""`hep hook versions | diff | rollback`: what a hook was, what changed, and the way back."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count
from hook_event_processor.same_json import is_same

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hooks import HookVersion, KnownHook

_HEADING = re.compile(r"(---|\+\+\+) (/dev/null$|.*\t(version|proposal) \d+$)")
# What ends a line, and so a comment, for Lua (reference manual, 3.1): not the form feeds of splitlines.
_LINE_END = re.compile(r"\r\n|\n\r|\r|\n")
_LAST_END = re.compile(rf"({_LINE_END.pattern})\Z")
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def add_version_commands(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group, "versions", versions, "list the versions of a hook", "hep hook versions notify_on_failure"
    )
    _add_name(command)
    add_format(command)
    command = add_command(
        group,
        "diff",
        diff,
        "show what changed between two versions of a hook",
        "hep hook diff notify_on_failure --from 1 --to 3",
        "Its text, its parameters and its libraries are compared.",
    )
    _add_name(command)
    command.add_argument("--from", dest="old", type=count, metavar="N", help="default: the version before the other")
    command.add_argument("--to", dest="new", type=count, metavar="N", help="default: the version that runs")
    add_format(command)
    command = add_command(
        group,
        "rollback",
        rollback,
        "let an older version of a hook run again",
        "hep hook rollback notify_on_failure --to 1",
        "A new version is added with that version's text, parameters and libraries; what options said over the\n"
        "text (--event, --stack, --priority, --description) stays, and so does whether it is enabled.",
    )
    _add_name(command)
    command.add_argument("--to", dest="old", type=count, metavar="N", required=True, help="the version that was good")
    add_format(command)


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the hook's name")


def versions(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_reports import versions_document
    from hook_event_processor.cli.output import document, line, local_time, table
    from hook_event_processor.store import hooks

    with session(settings) as connection:
        hook = hooks.get(connection, arguments.name)
        texts = hooks.versions(connection, hook.id)
    if arguments.format == "json":
        document({"hook": hook.name, "current": hook.version, "versions": versions_document(texts)})
    elif not texts:
        line(f"The hook {hook.name} is a Python handler: it has no versions.")
    else:
        rows = [
            (
                f"{text.version}{' (current)' * (text.version == hook.version)}",
                local_time(text.created_at),
                text.sha256[:12],
                _listed("{}={}", text.params),
                _listed("lib.{} {}", text.libraries),
                text.reason or "-",
                text.file_path or "-",
            )
            for text in texts
        ]
        headers = ("Version", "Added", "SHA-256", "Set", "Libraries", "Reason", "File")
        table(headers, rows, wrapped=("Set", "Libraries", "Reason", "File"))
        for text in texts:
            if text.fault:
                line(f"Version {text.version} makes no sense: {text.fault}")
    return 0


def _listed(form: str, pairs: Any) -> str:
    return ", ".join(form.format(name, _json(value)) for name, value in sorted(pairs.items())) or "-"


def _json(value: object) -> str:
    import orjson

    return orjson.dumps(value).decode()


def diff(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line
    from hook_event_processor.store import hooks

    with session(settings) as connection:
        hook = hooks.get(connection, arguments.name)
        new = hooks.version_of(connection, hook, arguments.new or hook.version)
        old = hooks.version_of(connection, hook, arguments.old) if arguments.old else _before(connection, hook, new)
        lines = list(changes(connection, hook.name, old, new))
    if arguments.format == "json":
        changed = {
            "params": {"from": old.params, "to": new.params},
            "libraries": {"from": old.libraries, "to": new.libraries},
        }
        document({"hook": hook.name, "from": old.version, "to": new.version, "diff": "\n".join(lines), **changed})
    elif not lines:
        line(f"Versions {old.version} and {new.version} of the hook {hook.name} are the same.")
    if arguments.format != "json":
        show_diff(lines)
    return 0


def show_diff(lines: Iterable[str]) -> None:
    """Print a unified diff, in colours on a terminal."""
    from hook_event_processor.cli.output import styled_line
    from hook_event_processor.cli.visible import reveal

    for text in lines:
        styled_line(reveal(text), _STYLES.get(text[:1], "") if not _HEADING.match(text) else "bold")


def _before(connection: Connection, hook: KnownHook, new: HookVersion) -> HookVersion:
    from hook_event_processor.errors import NotFound
    from hook_event_processor.store import hooks

    older = [version for version in hooks.versions(connection, hook.id) if version.version < new.version]
    if not older:
        raise NotFound(f"the hook {hook.name!r} has no version before {new.version}")
    return older[0]


def changes(
    connection: Connection, name: str, old: HookVersion | None, new: HookVersion, called: str = ""
) -> Iterator[str]:
    """A unified diff of all that makes two versions what they are.

    `old` None stands for nothing; `called` is what to call the new one (default: by its number).
    """
    called = called or _called(new.version)
    before, text = (_called(old.version), old.source_text) if old else ("", "")
    yield from _unified(f"{name}.lua", before, text, called, new.source_text)
    params, libraries = (old.params, old.libraries) if old else ({}, {})
    if not is_same(params, new.params):
        yield from _unified("parameters", before, _lines_of(params), called, _lines_of(new.params))
    for library in sorted({*libraries, *new.libraries}):
        numbers = libraries.get(library, 0), new.libraries.get(library, 0)
        if numbers[0] != numbers[1]:
            first, second = (_library_text(connection, library, number) for number in numbers)
            yield from _unified(f"lib/{library}.lua", _called(numbers[0]), first, _called(numbers[1]), second)


def _called(version: int) -> str:
    return f"version {version}" if version else ""


def _lines_of(params: Any) -> str:
    return "".join(f"{name} = {_json(value)}\n" for name, value in sorted(params.items()))


def _library_text(connection: Connection, name: str, version: int) -> str:
    from hook_event_processor.errors import NotFound
    from hook_event_processor.store import libraries

    try:
        return libraries.text_of(connection, name, version) if version else ""
    except NotFound:
        return "-- removed\n"


def _unified(file: str, old: str, old_text: str, new: str, new_text: str) -> Iterator[str]:
    old_name, new_name = (f"{file}\t{called}" if called else "/dev/null" for called in (old, new))
    old_lines, new_lines = (_LINE_END.split(_LAST_END.sub("", text)) if text else [] for text in (old_text, new_text))
    return difflib.unified_diff(old_lines, new_lines, old_name, new_name, lineterm="")


def rollback(arguments: argparse.Namespace, settings: Settings) -> int:
    from dataclasses import replace

    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_file import said_of
    from hook_event_processor.cli.hook_refresh import library_texts_of, store_again
    from hook_event_processor.cli.hook_reports import hook_document
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import hook_changes, hooks

    with session(settings) as connection, connection.transaction():
        hook_changes.lock(connection)
        hook = hooks.get(connection, arguments.name)
        old = hooks.version_of(connection, hook, arguments.old)
        said = replace(said_of(hook, f"rollback to version {old.version}"), params=old.params)
        shared = library_texts_of(connection, hook, old)
        change, stored = store_again(connection, hook, old, said, shared, settings)
    if change is hook_changes.Change.REPLACED:
        text = f"rolled back: hook {stored.name}, version {stored.version} is version {old.version} again"
    else:
        text = f"unchanged: hook {stored.name}, version {stored.version} is the same as version {old.version}"
    result(arguments.format, text, {**hook_document(stored), "change": change, "rolled_back_to": old.version})
    return 0
