"""`hep audit`: who added, changed, removed or retried what."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import count, since

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.audit import Entry

# What the line says before.
_SAID_ELSEWHERE = {"name", "kind", "type", "role"}


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "audit",
        audit,
        "list who added, changed, removed or retried what",
        "hep audit --object hook:greet --since 7d",
        "Newest first. The database writes it, whatever program a change comes from: hooks, libraries, secrets (never\n"
        "their values), state changed by hand, watchers, event types, grants, events that were retried, removed or\n"
        "rewritten, proposals of hooks and who approved them. 'hep pause' and 'hep resume' are in it, too. Nobody\n"
        "changes it.",
    )
    command.add_argument(
        "--object",
        type=some_name,
        metavar="OBJECT",
        help="a kind (hook), a name, both (hook:greet), or an event's id",
    )
    command.add_argument(
        "--who", type=some_name, metavar="NAME", help="a database role, or the user who ran the command"
    )
    command.add_argument("--since", type=since, metavar="WHEN", help="10m, 7d, or 2025-10-06T14:23:45Z")
    command.add_argument("--limit", type=count, default=50, metavar="N", help="so many lines (default 50)")
    add_format(command)


def add_reason(command: argparse.ArgumentParser) -> None:
    """--reason, for commands that people will be asked about."""
    command.add_argument("--reason", metavar="TEXT", help="why, for 'hep audit'")


def audit(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, local_time, table
    from hook_event_processor.store import audit

    wanted = audit.Wanted(arguments.object, arguments.who, arguments.since)
    with session(settings) as connection:
        entries = audit.entries(connection, wanted, arguments.limit)
    if arguments.format == "json":
        document([_document(entry) for entry in entries])
    elif entries:
        rows = [
            (local_time(e.at), _who(e), e.action, f"{e.kind} {e.name}".rstrip(), _details(e), e.reason or "-")
            for e in entries
        ]
        headers = ("Time", "Who", "Action", "Object", "Details", "Reason")
        table(headers, rows, wrapped=("Who", "Object", "Details", "Reason"))
    else:
        line("Nothing.")
    return 0


def _who(entry: Entry) -> str:
    client = entry.user or entry.client or "-"
    return f"{entry.role} ({client}{f', {entry.address}' if entry.address else ''})"


def _details(entry: Entry) -> str:
    """Fields, those that changed as before -> after."""
    fields: dict[str, Any] = json.loads(entry.details)
    changed = entry.action in ("changed", "enabled", "disabled")
    if entry.kind == "grant" and not changed:
        return f"{fields.get('kind')} {fields.get('value')}"
    shown = []
    for name, value in fields.items():
        if changed and isinstance(value, list):
            shown.append(f"{name}: {_short(value[0])} -> {_short(value[1])}")
        elif changed or name not in _SAID_ELSEWHERE:
            shown.append(f"{name}: {_short(value)}")
    return "; ".join(shown) or "-"


def _short(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"sha256"}:
        return f"sha256 {value['sha256'][:12]}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 64 else f"{text[:63]}…"


def _document(entry: Entry) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time, json_text

    return {
        "id": entry.id,
        "at": iso_time(entry.at),
        "role": entry.role,
        "user": entry.user,
        "client": entry.client,
        "address": entry.address,
        "action": entry.action,
        "kind": entry.kind,
        "name": entry.name,
        "details": json_text(entry.details),
        "reason": entry.reason or None,
    }
