"""custom: a program of one's own whose lines of JSON become events."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from hook_event_processor.errors import EventRefused
from hook_event_processor.event import MAX_NAME, split_type
from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import (
    Check,
    CheckFailed,
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
)
from hook_event_processor.watchers.host import programs
from hook_event_processor.watchers.host.stream import MAX_LINE, Stream
from hook_event_processor.watchers.kinds.command import parse_command, parse_timeout
from hook_event_processor.watchers.notice import Notice

_TRIGGERED, _ENDED = "custom.triggered", "custom.ended"
_CONDITIONS = {
    "changed": (_TRIGGERED, _ENDED),
    "triggered": (_TRIGGERED,),
    "created": (_TRIGGERED,),
    "ended": (_ENDED,),
    "stopped": (_ENDED,),
}
_TIMEOUT = 30.0
_MAX_LINES = 500  # of one look; what is more waits for the next
_MAX_LAST_LINES = 10_000  # of the last look
_PATIENCE_SECONDS = 60.0  # a program that ran so long has worked
_MAX_PAUSE_SECONDS = 300.0


class _Lines:
    """Makes events of lines, and remembers what was wrong with the last that is none."""

    def __init__(self, definition: Definition) -> None:
        self._notice = Notice(definition, _CONDITIONS)
        self._command = definition.options["command"]
        self._name = definition.name or self._command
        self.fault: str | None = None

    def events(self, taken: tuple[list[bytes], int], moment: Moment) -> list[Noticed]:
        """The events of these lines, in their order, and of so many that were too long; empty lines are none."""
        lines, too_long = taken
        noticed = []
        for line in lines:
            if line.strip():
                try:
                    noticed += self._event(line, moment)
                except ValueError as fault:
                    self.fault = f"a line is no event: {fault}"
        if too_long:
            self.fault = f"a line is no event: it has more than {MAX_LINE} bytes"
        return noticed

    def end(self, moment: Moment, code: int, error: str) -> list[Noticed]:
        """The event of the program's end."""
        data = {"command": self._command, "exit_code": code, "error": error or None}
        return self._notice.of(moment, _ENDED, self._name, data)

    def raise_fault(self) -> None:
        """Raise CheckFailed for a fault that was not raised yet."""
        fault, self.fault = self.fault, None
        if fault is not None:
            raise CheckFailed(fault)

    def _event(self, line: bytes, moment: Moment) -> list[Noticed]:
        """The event of a line: {"type": ..., "data": {...}, "resource": ...}, or data alone. Raises ValueError."""
        if len(line) > MAX_LINE:
            raise ValueError(f"it has {len(line)} bytes: at most {MAX_LINE}")
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as fault:
            raise ValueError(f"it is not JSON: {str(fault)[:100]}: {line[:100].decode('utf-8', 'replace')}") from None
        fields: dict[str, Any] = value if isinstance(value, dict) else {"value": value}
        if "type" not in fields:
            return self._notice.of(moment, _TRIGGERED, self._name, fields)
        event_type = _checked_type(fields.pop("type"))
        resource = fields.pop("resource", self._name)
        data = fields.get("data", fields)
        data = data if isinstance(data, dict) else {"value": data}
        # Whatever type it names is what the watcher is for.
        return [
            dataclasses.replace(noticed, type=event_type)
            for noticed in self._notice.of(moment, _TRIGGERED, str(resource), data)
        ]


