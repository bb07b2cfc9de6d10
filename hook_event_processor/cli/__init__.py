"""The command line: one program, `hep`, also called `hook-event-processor`."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hook_event_processor.cli import output
from hook_event_processor.cli.parser import parser
from hook_event_processor.errors import HookEventProcessorError, OutputFailed, SettingsError, UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["main", "parser", "program"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_READER_LEFT = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (failed), 2 (misused)."""
    _open_what_is_closed()
    _print_any_character()
    try:
        status = _obey(sys.argv[1:] if argv is None else argv)
        output.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `hep events list | head`
        output.drop()
        return _READER_LEFT
    except OutputFailed as fault:
        return _say(fault, 1)
    except OSError as fault:
        output.drop()
        return _say(fault, 1)
    return status


def _obey(argv: Sequence[str]) -> int:
    try:
        given = _decoded(argv)
        return _run(parser(given).parse_args(given))
    except SystemExit as leaving:  # argparse, after --help or a fault
        return leaving.code if isinstance(leaving.code, int) else 2
    except UsageError as fault:
        return _say(fault, 2)


def _decoded(argv: Sequence[str]) -> Sequence[str]:
    """The arguments. Raises UsageError for one that is not UTF-8: it is no name, pattern or text in a database."""
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {argument!r} is not UTF-8") from None
    return argv


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
        try:
            effective = settings.load()
        except SettingsError as fault:
            arguments.without_settings(arguments, fault)
            raise
        if arguments.log_level:
            effective = dataclasses.replace(effective, log_level=arguments.log_level)
        status: int = arguments.run(arguments, effective)
    except UsageError as fault:
        return _say(fault, 2)
    except SettingsError as fault:
        return _say(fault, arguments.settings_fault_status)
    except HookEventProcessorError as fault:
        return _say(fault, 1)
    except OSError as fault:
        if fault.filename is None:  # what is printed goes nowhere, say
            raise
        return _say(f"{fault.filename} cannot be used: {fault.strerror}", 1)
    except Exception as fault:
        from hook_event_processor.cli.connect import database_fault

        said = database_fault(fault)
        if said is None:
            raise
        return _say(said, 1)
    return status


def _say(fault: Exception | str, status: int) -> int:
    output.error(str(fault))
    return status


def _open_what_is_closed() -> None:
    """A standard stream that the caller closed (`>&-`) is there, so that nothing else gets its number.

    Nothing comes from the input, what is said of faults goes nowhere, and writing to the output fails as it should.
    """
    for name, access, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))


def _print_any_character() -> None:
    """A terminal that cannot show a character gets its escape, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
