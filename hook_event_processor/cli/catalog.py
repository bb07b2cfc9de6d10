"""`hep catalog`: the event types that are known, and those that people add."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command, add_format, subcommands
from hook_event_processor.errors import EventRefused, HookEventProcessorError, NotFound, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hook_event_processor.catalog import EventType
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.event_types import AddedType

_LIST = "list"


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "catalog",
        help="look up event types and their fields, and add your own",
        description="Look up event types and their fields, and add your own.\n\n"
        "'hep catalog NAME' is short for 'hep catalog list NAME', and 'hep catalog' lists all.\n"
        "Events of other types are published and run hooks as well; --strict refuses them.",
    )
    parser.default_command = _LIST
    group = subcommands(parser)
    command = add_command(
        group,
        _LIST,
        list_types,
        "list event types by category, or the fields of one type",
        "hep catalog task.failed",
        "No field is certain to be there: what reports an event decides. A field that is\n"
        "marked as inferred is likely, but documented nowhere.",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="a category, the first part of types, or a type")
    add_format(command)
    command = add_command(
        group,
        "add",
        add,
        "add an event type, or change one that was added",
        "hep catalog add deploy.canary --schema canary.json",
        "The schema is JSON Schema, Draft 2020-12. Patterns in it are RE2's; formats are not checked,\n"
        "and it can refer to parts of itself alone. 'hep events emit --strict' checks payloads by it.\n"
        "Of a type that was added, what no option says stays as it is.",
    )
    command.add_argument("type", metavar="TYPE", help="source.action, such as deploy.canary")
    command.add_argument("--schema", metavar="FILE", help="JSON Schema of the payload; - reads standard input")
    command.add_argument("--description", help="what such an event tells (default: the schema's)")
    add_format(command)
    command = add_command(
        group, "remove", remove, "remove an event type that was added", "hep catalog remove deploy.canary"
    )
    command.add_argument("type", metavar="TYPE", help="the type")
    add_format(command)


def list_types(arguments: argparse.Namespace, settings: Settings) -> int:
    known = _known(settings)
    if arguments.name is None:
        _show_list(list(known.values()), arguments.format)
        return 0
    exact, members = _find(arguments.name, known)
    if members or exact is None:
        _show_list(members, arguments.format)
    if exact is not None and not (members and arguments.format == "json"):
        _show_type(exact, arguments.format)
    return 0


def _known(settings: Settings) -> Mapping[str, EventType]:
    """All types; without a database those that the program knows, and a note on that."""
    from psycopg import Error

    from hook_event_processor import catalog
    from hook_event_processor.cli.connect import database_fault, session
    from hook_event_processor.cli.output import note

    try:
        with session(settings) as connection:
            return catalog.known(connection)
    except (Error, StoreUnavailable) as fault:
        note(f"note: types that were added are not listed: {database_fault(fault) or fault}")
        return catalog.known(None)


def _find(name: str, known: Mapping[str, EventType]) -> tuple[EventType | None, list[EventType]]:
    """The type of that name, and the types of that category or source; `custom` is both.

    The category of added types may be empty; for other names that nothing has, raises NotFound.
    """
    from hook_event_processor import catalog

    try:
        exact = known.get(catalog.canonical(name))
    except EventRefused:
        exact = None
    of_source = [each for each in known.values() if each.name.startswith(f"{name}.")]
    of_category = [each for each in known.values() if each.category == name]
    members = of_category + [each for each in of_source if each.category == catalog.OWN] if of_category else of_source
    if exact is None and not members and name != catalog.OWN:
        raise NotFound(_not_found(name, known))
    return exact, members


def _not_found(name: str, known: Mapping[str, EventType]) -> str:
    import difflib

    from hook_event_processor import catalog

    groups = list(dict.fromkeys(t.category for t in known.values()))
    near = difflib.get_close_matches(name, groups, 1) + catalog.nearest(name, known)
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"categories are {', '.join(groups)}"
    return f"no category and no event type is named {name!r}: {hint}"


def _show_list(types: Sequence[EventType], form: str) -> None:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.output import document, line, table

    if form == "json":
        document([_document(known) for known in types])
        return
    if not types:
        line("No event types of your own: 'hep catalog add' adds them.")
        return
    in_order = sorted(types, key=lambda known: known.category)
    rows = [(known.category, known.name, known.description, known.origin) for known in in_order]
    table(("Category", "Type", "What it tells", "Origin"), rows, wrapped=("Type", "What it tells"))
    line(counted(len(rows), "event type"))


def _document(known: EventType) -> dict[str, Any]:
    return {**dataclasses.asdict(known), "schema": known.payload_schema()}


def _show_type(known: EventType, form: str) -> None:
    from hook_event_processor.cli.output import block, document, fields, line, table

    if form == "json":
        document(_document(known))
        return
    fields(
        {
            "Type": known.name,
            "Category": known.category,
            "What it tells": known.description or None,
            "Origin": _ORIGINS[known.origin],
            "In an object": f"the fields may also stand in an object named {known.object}" if known.object else None,
        }
    )
    line()
    if known.fields:
        rows = [(field.name, field.kind, field.meaning + " (inferred)" * field.inferred) for field in known.fields]
        table(("Field", "Kind", "Meaning"), rows, wrapped=("Field", "Meaning"))
    else:
        line("No fields are known.")
    if known.schema:
        block("Schema:", _indented(known.schema))


_ORIGINS = {
    "documented": "documented, with its fields",
    "declared": "declared by its name alone; what fields it has is documented nowhere",
    "emitted": "emitted by watchers or agents",
    "named": "named among what watchers emit; what fields it has is documented nowhere",
    "watched": "emitted by this product's watchers, beyond what is documented",
    "product": "the processor's own",
    "added": "added to this database's catalog",
}


def _indented(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def add(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor import catalog
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.cli.schema_file import read_schema
    from hook_event_processor.store import event_types

    name = _checked_name(arguments.type)
    given = None if arguments.schema is None else read_schema(arguments.schema)
    with session(settings) as connection, connection.transaction():
        before = event_types.find(connection, name)
        change = event_types.add(connection, name, *_kept(before, arguments.description, given))
    instead = " (in place of the one that the program knows)" if name in catalog.known(None) else ""
    result(arguments.format, f"{change}: event type {name}{instead}", {"type": name, "change": change})
    return 0


def _checked_name(event_type: str) -> str:
    """The canonical name of a type that is to be added. Raises UsageError for what cannot be one."""
    from hook_event_processor.event import NewEvent, join_type, split_type
    from hook_event_processor.registry import is_literal

    try:
        source, action = split_type(event_type)
        NewEvent(source, action)
    except EventRefused as refusal:
        raise UsageError(str(refusal)) from None
    if not event_type.isprintable() or event_type != event_type.strip():
        raise UsageError(
            f"{event_type[:80]!r} is no event type: it takes printable characters, none of them a space at either end"
        )
    if not is_literal(event_type):
        raise UsageError(f"{event_type!r} is a pattern: a type is written without * ? [ and ~, such as task.failed")
    return join_type(source, action)


def _kept(before: AddedType | None, description: str | None, schema: Any) -> tuple[str, Any]:
    """Description and schema; those of before where None is given, but a description of the schema's goes with it."""
    known = {} if before is None else before.schema
    schema = known if schema is None else schema
    if description is None and before is not None and before.description != _description(known):
        description = before.description
    return _description(schema) if description is None else description, schema


def _description(schema: Any) -> str:
    for key in ("description", "title"):
        if isinstance(schema, dict) and isinstance(schema.get(key), str):
            return str(schema[key])
    return ""


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor import catalog
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import event_types

    name = catalog.canonical(arguments.type)
    with session(settings) as connection:
        if not event_types.remove(connection, name):
            added = [known.type for known in event_types.all_types(connection)]
            _refuse_removal(name, added, known=name in catalog.known(None))
    result(arguments.format, f"removed: event type {name}", {"removed": name})
    return 0


def _refuse_removal(name: str, added: Sequence[str], *, known: bool) -> None:
    from hook_event_processor import catalog

    if known:
        raise HookEventProcessorError(f"{name} is a type that the program knows: only added ones can be removed")
    near = catalog.nearest(name, added)
    hint = f"did you mean {' or '.join(near)}?" if near else "'hep catalog own' lists what was"
    raise NotFound(f"no event type {name!r} was added: {hint}")
