"""The options of watchers on the command line, made from what the types say of themselves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hook_event_processor.cli.names import some_name, some_names
from hook_event_processor.cli.parser import Parser, suggest
from hook_event_processor.errors import UsageError

if TYPE_CHECKING:
    from hook_event_processor.watchers.check import Definition, Kind, Option

_FIELD = "option_{}"  # of the namespace: no type's option hides one of the command's own
_NAME = "name"  # the watcher's, except where a type has an option of that name


class KindOptions:
    """The options of the type that the command line names, or of all types when it names none."""

    def add(self, command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        from hook_event_processor.watchers import kinds

        named = _type_in(arguments)
        if named in kinds.NAMES:
            kind = kinds.kind(named)
            command.description = f"{command.description}\n\n{_described(kind)}"
            command.epilog = f"example: {command.prog} --type {named} {kind.example}"
            _set_help_of_name(command, kind)
            _add(command, f"options of a {named} watcher", {named: kind})
        else:
            command.description = f"{command.description}\n\n{_types(kinds.NAMES)}"
            _add(
                command,
                "options of types",
                {name: kinds.kind(name) for name in kinds.NAMES},
            )

    def refusal(self, arguments: Sequence[str], unknown: str) -> str:
        from hook_event_processor.watchers import kinds

        named = _type_in(arguments)
        if named not in kinds.NAMES:
            return f"no type of watchers takes {unknown}"
        kind = kinds.kind(named)
        if unknown == "--label":
            return f"the name of a {named} watcher is --name: --label is for types that take a --name themselves"
        return kinds.refusal(kind, unknown)


def add_definition(command: argparse.ArgumentParser, *, required: bool) -> None:
    """What a watcher is made of: --type, and what goes with it."""
    type_ = command.add_argument(
        "-t", "--type", required=required, metavar="TYPE", help="what is watched: file, cpu, port, ..."
    )
    suggest(type_, type_names)
    when = command.add_argument(
        "-w",
        "--when",
        action="extend",
        type=some_names,
        metavar="CONDITION",
        help="what is told of; may be given several times, or several separated by commas",
    )
    suggest(when, _conditions)
    command.add_argument(
        "-i", "--interval", type=interval, metavar="DURATION", help="time between two checks: 200ms, 10s, 5m"
    )
    command.add_argument(
        "--name",
        type=some_name,
        help="a name for the watcher; of a type that takes a name itself, such as process, what is watched",
    )
    assert isinstance(command, Parser)  # noqa: S101 - all commands are
    command.late_options = KindOptions()


def type_names() -> Sequence[str]:
    """The types that there are."""
    from hook_event_processor.watchers import kinds

    return kinds.NAMES


def _conditions() -> Sequence[str]:
    """Those of any type, each once."""
    from hook_event_processor.watchers import kinds

    return list(dict.fromkeys(condition for name in kinds.NAMES for condition in kinds.kind(name).conditions))


def watcher_types(text: str) -> list[str]:
    """Types of watchers separated by commas; argparse reports what is none."""
    from hook_event_processor.watchers import kinds
    from hook_event_processor.watchers.check import WatcherRefused

    found = some_names(text)
    try:
        for name in found:
            if name not in kinds.NAMES:  # the others are loaded when there is one to watch
                kinds.kind(name)
    except WatcherRefused as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
    return found


def interval(text: str) -> float:
    """Seconds of a duration; argparse reports what is none."""
    from hook_event_processor.watchers.check import seconds

    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 200ms, 10s, 5m or 1h30m") from None


def conditions_of(arguments: argparse.Namespace) -> list[str]:
    """The conditions that --when names, each once."""
    return list(dict.fromkeys(arguments.when or ()))


def options_of(arguments: argparse.Namespace, kind: Kind) -> dict[str, str]:
    """The type's options that were given, as texts by name."""
    given = {name: getattr(arguments, _FIELD.format(name), None) for name in kind.options}
    if _NAME in kind.options:
        given[_NAME] = arguments.name
    return {name: text for name, text in given.items() if text is not None}


