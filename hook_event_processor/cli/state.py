"""`hep state`: what hooks remember between their runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format, add_group
from hook_event_processor.cli.spans import count, duration
from hook_event_processor.errors import NotFound, StateRefused, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.state import Entry, Namespace

_VALUE_SHOWN = 60  # characters
_VALUE_TOLD = 4_096  # characters; events tell of longer ones without them
_WHOSE = (
    "Whose key it is, --hook or --shared says: a hook's own, or one that the hooks of a stack share.\n"
    "The stack of a hook that is known need not be given."
)


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "state", "see and change what hooks remember")
    command = add_command(
        group,
        "get",
        get,
        "print the value of a key, as JSON",
        "hep state get last_scale_time --hook auto_scaling",
        _WHOSE,
    )
    _add_key(command)
    add_format(command)
    command = add_command(
        group,
        "set",
        set_key,
        "set a key to a value",
        "hep state set limits '{\"max\": 5}' --shared team --stack production --ttl 1h",
        _WHOSE,
    )
    _add_key(command)
    command.add_argument("value", metavar="VALUE", help='JSON: 5, true, "text", {"a": 1}')
    command.add_argument("--text", action="store_true", help="VALUE is text as it is, not JSON")
    command.add_argument("--ttl", type=duration, metavar="DURATION", help="30s, 10m, 7d: the key is gone after that")
    add_format(command)
    command = add_command(
        group, "list", list_keys, "list keys with their values", "hep state list last_ --hook auto_scaling"
    )
    command.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only keys that begin so")
    _add_namespace(command, required=False)
    command.add_argument("--limit", type=count, default=100, metavar="N", help="at most so many (default 100)")
    add_format(command)
    command = add_command(
        group, "delete", delete, "remove a key", "hep state delete last_scale_time --hook auto_scaling", _WHOSE
    )
    _add_key(command)
    add_format(command)


def _add_key(command: argparse.ArgumentParser) -> None:
    command.add_argument("key", metavar="KEY", help="the key")
    _add_namespace(command, required=True)


def _add_namespace(command: argparse.ArgumentParser, *, required: bool) -> None:
    whose = command.add_mutually_exclusive_group(required=required)
    whose.add_argument("--hook", type=some_name, metavar="NAME", help="the hook whose key it is")
    whose.add_argument("--shared", type=some_name, metavar="NAME", help="the shared namespace that it is in")
    command.add_argument("--stack", metavar="STACK", help="the stack of the hook or of those that share it")


def get(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, json_text, line
    from hook_event_processor.store import state

    with session(settings) as connection:
        namespace = _namespace(connection, arguments)
        value = state.get(connection, namespace, arguments.key)
    if value is None:
        raise _not_found(arguments.key, namespace)
    if arguments.format == "json":
        document({"key": arguments.key, "value": json_text(value.decode())})
    else:
        line(value.decode())
    return 0


def set_key(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import state

    _check_key(arguments.key)
    value = _value(arguments)
    ttl = arguments.ttl.total_seconds() if arguments.ttl is not None else None
    if ttl == 0:
        raise UsageError("--ttl is 0: it takes a time after which the key is gone")
    with session(settings) as connection, connection.transaction():
        namespace = _namespace(connection, arguments)
        before = state.get(connection, namespace, arguments.key)
        state.put(connection, namespace, arguments.key, value, ttl)
        if arguments.hook is not None:
            _note_missing(connection, arguments.hook)
        if before is None:
            _tell(connection, "created", arguments.key, namespace, value=value)
        else:
            _tell(connection, "updated", arguments.key, namespace, old_value=before.decode(), new_value=value)
    result(arguments.format, f"set: {arguments.key} of {namespace}", {"key": arguments.key, "set": True})
    return 0


def _note_missing(connection: Connection, hook: str) -> None:
    """A hook that is still to be added may be given keys, but a slip of the pen is likelier."""
    from hook_event_processor.cli.output import note
    from hook_event_processor.store import hooks

    try:
        hooks.get(connection, hook)
    except NotFound as fault:
        note(f"note: {fault}")


def _check_key(key: str) -> None:
    from hook_event_processor.store.state import MAX_KEY_BYTES

    if not 1 <= len(key.encode()) <= MAX_KEY_BYTES:
        raise StateRefused(f"the key has {len(key.encode())} bytes: it takes 1 to {MAX_KEY_BYTES}")


def _value(arguments: argparse.Namespace) -> str:
    """JSON text that PostgreSQL can hold. Raises UsageError for what is no JSON, StateRefused for what is too much."""
    import json

    from hook_event_processor.store.state import MAX_VALUE_BYTES

    text: str = json.dumps(arguments.value, ensure_ascii=False) if arguments.text else arguments.value
    try:
        # Python's own: it takes numbers of any size, as jsonb does.
        written = json.dumps(json.loads(text), allow_nan=False)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"the value is not JSON: {fault}; --text takes it as text") from None
    if "\\u0000" in written.replace("\\\\", ""):
        raise StateRefused("the value holds a NUL character, which PostgreSQL cannot store")
    if len(text.encode()) > MAX_VALUE_BYTES:
        raise StateRefused(f"the value is {len(text.encode())} bytes of JSON: at most {MAX_VALUE_BYTES}")
    return text


def list_keys(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, line, table
    from hook_event_processor.store import state

    scope = "hook" if arguments.hook else "shared" if arguments.shared else None
    with session(settings) as connection:
        entries = state.entries(
            connection,
            scope=scope,
            name=arguments.hook or arguments.shared,
            stack=arguments.stack,
            prefix=arguments.prefix,
            limit=arguments.limit,
        )
    if arguments.format == "json":
        document([_document(entry) for entry in entries])
    elif not entries:
        line("No keys.")
    else:
        rows = [_row(entry) for entry in entries]
        table(("Of", "Stack", "Key", "Value", "Set", "Expires"), rows, wrapped=("Of", "Key", "Value"))
        more = f", the first {arguments.limit}: --limit shows more" if len(entries) == arguments.limit else ""
        line(counted(len(entries), "key") + more)
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    from hook_event_processor.cli.output import local_time

    value = entry.value if len(entry.value) <= _VALUE_SHOWN else f"{entry.value[:_VALUE_SHOWN]}…"
    of = f"{entry.scope} {entry.name}"
    return of, entry.stack or "-", entry.key, value, local_time(entry.updated_at), local_time(entry.expires_at)


def _document(entry: Entry) -> dict[str, Any]:
    from hook_event_processor.cli.output import iso_time, json_text

    return {
        "scope": entry.scope,
        "name": entry.name,
        "stack": entry.stack or None,
        "key": entry.key,
        "value": json_text(entry.value),
        "updated_at": iso_time(entry.updated_at),
        "expires_at": iso_time(entry.expires_at),
    }


def delete(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import state

    with session(settings) as connection, connection.transaction():
        namespace = _namespace(connection, arguments)
        if not state.delete(connection, namespace, arguments.key):
            raise _not_found(arguments.key, namespace)
        _tell(connection, "deleted", arguments.key, namespace)
    result(arguments.format, f"removed: {arguments.key} of {namespace}", {"removed": arguments.key})
    return 0


def _tell(connection: Connection, word: str, key: str, namespace: Namespace, **values: str) -> None:
    """Publish the event; of values, which are JSON text, only short ones."""
    from hook_event_processor.cli.output import json_text
    from hook_event_processor.store import own_events
    from hook_event_processor.store.own_events import OwnEvent

    short = {name: json_text(text) for name, text in values.items() if len(text) <= _VALUE_TOLD}
    payload = {
        "state_key": key,
        "namespace": f"{namespace.scope}/{namespace.name}",
        **short,
        f"{word}_by": own_events.actor(),
    }
    event = OwnEvent(f"state.{word}", payload, ("state", f"{namespace.name}/{key}"), namespace.stack or None)
    own_events.tell(connection, event)


def _namespace(connection: Connection, arguments: argparse.Namespace) -> Namespace:
    from hook_event_processor.store.hooks import known_hooks
    from hook_event_processor.store.state import Namespace

    if arguments.shared is not None:
        return Namespace("shared", arguments.shared, arguments.stack or "")
    stack = arguments.stack
    if stack is None:
        # A hook that was removed leaves its keys behind.
        stack = next((hook.stack for hook in known_hooks(connection) if hook.name == arguments.hook), None)
    return Namespace("hook", arguments.hook, stack or "")


def _not_found(key: str, namespace: Namespace) -> NotFound:
    return NotFound(f"{namespace} has no key {key!r}: 'hep state list' lists what there is")
