"""The parser: all commands, one line for each fault, and a suggestion for a command that is not there."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, NoReturn, Protocol

from hook_event_processor.cli import output
from hook_event_processor.cli.visible import escape

# In the order in which --help lists them.
_GROUPS = (
    "up",
    "run",
    "reload",
    "status",
    "health",
    "pause",
    "doctor",
    "config",
    "hook",
    "events",
    "schedule",
    "catalog",
    "watcher",
    "hosts",
    "state",
    "secret",
    "audit",
    "db",
    "install",
    "completion",
)
_NEAR = 0.65  # how much of two commands must be the same, as difflib counts it
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class LateOptions(Protocol):
    """Options of a command that are worked out when it is called, and not for every other command."""

    def add(self, command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        """Add those that fit the command line."""

    def refusal(self, arguments: Sequence[str], unknown: str) -> str:
        """What to say of an option that was not added."""


class _Plain(str):
    """An argument that stood after --: it is no option, however it begins."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose sentences are filled to the terminal's width; examples and what is indented stand as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        goes_on = False
        for line in text.splitlines():
            stands = not line or line.startswith((" ", "example: "))
            if goes_on and not stands:
                line = f"{lines.pop()} {line}"
            goes_on = not stands and not line.endswith((".", ":"))
            lines += [line] if stands else textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        return "\n".join(indent + line for line in lines)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that takes no abbreviations, tells a fault in one line, and takes
    positional arguments before, between and after the options.
    """

    _between = False
    default_command: str | None = None  # of a group: stands where none of its commands is named
    late_options: LateOptions | None = None
    surplus = ""  # what to say of arguments that are not taken where they must not be repeated
    several = ""  # what to do for more positional arguments than there are

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{escape(f'{self.prog}: {message}')} (see '{self.prog} --help')\n")

    def print_help(self, file: Any = None) -> None:
        if file is None:
            output.write(self.format_help())
        else:
            super().print_help(file)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.default_command is not None and not self._names_command(args):
            args = [self.default_command, *args]
        if self._between:
            return super().parse_known_args(args, namespace)
        ends_here = not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions)
        late = self.add_late_options(args)
        if ends_here and "--" in args:  # of the two passes that follow, argparse's own first one would lose it
            at = args.index("--")
            args = [*args[:at], *map(_Plain, args[at + 1 :])]
        self._between = ends_here  # argparse calls this method for each of its two passes
        try:
            parse = self.parse_known_intermixed_args if ends_here else super().parse_known_args
            parsed, rest = parse(args, namespace)
        finally:
            self._between = False
        options = [argument.partition("=")[0] for argument in rest if argument.startswith("-")]
        if late is not None and options:
            self.error(late.refusal(args, options[0]))
        if rest:
            hint = self._near(options[0]) if options else self.several
            self.error(self.surplus or f"unrecognized arguments: {' '.join(rest)}{hint}")
        return parsed, rest

    def _parse_optional(self, arg_string: str) -> Any:
        return None if isinstance(arg_string, _Plain) else super()._parse_optional(arg_string)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, str(arg_string))

    def _near(self, unknown: str) -> str:
        """A hint at what the option may stand for: another, or a value of one (--json for --format json)."""
        for action in self._actions:
            for option in action.option_strings[-1:]:
                if unknown.removeprefix("--") in (action.choices or ()):
                    return f"; did you mean {option} {unknown[2:]}?"
        options = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown, options, n=1, cutoff=_NEAR)
        return f"; did you mean {near[0]}?" if near else ""

    def add_late_options(self, args: Sequence[str] = ()) -> LateOptions | None:
        """Add the options that are worked out now, once; returns where they come from."""
        late, self.late_options = self.late_options, None
        if late is not None:
            late.add(self, args)
        return late

    def _names_command(self, args: Sequence[str]) -> bool:
        commands = [name for action in self._actions for name in action.choices or ()]
        return bool(args) and args[0] in (*commands, "-h", "--help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            near = difflib.get_close_matches(str(value), action.choices, n=2, cutoff=_NEAR)
            hint = f"; did you mean {' or '.join(near)}?" if near else f": there are {', '.join(action.choices)}"
            raise argparse.ArgumentError(None, f"there is no command {value!r}{hint}")
        super()._check_value(action, value)


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The whole command line, or what of it takes part in these arguments."""
    top = Parser(
        prog="hep",
        description="Take events from a PostgreSQL table, run hooks written in Lua for them, and keep a record.",
        epilog='example: hep events emit task.failed \'{"name": "deploy"}\' --stack production\n\n'
        "Settings come from the environment and from .env; 'hep config' lists them.\n"
        "Exit status: 0 done, 1 failed, 2 misused.",
    )
    top.add_argument("--version", action=_Version, help="print the version and leave")
    top.add_argument(
        "--log-level", type=str.upper, choices=LOG_LEVELS, metavar="LEVEL", help=f"{', '.join(LOG_LEVELS)}"
    )
    top.set_defaults(settings_fault_status=1, without_settings=lambda *_: None)
    commands = subcommands(top)
    # A group named in the first place needs none of the others, which take longer to set up than to parse.
    for name in [name for name in _GROUPS if name in arguments[:1]] or _GROUPS:
        import_module(f"hook_event_processor.cli.{name}").add_commands(commands)
    return top


def whole_parser() -> argparse.ArgumentParser:
    """The whole command line with the options that are added late, for man pages and completion."""
    top = parser()
    for command in commands_of(top):
        if isinstance(command, Parser):
            command.add_late_options()
    return top


def commands_of(group: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser, and those of all commands below it."""
    yield group
    for action in group._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands_of(command)


def subcommands(group: argparse.ArgumentParser) -> argparse._SubParsersAction[Any]:
    """Make `group` take a command; without one it shows its help."""

    def show_help(*_: object) -> int:
        group.print_help()
        return 2

    group.set_defaults(run=show_help)
    return group.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)


def add_group(commands: argparse._SubParsersAction[Any], name: str, summary: str) -> argparse._SubParsersAction[Any]:
    """A command that has commands of its own."""
    return subcommands(commands.add_parser(name, help=summary, description=_sentence(summary)))


def add_command(
    commands: argparse._SubParsersAction[Any], name: str, run: Any, summary: str, example: str, more: str = ""
) -> argparse.ArgumentParser:
    """A command that does something: `run(arguments, settings) -> exit status`."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=_sentence(summary) + (f"\n\n{more}" if more else ""),
        epilog=f"example: {example}",
    )
    command.set_defaults(run=run)
    return command


def add_format(command: argparse.ArgumentParser, default: str = "table") -> None:
    """--format, for every command that has something to say."""
    command.add_argument(
        "--format", choices=("table", "json"), default=default, help=f"table or json, one document (default {default})"
    )


def suggest(action: argparse.Action, values: Callable[[], Iterable[str]]) -> None:
    """Have shells complete these values of an argument that says itself what is wrong with another."""
    action.suggested = values  # type: ignore[attr-defined]


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        options["default"] = argparse.SUPPRESS
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from hook_event_processor import __version__

        output.write(f"hep {__version__}\n")
        parser.exit()
