"""`hep hook repl`: a prompt with the library that hooks have."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command
from hook_event_processor.errors import HookEventProcessorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hook_event_processor.settings import Settings
    from hook_event_processor.store.database import Database
    from hook_event_processor.workshop.prompt import Evaluated, Prompt

_FIRST, _MORE = "hep> ", "...> "
_HISTORY_LINES = 1000


def add_repl_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "repl",
        repl,
        "try Lua and the library at a prompt",
        "hep hook repl\n         echo 'json.encode({ n = 1 })' | hep hook repl",
        'Every module is there by its name: crypto.sha256("x"), time.human(90), yaml.decode("a: 1").\n'
        "An input that is not complete goes on in the next line; globals stay until the end. What reaches\n"
        "outside is shown instead of done, unless --live. Ctrl-D leaves. What is piped in is evaluated\n"
        "without a prompt; the exit status is then 1 when an input failed.",
    )
    command.add_argument("--live", action="store_true", help="do what reaches outside, for real")


def repl(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.live import usable_database
    from hook_event_processor.cli.output import line
    from hook_event_processor.workshop.prompt import Prompt

    database = usable_database(settings)
    session = _Session(Prompt(settings, database, live=arguments.live), database, live=arguments.live)
    if not sys.stdin.isatty():
        return session.read_all(sys.stdin.buffer)
    dry = "" if arguments.live else " Dry: what reaches outside is shown, not done."
    line(f"Lua 5.4 with the library of hooks.{dry} Ctrl-D leaves.")
    with _remembered_lines(settings.home / "repl_history"):
        return session.converse()


class _Session:
    """Reads inputs, and prints what comes of them."""

    def __init__(self, prompt: Prompt, database: Database | None, *, live: bool) -> None:
        self._prompt = prompt
        self._database = database
        self._live = live
        self._failed = False

    def read_all(self, lines: Any) -> int:
        """Evaluate what is piped in, input by input."""
        from hook_event_processor.workshop.texts import decoded

        text = ""
        for line in lines:
            text = self._taken(text + decoded(line, "standard input"))
        if text.strip():
            self._refuse("the last input is not complete")
        return int(self._failed)

    def converse(self) -> int:
        """Evaluate what is typed."""
        from hook_event_processor.cli.output import line

        text = ""
        while True:
            try:
                text = self._taken(text + input(_MORE if text else _FIRST) + "\n")
            except KeyboardInterrupt:
                line()
                text = ""
            except EOFError:
                line()
                return 0

    def _taken(self, text: str) -> str:
        """Evaluate the input if it is complete; what is left of it otherwise."""
        if not text.strip():
            return ""
        evaluated = self._prompt.evaluate(text)
        if evaluated is None:
            return text
        self._print(evaluated)
        return ""

    def _print(self, evaluated: Evaluated) -> None:
        from hook_event_processor.cli.marks import indented
        from hook_event_processor.cli.output import flush, line

        if evaluated.output:
            indented(evaluated.output, "")
        for shown in evaluated.shown:
            line(f"-- would: {shown}")
        for item in evaluated.dispatched:
            line(f"-- {'dispatched' if self._live else 'would dispatch'}: {item.type} {item.data.decode()}")
        if self._live and evaluated.dispatched:
            self._publish(evaluated)
        if evaluated.reason is not None:
            self._refuse(evaluated.reason)
        elif evaluated.values is not None:
            indented(evaluated.values, "")
        flush()

    def _publish(self, evaluated: Evaluated) -> None:
        from uuid import uuid4

        from hook_event_processor.cli.connect import database_fault
        from hook_event_processor.cli.live import publish_dispatched
        from hook_event_processor.workshop.prompt import NAME

        try:
            publish_dispatched(evaluated.dispatched, uuid4(), b"{}", NAME, self._database)
        except HookEventProcessorError as fault:
            self._refuse(str(fault))
        except Exception as fault:
            known = database_fault(fault)
            if known is None:
                raise
            self._refuse(str(known))

    def _refuse(self, reason: str) -> None:
        from hook_event_processor.cli.output import flush
        from hook_event_processor.cli.visible import escape_block

        self._failed = True
        flush()
        sys.stderr.write(f"{escape_block(reason)}\n")


@contextmanager
def _remembered_lines(path: Path) -> Iterator[None]:
    """Edit lines with readline, where Python has it, complete names, and keep what was typed for the next time."""
    try:
        import readline
    except ImportError:
        yield
        return

    from hook_event_processor.workshop.library_names import completions

    def complete(text: str, state: int) -> str | None:
        found = completions(text)
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n()[]{}=+-*/%<>~,;\"'")
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_HISTORY_LINES)
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:  # not at Python's exit, which a thread that is stuck in a run passes over
        with suppress(OSError):
            readline.write_history_file(path)
            path.chmod(0o600)  # a secret may have been typed
