"""`hep completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "PATH", "SCRIPT")
_DIRECTORIES = ("DIRECTORY", "DIR")


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "completion",
        completion,
        "print what makes a shell complete commands and options",
        "hep completion bash > /etc/bash_completion.d/hep",
        "zsh: hep completion zsh > /usr/local/share/zsh/site-functions/_hep\n"
        "fish: hep completion fish > ~/.config/fish/completions/hep.fish\n"
        "'hep install' puts all of them in place.",
    )
    command.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def completion(arguments: argparse.Namespace, _: Settings) -> int:
    from hook_event_processor.cli.output import write

    write(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """The completion of one of SHELLS, as a script of its own."""
    import shtab

    from hook_event_processor.cli.parser import whole_parser

    top = whole_parser()
    for each in _parsers(top):
        for action in each._actions:
            if hasattr(action, "suggested"):
                action.choices = tuple(action.suggested())  # of this parser alone, which parses nothing
            complete = _completed_as(action)
            if complete is not None:
                action.complete = complete  # type: ignore[attr-defined]
    return str(shtab.complete(top, shell=shell))


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _parsers(each)


def _completed_as(action: argparse.Action) -> Any:
    import shtab

    # An option without a value completes nothing, though its name would be a file's.
    metavar = action.metavar if isinstance(action.metavar, str) and action.nargs != 0 else ""
    if metavar in _FILES:
        return shtab.FILE
    return shtab.DIRECTORY if metavar in _DIRECTORIES else None
