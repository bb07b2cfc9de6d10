"""log: lines that match, in a file that grows and is rotated."""

from __future__ import annotations

from typing import Any

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import Definition, Kind, Moment, Noticed, Option, WatcherRefused, integer
from hook_event_processor.watchers.host.follow import Follower
from hook_event_processor.watchers.host.line_pattern import LineMatch, LinePattern
from hook_event_processor.watchers.host.log_reader import Piece
from hook_event_processor.watchers.notice import Notice

_MATCHED = "log.pattern_matched"
_CONDITIONS = {"matches": (_MATCHED,), "contains": (_MATCHED,)}
_MAX_EVENTS = 100  # of one look
_LINE_CHARACTERS = 8192  # that an event has of a line
_FAR_BEHIND = 64 << 20  # bytes: there, what is more than one look tells no longer waits for the next


class _Log:
    """A log and what is looked for in it."""

    def __init__(self, definition: Definition, state: object) -> None:
        options = definition.options
        self._path: str = options["path"]
        self._pattern = LinePattern(options["pattern"], literal="contains" in definition.conditions)
        self._most: int = options.get("max_events", _MAX_EVENTS)
        self._notice = Notice(definition, _CONDITIONS)
        self._follower = Follower(self._path, state)

    def look(self, moment: Moment) -> list[Noticed]:
        noticed: list[Noticed] = []
        dropped = 0
        for piece in self._follower.pieces(moment.monotonic):
            number, counted = piece.number, 0
            for match in self._pattern.lines(piece.text):
                if len(noticed) >= self._most:
                    dropped += 1
                    continue
                if number is not None:
                    number += piece.text.count(b"\n", counted, match.begin)
                    counted = match.begin
                noticed += self._notice.of(moment, _MATCHED, self._path, self._data(piece, match, number))
            if len(noticed) >= self._most and self._follower.behind() < _FAR_BEHIND:
                break
        if dropped:
            noticed[-1].data["dropped"] = dropped
        if not noticed:
            self._follower.raise_missed()
        return noticed

    def state(self) -> object:
        return self._follower.state()

    def _data(self, piece: Piece, match: LineMatch, number: int | None) -> dict[str, Any]:
        groups = [None if group is None else _shown(group) for group in match.groups]
        return {
            "path": self._path,
            "pattern": self._pattern.text,
            "line": _shown(piece.text[match.begin : match.end].removesuffix(b"\r")),
            "line_number": number,
            "offset": piece.offset + match.begin,
            "groups": groups or None,
            "fields": {name: groups[index - 1] for name, index in self._pattern.names.items()} or None,
        }


def _shown(text: bytes) -> str:
    """Text that JSON and PostgreSQL take, of so many characters; what is no UTF-8 as \ufffd."""
    plain = text[: 4 * _LINE_CHARACTERS].decode(errors="replace").replace("\0", "\ufffd")
    return plain if len(plain) <= _LINE_CHARACTERS else plain[: _LINE_CHARACTERS - 1] + "…"


def _pattern(text: str) -> str:
    """Not parsed here: it may be meant as it stands."""
    if not text.strip():
        raise ValueError(text)
    return text


def _validate(definition: Definition) -> None:
    if set(definition.conditions) == {"matches", "contains"}:
        raise WatcherRefused(
            "--pattern is one thing only: --when matches takes it as a regular expression, --when contains as a text"
        )
    try:
        LinePattern(definition.options["pattern"], literal="contains" in definition.conditions)
    except ValueError as fault:
        raise WatcherRefused(f"--pattern: {fault}") from fault


KIND = Kind(
    name="log",
    summary="a log's new lines that match a pattern",
    interval=5.0,
    example="--path /var/log/auth.log --pattern 'Failed password'",
    conditions=_CONDITIONS,
    options={
        "path": Option(parsers.absolute_path, "an absolute path", "log to follow", required=True),
        "pattern": Option(
            _pattern,
            "a regular expression (RE2), or a text with --when contains",
            "what to look for in each line",
            required=True,
        ),
        "max_events": Option(
            integer(1, 10_000), "a number from 1 to 10000", "events of one check; others are counted (default 100)"
        ),
    },
    start=_Log,
    paths=lambda definition: (definition.options["path"],),
    target=lambda definition: str(definition.options["path"]),
    validate=_validate,
)
