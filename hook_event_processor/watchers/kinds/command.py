"""command: a program that is run again and again, and what changes about its output and its exit status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hook_event_processor.child import Ended
from hook_event_processor.lua.host import command_line
from hook_event_processor.watchers.check import (
    CheckFailed,
    Definition,
    Kind,
    Moment,
    Noticed,
    Option,
    WatcherRefused,
    integer,
    number,
    seconds,
)
from hook_event_processor.watchers.host import programs
from hook_event_processor.watchers.kinds import command_text
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS, Crossing, Threshold
from hook_event_processor.watchers.notice import Notice

if TYPE_CHECKING:
    from hook_event_processor.watchers.host.line_pattern import LinePattern

_TIMEOUT = 10.0
_CHANGED, _FAILED, _RECOVERED = "command.output_changed", "command.failed", "command.recovered"
_MATCHED, _HIGH, _LOW, _NORMAL = (
    *("command.output_matched", "command.value_high", "command.value_low", "command.value_normal"),
)
_CONDITIONS = {
    "changed": (_CHANGED,),
    "failed": (_FAILED,),
    "recovered": (_RECOVERED,),
    "matches": (_MATCHED,),
    "contains": (_MATCHED,),
    "above": (_HIGH,),
    "below": (_LOW,),
    "normal": (_NORMAL,),
}
_OF_VALUES = ("above", "below", "normal")
_OF_PATTERNS = ("matches", "contains")
_OF_ENDS = ("failed", "recovered")
_ABOUT = {
    "threshold": _OF_VALUES,
    "average": _OF_VALUES,
    "until_normal": _OF_VALUES,
    "pattern": _OF_PATTERNS,
    "expect_exit": _OF_ENDS,
    "for": (*_OF_ENDS, *_OF_VALUES),
}
_YES_OR_NO = 0.5


class _Check:
    """One command. Nothing of it is told by the first look."""

    def __init__(self, definition: Definition, state: object) -> None:
        options, conditions = definition.options, definition.conditions
        kept: Mapping[str, Any] = state if isinstance(state, dict) else {}
        self._primed = isinstance(state, dict)
        self._notice = Notice(definition, _CONDITIONS)
        self._line: str = options["command"]
        self._words = programs.words(self._line)
        self._timeout: float = options.get("timeout", _TIMEOUT)
        self._expected: int = options.get("expect_exit", 0)
        self._old: Mapping[str, str] = kept.get("output", {})
        self._failing = Threshold(_YES_OR_NO, {"for": options.get("for", 1)}, kept.get("failing"))
        self._pattern = _pattern(definition)
        self._matching = Threshold(_YES_OR_NO, {}, kept.get("matching"))
        self._limit = options.get("threshold")
        self._above = "below" not in conditions
        self._value = Threshold(self._limit or 0.0, options, kept.get("high"), above=self._above)

    def look(self, moment: Moment) -> list[Noticed]:
        programs.check_granted(self._words[0])
        ended = programs.run(self._words, self._timeout)
        if ended.timed_out and not self._notice.wants(_FAILED, _RECOVERED):
            raise CheckFailed(f"{self._words[0]} did not end within {self._timeout:g} s")
        if not self._primed:
            self._old = _kept_of(ended)
            self._primed = True
            return []
        noticed = self._compare_exit(ended, moment)
        if ended.timed_out:
            return noticed  # what was printed until then says nothing
        noticed += self._compare_output(ended, moment) + self._match(ended, moment)
        try:
            return noticed + self._measure(ended, moment)
        except CheckFailed:
            if not noticed:  # else the next look raises it
                raise
            return noticed

    def _compare_exit(self, ended: Ended, moment: Moment) -> list[Noticed]:
        failed = ended.timed_out or ended.exit_code != self._expected
        crossing = self._failing.update(float(failed))
        if crossing is None:
            return []
        data = {
            "expected_exit": self._expected,
            "timed_out": ended.timed_out,
            "output": command_text.shown(ended.stdout),
            "error": command_text.shown(ended.stderr),
        }
        return self._tell(moment, _FAILED if crossing is Crossing.HIGH else _RECOVERED, ended, data)

    def _compare_output(self, ended: Ended, moment: Moment) -> list[Noticed]:
        old, self._old = self._old, _kept_of(ended)
        if self._old.get("digest") == old.get("digest"):
            return []
        return self._tell(moment, _CHANGED, ended, {"old_output": old.get("text"), "new_output": self._old["text"]})

    def _match(self, ended: Ended, moment: Moment) -> list[Noticed]:
        if self._pattern is None:
            return []
        first = next(self._pattern.lines(ended.stdout), None)
        if self._matching.update(float(first is not None)) is not Crossing.HIGH or first is None:
            return []
        line = command_text.shown(ended.stdout[first.begin : first.end])
        data = {"pattern": self._pattern.text, "line": line, "output": command_text.shown(ended.stdout)}
        return self._tell(moment, _MATCHED, ended, data)

    def _measure(self, ended: Ended, moment: Moment) -> list[Noticed]:
        if self._limit is None:
            return []
        crossing = self._value.update(command_text.number(ended.stdout))
        if crossing is None:
            return []
        event_type = _NORMAL if crossing is Crossing.NORMAL else _HIGH if self._above else _LOW
        return self._tell(moment, event_type, ended, {"value": self._value.value, "threshold": self._limit})

    def _tell(self, moment: Moment, event_type: str, ended: Ended, more: Mapping[str, Any]) -> list[Noticed]:
        data = {"command": self._line, **more, "exit_code": ended.exit_code, "duration_ms": ended.duration_ms}
        return self._notice.of(moment, event_type, self._words[0], data)

    def state(self) -> object:
        return {
            "output": self._old,
            "failing": self._failing.state,
            "matching": self._matching.state,
            "high": self._value.state,
        }


def _kept_of(ended: Ended) -> Mapping[str, str]:
    if ended.timed_out:
        return {}
    return {"digest": command_text.digest(ended.stdout), "text": command_text.shown(ended.stdout)}


def _pattern(definition: Definition) -> LinePattern | None:
    if "pattern" not in definition.options:
        return None
    from hook_event_processor.watchers.host.line_pattern import LinePattern  # RE2 takes 3 MB

    return LinePattern(definition.options["pattern"], literal="contains" in definition.conditions)


def parse_command(text: str) -> str:
    """A command as it is written, which has a program and arguments. Raises ValueError and WatcherRefused."""
    programs.words(text)
    if meant := command_line.meant_for_a_shell(text):
        raise WatcherRefused(
            f"--command: no shell reads this line, and {meant} would take one: write sh -c '...', or quote what is"
            " meant as it stands"
        )
    return text


def parse_timeout(text: str) -> float:
    """Seconds that a command may take. Raises ValueError."""
    value = seconds(text)
    if not 0.05 <= value <= 300:
        raise ValueError(text)
    return value


def _parse_pattern(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _validate(definition: Definition) -> None:
    options, conditions = definition.options, definition.conditions
    for needed in ("threshold", "pattern"):
        used = [condition for condition in conditions if condition in _ABOUT[needed]]
        if used and needed not in options:
            raise WatcherRefused(f"--when {used[0]} needs --{needed}")
    for name, about in _ABOUT.items():
        if name in options and not any(condition in about for condition in conditions):
            raise WatcherRefused(f"--{name.replace('_', '-')} needs --when {' or '.join(about)}")
    for one, other in (("above", "below"), ("matches", "contains")):
        if one in conditions and other in conditions:
            raise WatcherRefused(f"--when {one} and --when {other} take a watcher each")
    try:
        _pattern(definition)
    except ValueError:
        raise WatcherRefused(
            f"--pattern is {options['pattern']!r}: it takes a regular expression of RE2, or a text with --when contains"
        ) from None


KIND = Kind(
    name="command",
    summary="a program that is run again and again: its output, a number in it, its exit status",
    interval=60.0,
    example="--command 'df --output=pcent /' --threshold 90 --when above,normal",
    conditions=_CONDITIONS,
    options={
        "command": Option(
            parse_command, "a program and its arguments, quoted as for a shell", "the command; no shell reads it", True
        ),
        "pattern": Option(_parse_pattern, "a regular expression, or a text", "what a line of the output has"),
        "threshold": Option(number(-1e15, 1e15, percent=True), "a number", "for the first number in the output"),
        "expect_exit": Option(
            integer(0, 255), "an exit status from 0 to 255", "the exit status of success (default 0)"
        ),
        "timeout": Option(parse_timeout, "a duration from 50ms to 5m", f"how long it may take (default {_TIMEOUT:g}s)"),
        **THRESHOLD_OPTIONS,
    },
    start=_Check,
    blocks=True,
    target=lambda definition: str(definition.options["command"]),
    validate=_validate,
)
