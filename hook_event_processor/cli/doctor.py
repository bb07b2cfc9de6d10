"""`hep doctor`: what is wrong, what it means, and how to mend it."""

from __future__ import annotations

import argparse
import shutil
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format, suggest
from hook_event_processor.errors import StoreUnavailable

if TYPE_CHECKING:
    from hook_event_processor.doctor.checkup import Doctor, Result
    from hook_event_processor.doctor.finding import Finding
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.database import Database

# Named here, so that the parser need not import what looks at them.
AREAS = (
    *("files", "units", "database", "server", "schema", "roles", "wake", "sessions", "growth"),
    *("processors", "events", "hooks", "schedules", "watchers"),
)
_SIGNS = {"ok": "✓", "problem": "✗", "warning": "!", "note": "·", "skipped": "-"}
_COLOURS = {"ok": "32", "problem": "31", "warning": "33", "note": "36", "skipped": "2"}
_INDENT = "    "
_WIDEST = 110
SILENT_SECONDS = 5.0


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "doctor",
        doctor,
        "find what is wrong, say what it means, and mend what is safe to mend",
        "hep doctor --fix schema growth",
        f"AREA is one of {', '.join(AREAS)}; without any, all are looked at.\n"
        "It needs no processor, and looks at this host though the database is away.\n"
        "Exit status: 0 nothing but notes, 1 a problem or a warning, 2 misused.",
    )
    areas = command.add_argument("areas", nargs="*", type=_area, metavar="AREA", help="what to look at")
    suggest(areas, lambda: AREAS)
    command.add_argument(
        "--fix", action="store_true", help="mend what can be mended safely, say what was done, and look again"
    )
    add_format(command)


def _area(text: str) -> str:
    if text not in AREAS:
        raise argparse.ArgumentTypeError(f"{text!r} is no area: there are {', '.join(AREAS)}")
    return text


def doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.doctor import checkup
    from hook_event_processor.doctor.finding import Level

    areas = [area for area in checkup.AREAS if area.name in (arguments.areas or AREAS)]
    database, away = _database(settings)
    with checkup.doctor(settings, database, away) as examining:
        results = list(examining.look(areas))
        if arguments.fix:
            results = _fixed(examining, results)
    if arguments.format == "json":
        _show_document(results, examining)
    else:
        _show(results, examining)
    bad = any(finding.kind.level is not Level.NOTE for result in results for finding in result.findings)
    return 1 if bad else 0


def _database(settings: Settings) -> tuple[Database | None, str]:
    from hook_event_processor.cli.connect import open_database

    try:
        return open_database(settings), ""
    except StoreUnavailable as fault:
        return None, str(fault)


def _fixed(examining: Doctor, results: Sequence[Result]) -> list[Result]:
    """What is left after the fixes: areas without one are as they were."""
    with _told_of_waiting():
        examining.fix(results)
    mended = [result.area for result in results if any(finding.fix is not None for finding in result.findings)]
    anew = {result.area.name: result for result in examining.look(mended)}
    return [anew.get(result.area.name, result) for result in results]


@contextmanager
def _told_of_waiting() -> Iterator[None]:
    """Say on standard error when it takes long: to build an index, what is open now must end first."""
    from hook_event_processor.cli.output import note

    text = (
        "still mending: an index waits for transactions that began before it was; 'hep doctor sessions' names old ones"
    )
    timer = threading.Timer(SILENT_SECONDS, note, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show_document(results: Sequence[Result], examining: Doctor) -> None:
    from hook_event_processor.cli.output import document

    document(
        {
            "ok": all(_state(result) in ("ok", "note") for result in results),
            "areas": [{"name": result.area.name, "state": _state(result)} for result in results],
            "findings": [
                {
                    "area": result.area.name,
                    "kind": finding.kind.name,
                    "level": finding.kind.level,
                    "what": finding.what,
                    "meaning": finding.kind.meaning,
                    "mend": list(finding.mend),
                    "fixable": finding.fix is not None,
                }
                for result in results
                for finding in result.findings
            ],
            "fixed": [
                {
                    "kind": mended.finding.kind.name,
                    "what": mended.finding.what,
                    "done": mended.done,
                    "said": mended.said,
                }
                for mended in examining.mended
            ],
        }
    )


def _state(result: Result) -> str:
    """The worst level of its findings; ok without any, skipped where the database was needed and away."""
    if not result.looked and not result.findings:
        return "skipped"
    levels = [finding.kind.level.value for finding in result.findings]
    return next((level for level in ("problem", "warning", "note") if level in levels), "ok")


def _show(results: Sequence[Result], examining: Doctor) -> None:
    from hook_event_processor.cli.output import line

    for mended in examining.mended:
        if mended.done:
            _say("", "ok", f"mended: {mended.said}")
        else:
            _say("", "problem", f"not mended: {mended.finding.what}: {mended.said}")
    if examining.mended:
        line()
    # What keeps the others from being looked at comes first.
    for result in sorted(results, key=lambda result: not (result.findings and not result.looked)):
        more = "needs the database" if _state(result) == "skipped" else result.area.summary
        _say("", _state(result), f"{result.area.name:<10} {more}")
        explained: set[str] = set()
        for finding in result.findings:
            _show_finding(finding, explained)
    line()
    line(_summary([finding for result in results for finding in result.findings]))


def _show_finding(finding: Finding, explained: set[str]) -> None:
    """A finding; what its kind means is said once, and noted in `explained`."""
    from hook_event_processor.cli.output import line

    _say(_INDENT, finding.kind.level.value, finding.what)
    if finding.kind.name not in explained:
        explained.add(finding.kind.name)
        width = min(shutil.get_terminal_size().columns, _WIDEST) - len(_INDENT) - 2
        for part in textwrap.wrap(finding.kind.meaning, max(width, 20)):
            line(f"{_INDENT}  {part}")
    for command in finding.mend:
        line(f"{_INDENT}  $ {command}")


def _say(indent: str, state: str, text: str) -> None:
    """A line behind a coloured sign where a terminal shows it, else behind a word."""
    from hook_event_processor.cli.output import sign, write
    from hook_event_processor.cli.visible import escape

    write(f"{indent}{sign(_SIGNS[state], _COLOURS[state], f'{state:<7}')} {escape(text)}\n")


def _summary(findings: Sequence[Finding]) -> str:
    from hook_event_processor.amount import counted

    if not findings:
        return "Nothing is wrong."
    levels = [finding.kind.level.value for finding in findings]
    numbers = [counted(levels.count(level), level) for level in ("problem", "warning", "note") if level in levels]
    fixable = sum(finding.fix is not None for finding in findings)
    more = f" 'hep doctor --fix' mends {fixable} of them." if fixable else ""
    return f"{', '.join(numbers)}.{more}"