class _Kept:
    """A program that runs all the time, and is started again when it ends, later and later if it does so at once."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._words = programs.words(definition.options["command"])
        self._lines = _Lines(definition)
        self._stream: Stream | None = None
        self._end_is_told = state is True
        self._started = 0.0
        self._ends = 0
        self._start_at = 0.0
        self._is_leaving = False

    def leave(self) -> None:
        """Ask the program to end; the next look is the last."""
        self._is_leaving = True
        if self._stream is not None:
            self._stream.ask_to_end()

    def look(self, moment: Moment) -> list[Noticed]:
        if self._is_leaving:
            return self._look_last(moment)
        try:
            programs.check_granted(self._words[0])
        except CheckFailed:
            if noticed := self._stop(moment):
                return noticed  # the next look says why
            raise
        if self._stream is None:
            if moment.monotonic < self._start_at:
                return []
            self._stream = Stream(self._words)
            self._started = moment.monotonic
        noticed = self._lines.events(self._stream.take(_MAX_LINES), moment)
        if self._stream.ended() is not None or moment.monotonic - self._started >= _PATIENCE_SECONDS:
            noticed += self._settle(self._stream, moment)
        if not noticed:
            self._lines.raise_fault()
        return noticed

    def _stop(self, moment: Moment) -> list[Noticed]:
        """End a program that a reload has taken the grant of; what it has printed until then is told."""
        if self._stream is not None:
            self._stream.ask_to_end()
        return self._take_last(moment)

    def _look_last(self, moment: Moment) -> list[Noticed]:
        noticed = self._take_last(moment)
        if not noticed:
            self._lines.raise_fault()
        return noticed

    def _take_last(self, moment: Moment) -> list[Noticed]:
        stream, self._stream = self._stream, None
        return [] if stream is None else self._lines.events(stream.take_last(_MAX_LAST_LINES), moment)

    def _settle(self, stream: Stream, moment: Moment) -> list[Noticed]:
        """What follows from its end, or from its having run for long."""
        if moment.monotonic - self._started >= _PATIENCE_SECONDS:
            self._end_is_told, self._ends = False, 0
        ended = stream.ended()
        if ended is None:
            return []
        stream.close()
        self._stream = None
        self._start_at = moment.monotonic + min(2.0**self._ends, _MAX_PAUSE_SECONDS)
        self._ends = min(self._ends + 1, 10)
        if self._end_is_told:
            return []
        self._end_is_told = True
        return self._lines.end(moment, ended.code, ended.error)

    def state(self) -> object:
        return self._end_is_told


class _Once:
    """A program that each look runs to its end."""

    def __init__(self, definition: Definition) -> None:
        self._words = programs.words(definition.options["command"])
        self._timeout: float = definition.options.get("timeout", _TIMEOUT)
        self._lines = _Lines(definition)
        self._failed = False
        self._is_leaving = False

    def leave(self) -> None:
        """There is no further run; one that was under way is told of by its own look."""
        self._is_leaving = True

    def look(self, moment: Moment) -> list[Noticed]:
        if self._is_leaving:
            return []
        programs.check_granted(self._words[0])
        ended = programs.run(self._words, self._timeout)
        lines = ended.stdout.split(b"\n")
        noticed = self._lines.events((lines[:_MAX_LINES], 0), moment)
        if len(lines) > _MAX_LINES + 1:
            self._lines.fault = f"it printed {len(lines) - 1} lines: at most {_MAX_LINES} are read"
        failed = ended.timed_out or ended.exit_code != 0
        if failed:
            said = f"did not end within {self._timeout:g} s" if ended.timed_out else f"ended with {ended.exit_code}"
            self._lines.fault = f"{self._words[0]} {said}: {programs.first_line(ended.stderr)}".rstrip(": ")
        if failed and not self._failed:
            noticed += self._lines.end(moment, ended.exit_code, programs.first_line(ended.stderr))
        self._failed = failed
        if not noticed:
            self._lines.raise_fault()
        return noticed

    def state(self) -> object:
        return False


def _checked_type(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable() or " " in value:
        raise ValueError(f"its type is {str(value)[:100]!r}: write source.action")
    try:
        split_type(value)
    except EventRefused as fault:
        raise ValueError(str(fault)) from None
    return value


def _start(definition: Definition, state: object) -> Check:
    return _Once(definition) if definition.options.get("once") else _Kept(definition, state)


def _validate(definition: Definition) -> None:
    if "timeout" in definition.options and not definition.options.get("once"):
        raise WatcherRefused("--timeout goes with --once: without it the program is kept running")


KIND = Kind(
    name="custom",
    summary="a program of one's own whose lines of JSON become events",
    interval=5.0,
    example="--command '/usr/local/bin/doors --json'",
    conditions=_CONDITIONS,
    options={
        "command": Option(
            parse_command, "a program and its arguments, quoted as for a shell", "the program; no shell reads it", True
        ),
        "once": parsers.flag("run it to its end each time, instead of keeping it running"),
        "timeout": Option(
            parse_timeout, "a duration from 50ms to 5m", f"how long it may take with --once (default {_TIMEOUT:g}s)"
        ),
    },
    start=_start,
    blocks=True,
    target=lambda definition: str(definition.options["command"]),
    validate=_validate,
)
