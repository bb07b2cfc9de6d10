"""`hep secret`: values that hooks may be granted, encrypted in the database."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.audit import add_reason
from hook_event_processor.cli.parser import Parser, add_command, add_format, add_group
from hook_event_processor.errors import SecretRefused, UsageError

if TYPE_CHECKING:
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.key_ring import KeyRing


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    group = add_group(commands, "secret", "keep secrets that hooks may be granted")
    command = add_command(
        group,
        "set",
        set_secret,
        "store a secret, or give it another value",
        "hep secret set slack_token < token.txt",
        "The value is asked for without being shown, or read from standard input or a file; never from the\n"
        "command line, which everyone on the host can see. A line break at its end is left out.\n"
        "The key that it is encrypted with lies in HOOK_SECRET_KEY_FILE, which is made when it is not there:\n"
        "every host whose hooks read secrets needs a copy, and without it nothing can be decrypted.\n"
        "Hooks may read it once HOOK_SECRETS or HOOK_POLICY grants it to them.",
    )
    command.add_argument("name", metavar="NAME", help="letters, digits and _ . -")
    command.add_argument("--file", metavar="FILE", help="read the value from this file")
    assert isinstance(command, Parser)  # noqa: S101 - all commands are
    command.surplus = "takes the value from standard input or --file, never from the command line"
    add_format(command)
    command = add_command(
        group, "list", list_secrets, "list the names of all secrets, never their values", "hep secret list"
    )
    add_format(command)
    command = add_command(group, "remove", remove, "remove a secret", "hep secret remove slack_token")
    command.add_argument("name", metavar="NAME", help="the secret's name")
    add_reason(command)
    add_format(command)
    command = add_command(
        group,
        "rotate",
        rotate,
        "encrypt all secrets with a new key",
        "hep secret rotate",
        "The key file gets a new key, then all secrets are encrypted with it in one transaction, then the old\n"
        "key leaves the file. Interrupted anywhere, it can simply be run again. Copy the file to the other hosts\n"
        "afterwards; until then hooks there cannot read secrets.\n"
        "Where the key is a credential of systemd: put a new line with 32 random bytes in base64 before the first\n"
        "line of the credential, run this with the credential, and then take out the old line.",
    )
    command.add_argument(
        "--keep-old", action="store_true", help="leave the old keys in the file: other databases use them, too"
    )
    add_format(command)


def set_secret(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import secrets

    secrets.check_name(arguments.name)
    value = secrets.check_value(secrets.without_line_break(_value(arguments)))
    with session(settings) as connection:
        new, ring = secrets.put(connection, lambda: _ring(settings, create=True), arguments.name, value)
    text = f"{'stored' if new else 'changed'}: secret {arguments.name}, encrypted with {_key_place(ring)}"
    result(arguments.format, text, {"secret": arguments.name, "new": new, "key": ring.first.id})
    return 0


def _value(arguments: argparse.Namespace) -> bytes:
    from hook_event_processor.store.secrets import MAX_VALUE_BYTES

    most = MAX_VALUE_BYTES + 2  # one byte too many is enough to refuse it
    if arguments.file is not None:
        try:
            with open(arguments.file, "rb") as stream:
                return stream.read(most)
        except OSError as fault:
            raise SecretRefused(f"{arguments.file} cannot be read: {fault.strerror}") from None
    if sys.stdin.isatty():
        return _asked(arguments.name)
    return sys.stdin.buffer.read(most)


def _asked(name: str) -> bytes:
    from getpass import getpass

    try:
        value = getpass(f"Value of {name}: ")
        again = getpass("Again: ")
    except EOFError:
        raise UsageError("no value was given: nothing was stored") from None
    if again != value:
        raise UsageError("the two values differ: nothing was stored")
    return value.encode()


def list_secrets(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import document, iso_time, line, local_time, table
    from hook_event_processor.store import secrets

    with session(settings) as connection:
        known = secrets.known(connection)
    if arguments.format == "json":
        document(
            [
                {
                    "name": secret.name,
                    "key": secret.key_id,
                    "created_at": iso_time(secret.created_at),
                    "updated_at": iso_time(secret.updated_at),
                }
                for secret in known
            ]
        )
    elif not known:
        line("No secrets.")
    else:
        rows = [(one.name, local_time(one.created_at), local_time(one.updated_at), one.key_id) for one in known]
        table(("Name", "Created", "Set", "Key"), rows, wrapped=("Name",))
        line(counted(len(known), "secret"))
    return 0


def remove(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import audit, secrets

    with session(settings) as connection, audit.because(connection, arguments.reason):
        secrets.remove(connection, arguments.name)
    result(arguments.format, f"removed: secret {arguments.name}", {"removed": arguments.name})
    return 0


def rotate(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.amount import counted
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.output import result
    from hook_event_processor.store import secrets

    with session(settings) as connection:
        count, ring = secrets.rotate(connection, lambda: _ring(settings), keep_old=arguments.keep_old)
    text = f"{counted(count, 'secret')} encrypted anew with {_key_place(ring)}"
    result(arguments.format, text, {"secrets": count, "key": ring.first.id})
    return 0


def _ring(settings: Settings, *, create: bool = False) -> KeyRing:
    from hook_event_processor.store import key_ring

    ring = key_ring.load(settings)
    if ring is not None:
        return ring
    file = key_ring.file_of(settings)
    if not create:
        raise SecretRefused(f"there is no key: {file} does not exist, 'hep secret set' makes it")
    return key_ring.create(file)


def _key_place(ring: KeyRing) -> str:
    return f"the key {ring.first.id} of {ring.path or ring.place}"
