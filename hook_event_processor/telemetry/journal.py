"""Logging: entries with fields where stderr is the journal, plain lines everywhere else."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from logging_journald import JournaldTransport

from hook_event_processor.telemetry.lines import LineFormatter

IDENTIFIER = "hook-event-processor"
# syslog(3)
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
# A line waits this long for a busy journal; then lines are dropped for a while.
_PATIENCE_MICROSECONDS = 50_000
_PAUSE_SECONDS = 1.0
_BUSY = (errno.EAGAIN, errno.ENOBUFS)


def set_up(level: str, identifier: str = IDENTIFIER) -> None:
    """Send what all loggers say from `level` up (DEBUG, INFO, WARNING or ERROR) to the journal or to stderr.

    Replaces the handlers that are there. Logging never raises into its caller
    and never waits long for the journal.
    """
    handler: logging.Handler
    if stderr_is_the_journal():
        handler = JournalHandler(identifier=identifier)
        handler.setFormatter(LineFormatter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter("%(asctime)s "))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    # It warns of every pipeline that a lost connection cut off; who lost the connection says so once.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def mask(secrets: Iterable[str]) -> None:
    """Hide these texts in everything that is logged from now on; call it after set_up."""
    wanted = tuple(secrets)
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, LineFormatter):
            handler.formatter.mask(wanted)


def fields(
    *,
    event_id: UUID | str | None = None,
    hook: str | None = None,
    source: str | None = None,
    action: str | None = None,
    outcome: str | None = None,
    correlation_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    duration_ms: float | None = None,
    watcher: str | None = None,
) -> dict[str, Mapping[str, str]]:
    """What the journal finds a line by (`journalctl HOOK=name`): `logger.info(text, extra=fields(hook=name))`."""
    given = {
        "EVENT_ID": event_id,
        "HOOK": hook,
        "SOURCE": source,
        "ACTION": action,
        "OUTCOME": outcome,
        "CORRELATION_ID": correlation_id,
        "AGENT_ID": agent_id,
        "SESSION_ID": session_id,
        "DURATION_MS": None if duration_ms is None else f"{duration_ms:.3f}",
        "WATCHER": watcher,
    }
    return {"journal": {name: str(value) for name, value in given.items() if value not in (None, "")}}


def descriptors() -> list[int]:
    """What the log is written to: a process that is forked from this one keeps these, to log as well."""
    handlers = logging.getLogger().handlers
    return [handler.descriptor for handler in handlers if isinstance(handler, JournalHandler)]


def stderr_is_the_journal() -> bool:
    """Whether stderr is the very stream that systemd connected to the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        stat = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # no stderr, a closed one, or one without a descriptor
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class JournalHandler(logging.Handler):
    """Writes journald's native protocol. Its formatter must be a LineFormatter.

    A journal that is not there leaves its lines on stderr. One that does not
    take them in time loses lines, which are counted and reported.
    """

    def __init__(self, socket_path: Path | None = None, identifier: str = IDENTIFIER) -> None:
        super().__init__()
        self._identifier = identifier
        # Not connected: a journald that was restarted has a new socket at the same path.
        self._transport = JournaldTransport(socket_path, connected=False)
        # The kernel's own timeout: a socket of Python's with one would poll, and an
        # unconnected datagram socket always polls as writable.
        patience = struct.pack("ll", 0, _PATIENCE_MICROSECONDS)
        self._transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._lost = 0
        self._paused_until = 0.0

    @property
    def descriptor(self) -> int:
        """Of its socket."""
        return int(self._transport.socket.fileno())

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never raises."""
        try:
            if time.monotonic() < self._paused_until:
                self._lost += 1
                return
            self._send(record)
            self._report_lost()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._transport.socket.close()
        super().close()

    def _send(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        try:
            self._transport.send(self._entry(record, text))
        except OSError as fault:
            if fault.errno in _BUSY:
                self._lost += 1
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
            else:
                # stderr is a stream of the journal too; sd-daemon(3) has the prefix.
                print(f"<{_priority(record)}>{text}", file=sys.stderr, flush=True)  # noqa: T201 - the last resort

    def _report_lost(self) -> None:
        if self._lost and time.monotonic() >= self._paused_until:
            lost, self._lost = self._lost, 0
            text = f"the journal was too busy: {lost} log lines were lost"
            self._send(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None))

    def _entry(self, record: logging.LogRecord, text: str) -> Iterator[tuple[str, bytes]]:
        entry: dict[str, Any] = {
            "MESSAGE": text,
            "PRIORITY": _priority(record),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
            **getattr(record, "journal", {}),
        }
        hide = self.formatter.hide if isinstance(self.formatter, LineFormatter) else str
        for name, value in entry.items():
            # Bytes are sent with their length, so a newline in a value cannot begin a field.
            yield name, hide(str(value)).encode("utf-8", "backslashreplace")


def _priority(record: logging.LogRecord) -> int:
    return next((priority for level, priority in reversed(_PRIORITIES.items()) if record.levelno >= level), 7)
