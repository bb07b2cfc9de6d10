"""The command line: one program, `hep`, also called `hook-event-processor`."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hook_event_processor.cli.parser import parser
from hook_event_processor.errors import HookEventProcessorError, SettingsError, UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["main", "parser", "program"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_READER_LEFT = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (failed), 2 (misused)."""
    _print_any_character()
    try:
        given = _decoded(sys.argv[1:] if argv is None else argv)
        arguments = parser(given).parse_args(given)
        status = _run(arguments)
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse, after --help or a fault
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    except UsageError as fault:
        return _say(fault, 2)
    except BrokenPipeError:  # `hep events list | head`
        _drop_output()
        return _READER_LEFT
    except OSError as fault:
        _drop_output()
        return _say(fault, 1)
    return status


def _decoded(argv: Sequence[str]) -> Sequence[str]:
    """The arguments. Raises UsageError for one that is not UTF-8: it is no name, pattern or text in a database."""
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {argument!r} is not UTF-8") from None
    return argv


def _drop_output() -> None:
    """What is still to be written goes nowhere: the interpreter's own flush must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> None:
    """What the scripts call: run one command and exit with its status."""
    status = main()
    if threading.active_count() > 1 or status == _INTERRUPTED:
        # A thread that is stuck in a hook's run must not hold up the exit, nor be torn down in the middle of it. And
        # Python would end by the signal, not with the status, if Ctrl-C came while it executed a text, as imports do.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _run(arguments: argparse.Namespace) -> int:
    from hook_event_processor import settings

    try:
        effective = settings.load()
        if arguments.log_level:
            effective = dataclasses.replace(effective, log_level=arguments.log_level)
        status: int = arguments.run(arguments, effective)
    except UsageError as fault:
        return _say(fault, 2)
    except SettingsError as fault:
        return _say(fault, arguments.settings_fault_status)
    except HookEventProcessorError as fault:
        return _say(fault, 1)
    except Exception as fault:
        from hook_event_processor.cli.connect import database_fault

        said = database_fault(fault)
        if said is None:
            raise
        return _say(said, 1)
    return status


def _say(fault: Exception, status: int) -> int:
    from hook_event_processor.cli.output import error

    error(str(fault))
    return status


def _print_any_character() -> None:
    """A terminal that cannot show a character gets its escape, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
