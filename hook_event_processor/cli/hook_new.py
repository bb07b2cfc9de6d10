"""`hep hook new` and `hep hook templates`: hooks to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format, suggest
from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings

_MORE = """\
Writes NAME.lua, commented, and NAME_spec.lua with its tests, which pass as they are. Files that are
there already are left alone. The way from there to a hook that runs:

  hep hook spec NAME.lua      run its tests
  hep hook check NAME.lua     look for slips
  hep hook test NAME.lua      try it on one event, without effects
  hep hook add NAME.lua       let processors run it
  hep events emit TYPE JSON   publish an event for it
  hep hook logs NAME          see what it did
  hep hook versions NAME      see its versions; 'hep hook rollback NAME --to N' goes back to one"""


def add_new_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "new",
        new,
        "write a hook to begin with, and its tests",
        "hep hook new notify_ops --template slack",
        _MORE,
    )
    command.add_argument("name", metavar="NAME", help="the hook's name, and that of its file")
    template = command.add_argument(
        "--template", default="hello", metavar="TEMPLATE", help="what to begin with; 'hep hook templates' lists them"
    )
    suggest(template, _names)
    command.add_argument(
        "--dir", type=some_name, default=".", metavar="DIR", help="where to write (default: this directory)"
    )
    add_format(command)
    add_format(add_command(group, "templates", templates, "list what new hooks can begin with", "hep hook templates"))


def _names() -> list[str]:
    from hook_event_processor.workshop.starters import starters

    return [starter.name for starter in starters()]


def new(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command is called so
    import difflib

    from hook_event_processor.cli.output import document, line
    from hook_event_processor.workshop.starters import starters, write_starter

    known = {starter.name: starter for starter in starters()}
    if arguments.template not in known:
        near = difflib.get_close_matches(arguments.template, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"there is no template {arguments.template!r}; {hint}")
    hook, spec = write_starter(known[arguments.template], arguments.name, Path(arguments.dir))
    if arguments.format == "json":
        document({"hook": str(hook), "spec": str(spec), "template": arguments.template})
        return 0
    line(f"written: {hook} and its tests, {spec}")
    line(f"Next: hep hook spec {hook}; hep hook check {hook}; hep hook test {hook}; hep hook add {hook}")
    return 0


def templates(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001 - every command is called so
    from hook_event_processor.cli.output import document, table
    from hook_event_processor.workshop.starters import starters

    if arguments.format == "json":
        document([{"name": starter.name, "summary": starter.summary} for starter in starters()])
    else:
        table(
            ("Template", "What it does"),
            [(starter.name, starter.summary) for starter in starters()],
            wrapped=("What it does",),
        )
    return 0