def definition_options(arguments: argparse.Namespace) -> list[str]:
    """The options that were given of those that define a watcher, but for its type and its interval."""
    fields = ("when", "name", "label", *(field for field in vars(arguments) if field.startswith(_FIELD.format(""))))
    given = [field.removeprefix(_FIELD.format("")) for field in fields if getattr(arguments, field, None) is not None]
    return ["--" + name.replace("_", "-") for name in given]


def name_of(arguments: argparse.Namespace, kind: Kind) -> str:
    """The watcher's own name; empty when it was given none."""
    label: str | None = getattr(arguments, "label", None)
    return label or ("" if _NAME in kind.options else arguments.name or "")


def definition_of(arguments: argparse.Namespace, identifier: str) -> Definition:
    """The definition that the command line makes. Raises UsageError."""
    from hook_event_processor.watchers import kinds
    from hook_event_processor.watchers.check import WatcherRefused

    try:
        kind = kinds.kind(arguments.type)
        return kinds.read(
            identifier,
            arguments.type,
            conditions_of(arguments),
            options_of(arguments, kind),
            arguments.interval,
            name=name_of(arguments, kind),
            stack=getattr(arguments, "stack", None),
        )
    except WatcherRefused as fault:
        raise UsageError(str(fault)) from None


def _type_in(arguments: Sequence[str]) -> str:
    """The type that the command line names; empty for none."""
    for index, argument in enumerate(arguments):
        if argument in ("--type", "-t"):
            return arguments[index + 1] if index + 1 < len(arguments) else ""
        if argument.startswith("--type="):
            return argument.partition("=")[2]
        if argument.startswith("-t") and argument[2:3] not in ("", "-"):
            return argument[2:]
    return ""


def _described(kind: Kind) -> str:
    default = next(iter(kind.conditions))
    conditions = ", ".join(f"{name} (default)" if name == default else name for name in kind.conditions)
    return f"{kind.name}: {kind.summary}.\nConditions: {conditions}. Interval: {kind.interval:g}s by default."


def _types(names: Sequence[str]) -> str:
    return f"Types: {', '.join(names)}.\n'--type TYPE --help' tells of one type, with its conditions."


def _set_help_of_name(command: argparse.ArgumentParser, kind: Kind) -> None:
    """Say of --name what it is to this one type."""
    for action in command._actions:
        if action.dest == _NAME:
            action.help = _of_one(kind.options[_NAME]) if _NAME in kind.options else "a name for the watcher"


def _add(command: argparse.ArgumentParser, title: str, kinds: Mapping[str, Kind]) -> None:
    takers: dict[str, dict[str, Option]] = {}
    for kind in kinds.values():
        for name, option in kind.options.items():
            takers.setdefault(name, {})[kind.name] = option
    group = command.add_argument_group(title)
    for name, options in sorted(takers.items()):
        if name == _NAME:
            command.set_defaults(label=None)
            group.add_argument(
                "--label",
                type=some_name,
                metavar="NAME",
                help="a name for the watcher, where --name is what is watched",
            )
        else:
            _add_option(group, name, options, len(kinds) > 1)


def _add_option(group: argparse._ArgumentGroup, name: str, options: Mapping[str, Option], several_types: bool) -> None:
    flag, field = "--" + name.replace("_", "-"), _FIELD.format(name)
    text = _help(options) if several_types else _of_one(*options.values())
    flags = {option.flag for option in options.values()}
    if flags == {True}:
        group.add_argument(flag, dest=field, action="store_const", const="true", help=text)
    else:
        # Of two types, one may take a value where the other takes none.
        nargs = "?" if True in flags else None
        metavar = name.rpartition("_")[2].upper()
        group.add_argument(flag, dest=field, metavar=metavar, nargs=nargs, const="true" if nargs else None, help=text)


def _of_one(option: Option) -> str:
    takes = "" if option.flag else f"; takes {option.takes}"
    needed = " (needed)" if option.required else ""
    return f"{option.help}{takes}{needed}".replace("%", "%%")


def _help(options: Mapping[str, Option]) -> str:
    """What the option means to each type; types that say the same are told of together."""
    says: dict[str, list[str]] = {}
    for type_name, option in options.items():
        says.setdefault(option.help, []).append(type_name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in says.items()).replace("%", "%%")
