"""`hep hook check`: find what would be refused, and likely slips, without running anything."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.errors import HookRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hook_event_processor.settings import Settings
    from hook_event_processor.workshop.findings import Finding

_STANDARD_INPUT = "-"


def add_check_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "check",
        check_files,
        "find faults and likely slips in hooks without running them",
        "hep hook check notify.lua hooks/\n         hep hook check --as notify.lua - < notify.lua",
        "Prints file:line:column: error, warning or note: message, as editors read it. Errors are what\n"
        "'hep hook add' would refuse: syntax, unknown keys, modules and patterns. Warnings are likely slips:\n"
        "unused locals, undefined globals, functions that a module does not have, event types that are\n"
        "spelled almost like a known one. A name that begins with _ may be unused. No database is needed.\n\n"
        "Exit status: 0 nothing to complain of, 1 errors (with --strict also warnings), 2 misused.",
    )
    command.add_argument(
        "files", nargs="+", type=some_name, metavar="FILE", help="a Lua file, a directory of them, or - (input)"
    )
    command.add_argument("--as", dest="name", metavar="FILE", help="the name of the file that standard input is")
    command.add_argument("--strict", action="store_true", help="fail on warnings, too")
    add_format(command)


def check_files(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command is called so
    from hook_event_processor.workshop.findings import Severity

    if arguments.name is not None and _STANDARD_INPUT not in arguments.files:
        raise UsageError("--as is the name of standard input: it takes the FILE -")
    checked = list(_checked(arguments))
    if not checked:
        raise HookRefused(f"no Lua files in {', '.join(arguments.files)}")
    found = [(name, finding) for name, findings in checked for finding in findings]
    count = {severity: sum(finding.severity is severity for _, finding in found) for severity in Severity}
    if arguments.format == "json":
        _print_document(found)
    else:
        _print_lines(found, len(checked), count)
    return 1 if count[Severity.ERROR] or (arguments.strict and count[Severity.WARNING]) else 0


def _checked(arguments: argparse.Namespace) -> Iterator[tuple[str, Sequence[Finding]]]:
    """Each file's name and its findings."""
    from hook_event_processor.workshop.check import lua_files
    from hook_event_processor.workshop.texts import decoded, read_text

    for argument in arguments.files:
        if argument == _STANDARD_INPUT:
            name = arguments.name or "stdin.lua"
            content = sys.stdin.buffer.read()
            yield name, _findings(PurePath(name), partial(decoded, content, "standard input"))
        else:
            for path in lua_files([argument]):
                yield str(path), _findings(path, partial(read_text, path))


def _findings(path: PurePath, read: Callable[[], str]) -> Sequence[Finding]:
    """What is found in a file; that it cannot be read is an error as any other."""
    from hook_event_processor.workshop.check import check
    from hook_event_processor.workshop.findings import Finding, Severity

    try:
        return check(read(), path)
    except HookRefused as refusal:
        return [Finding(1, 1, Severity.ERROR, str(refusal))]


def _print_document(found: Sequence[tuple[str, Finding]]) -> None:
    from hook_event_processor.cli.output import document

    document(
        [
            {
                "file": name,
                "line": finding.line,
                "column": finding.column,
                "severity": finding.severity,
                "message": finding.message,
            }
            for name, finding in found
        ]
    )


def _print_lines(found: Sequence[tuple[str, Finding]], files: int, count: dict[Any, int]) -> None:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import line

    for name, finding in found:
        line(f"{name}:{finding.line}:{finding.column}: {finding.severity}: {finding.message}")
    said = [counted(number, str(severity)) for severity, number in count.items() if number]
    line(f"{', '.join(said) or 'no complaints'} in {counted(files, 'file')}")
