"""exec: programs of the host, run by an argument list and within limits."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from time import perf_counter

from hook_event_processor import child
from hook_event_processor.child import Command, Ended
from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services, Value
from hook_event_processor.lua.host import command_line
from hook_event_processor.lua.host.privacy import shut_to_programs
from hook_event_processor.lua.host.programs import find_program, is_granted, loads_code, search_path
from hook_event_processor.lua.masking import mask
from hook_event_processor.store.own_events import CAUSE, cause_of_row, cause_text

_MAX_LINE = 64 * 1024  # bytes; splitting takes time that nothing interrupts
_MAX_SHOWN = 2000  # characters of a command


def functions(_: Services) -> Mapping[str, Function]:
    """exec.run, as exec.lua calls it."""
    return {"exec.run": Function(run, waits=True, pretend=pretend)}


def run(
    call: Call,
    line: bytes | None,
    listed: bytes | None,
    directory: bytes | None,
    environment: bytes | None,
    stdin: bytes | None,
    timeout: float | None,
) -> Value:
    """Run a command; returns exit code, stdout, stderr, duration in milliseconds and whether it took too long.

    The command is one `line`, or arguments `listed` with NUL between them;
    `environment` is NAME=value, the same way. `timeout` in seconds.
    """
    command = _command(call, line, listed, directory, environment, stdin)
    run_ends_at = perf_counter() + call.left
    ends_at = run_ends_at if timeout is None else perf_counter() + timeout
    try:
        shut_to_programs()
        return _values(child.run(command, ends_at, run_ends_at, call.cancelled, call.hold))
    except OSError as fault:
        raise Failed(f"{_shown(command.arguments[0])} cannot be run: {fault.strerror}") from None


def pretend(
    call: Call,
    line: bytes | None,
    listed: bytes | None,
    directory: bytes | None,
    environment: bytes | None,
    stdin: bytes | None,
    _: float | None,
) -> Value:
    """Show the command, once it is clear that policy would let it run, as if it had succeeded without a word."""
    command = _command(call, line, listed, directory, environment, stdin)
    # Masked before it is quoted and cut: then a secret with a quote in it, or half of one, is not recognized.
    joined = shlex.join(_shown(mask(argument, call.secrets)) for argument in command.arguments)
    shown = _shown(mask(joined.encode(), call.secrets))  # one of several words is in several arguments
    call.show(f"exec.run: {shown[:_MAX_SHOWN]}" + (f" (in {_shown(directory)})" if directory else ""))
    return _values(Ended(0, b"", b"", 0, timed_out=False))


def _values(ended: Ended) -> Value:
    return (ended.exit_code, ended.stdout, ended.stderr, ended.duration_ms, ended.timed_out)


def _command(
    call: Call,
    line: bytes | None,
    listed: bytes | None,
    directory: bytes | None,
    environment: bytes | None,
    stdin: bytes | None,
) -> Command:
    if call.grants.exec is False or call.grants.exec == ():
        raise call.refusal("exec", "exec.run")
    arguments = _words(line) if line is not None else (listed or b"").split(b"\0")
    program = _program(call, arguments[0])
    if directory is not None and not os.path.isdir(directory):
        raise Failed(f"there is no directory {_shown(directory)}")
    return Command(program, arguments, directory, _environment(call, environment), stdin or b"")


def _words(line: bytes) -> list[bytes]:
    """The words of a line, by a shell's rules for quotes and by none of its others. Raises Misused."""
    if len(line) > _MAX_LINE:
        raise Misused(
            f"exec.run: the line has {len(line)} bytes: at most {_MAX_LINE}; a list of arguments may have more"
        )
    text = line.decode("utf-8", "surrogateescape").strip()
    meant = command_line.meant_for_a_shell(text)
    if meant:
        raise Misused(
            f"exec.run: no shell reads this line, and {meant} would take one:"
            ' write exec.run({"sh", "-c", "..."}), or quote what is meant as it stands'
        )
    try:
        words = command_line.split(text)
    except ValueError as fault:
        raise Misused(f"exec.run: the line cannot be split into words: {str(fault).lower()}") from None
    if not words:
        raise Misused("exec.run takes a command: the line holds no word")
    return [word.encode("utf-8", "surrogateescape") for word in words]


def _program(call: Call, name: bytes) -> str:
    """The file to run. Raises Misused when policy does not name it, Failed when there is none."""
    grants, wanted = call.grants.exec, os.fsdecode(name)
    if "/" in wanted and not wanted.startswith("/"):
        raise Misused(f"exec.run: {_shown(name)} depends on the working directory: write a name, or the whole path")
    program = find_program(wanted)
    # What is not granted is refused, whether it exists or not: hooks shall not find out.
    if grants is not True and not is_granted(program, wanted, grants or ()):
        raise call.refusal("exec", f"the program {_shown(name)}")
    if program is None:
        raise Failed(f"there is no program {_shown(name)}")
    return program


def _environment(call: Call, given: bytes | None) -> Mapping[bytes, bytes]:
    environment = {
        b"PATH": os.fsencode(search_path()),
        b"HOME": os.fsencode(os.path.expanduser("~")),
        b"LANG": os.fsencode(os.environ.get("LANG", "C.UTF-8")),
    }
    if call.event is not None:
        # What it tells of by events is then known to come of this one.
        environment[CAUSE.encode()] = cause_text(cause_of_row(call.event, call.hook)).encode()
    for pair in given.split(b"\0") if given else ():
        name, _, value = pair.partition(b"=")
        if call.grants.exec is not True and loads_code(os.fsdecode(name)):
            raise Misused(
                f"exec.run: {_shown(name)} can make a program run other code:"
                " a hook that may run some programs only cannot set it"
            )
        environment[name] = value
    return environment


def _shown(value: bytes) -> str:
    return value.decode(errors="replace")
