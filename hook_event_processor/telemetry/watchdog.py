"""What the service tells systemd: that it is ready, how it is, and that its parts still move."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from sdnotify import SystemdNotifier

log = logging.getLogger("Watchdog")
_NOTIFY_TIMEOUT_SECONDS = 1.0
_MAX_STATUS = 2_000  # bytes: systemd ignores a message of more than 4,096, and the line before would stay


class Progress:
    """The mark of one part of the service, which it sets again and again while its work goes on."""

    __slots__ = ("_clock", "_marked_at", "limit_seconds", "name")

    def __init__(self, name: str, limit_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.limit_seconds = limit_seconds
        self._clock = clock
        self._marked_at = clock()

    def mark(self) -> None:
        """Say that the work goes on. An attempt to reconnect counts; waiting for a lock of one's own does not."""
        self._marked_at = self._clock()

    def still_seconds(self) -> float:
        """Seconds since the last mark."""
        return self._clock() - self._marked_at


class Watchdog:
    """Notifies systemd (sd_notify(3)) and feeds its watchdog while every part progresses.

    Without $NOTIFY_SOCKET nothing is sent. Call tick() every
    `interval_seconds`, from a thread whose own standstill should count too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._parts: list[Progress] = []
        self._standing: set[str] = set()
        self._status = ""
        self._watched_seconds = _watched_seconds()
        self._notifier = SystemdNotifier()
        if self._notifier.socket is not None:
            # A manager that is busy must not hold us up.
            self._notifier.socket.settimeout(_NOTIFY_TIMEOUT_SECONDS)

    @property
    def interval_seconds(self) -> float:
        """How often to tick: a third of the time that the unit's WatchdogSec allows, and once a second at least."""
        return min(1.0, self._watched_seconds / 3) if self._watched_seconds else 1.0

    def part(self, name: str, limit_seconds: float) -> Progress:
        """A new part, which has progressed just now; it stands still when it is not marked for `limit_seconds`."""
        part = Progress(name, limit_seconds, self._clock)
        self._parts.append(part)
        return part

    def still(self) -> dict[str, float]:
        """Seconds since the last mark of each part, by its name."""
        return {part.name: part.still_seconds() for part in tuple(self._parts)}

    def remove(self, part: Progress) -> None:
        """Forget a part that has ended its work."""
        self._parts.remove(part)
        self._standing.discard(part.name)

    def ready(self) -> None:
        """The service is up."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """The service reads its settings again; ready() ends that."""
        # Type=notify-reload wants to know when (sd_notify(3)).
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service drains."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows; sent when it changes."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            shown = text.encode("utf-8", "backslashreplace")[:_MAX_STATUS].decode(errors="ignore")
            self._notify(f"STATUS={shown}")

    def tick(self) -> bool:
        """Feed the watchdog if all parts progress; else stay silent, and log once which part stands still."""
        standing = {part.name: part for part in tuple(self._parts) if part.still_seconds() > part.limit_seconds}
        for name in standing.keys() - self._standing:
            part = standing[name]
            log.error("%s has stood still for %.0f s (at most %g)", name, part.still_seconds(), part.limit_seconds)
        for name in self._standing - standing.keys():
            log.warning("%s moves again", name)
        self._standing = set(standing)
        if not standing and self._watched_seconds:
            self._notify("WATCHDOG=1")
        return not standing

    def _notify(self, state: str) -> None:
        # sdnotify encodes as Latin-1; this way UTF-8 is what arrives.
        self._notifier.notify(state.encode("utf-8", "backslashreplace").decode("latin-1"))


def _watched_seconds() -> float:
    """WatchdogSec of our unit; 0 when there is none, or when it is for another process (sd_watchdog_enabled(3))."""
    try:
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0.0
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
