"""What systemd does for a service: it starts again what ended by itself, and ends what no longer feeds its watchdog."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ops.chaos.processors import Processor

_POLL_SECONDS = 0.1
_RESTART_SECONDS = 1.0  # RestartSec of the unit
# WatchdogSec of the unit is 30: a shorter one, so that a scenario is not mostly waiting. Not so short that a
# processor that only waits for its turn on a busy machine is taken for one that stands still.
WATCHDOG_SECONDS = 15.0


@dataclass(slots=True)
class _Watched:
    processor: Processor
    notified: socket.socket
    fed_at: float = field(default_factory=time.monotonic)
    said_ready: bool = False


class Supervisor:
    """Watches the processors that it was given before their start."""

    def __init__(self, place: Path, on_end: Callable[[Processor, str, int], None]) -> None:
        """`on_end` gets each processor that ended by itself, the label of that start, and its exit status.

        `place` gets the sockets that processors notify.
        """
        self._place = place
        self._on_end = on_end
        self._watched: list[_Watched] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self.ends: list[tuple[str, int]] = []  # label and exit status

    def watch(self, processor: Processor) -> None:
        """From its next start on."""
        path = self._place / f"{processor.name}.notify"
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind(str(path))
        notified.setblocking(False)
        processor.extra_environment["NOTIFY_SOCKET"] = str(path)
        processor.extra_environment["WATCHDOG_USEC"] = str(int(WATCHDOG_SECONDS * 1e6))
        self._watched.append(_Watched(processor, notified))

    def start(self) -> None:
        """Begin, once the processors have been started."""
        if self._watched:
            self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            for watched in self._watched:
                self._listen(watched)
                if watched.said_ready and time.monotonic() - watched.fed_at > WATCHDOG_SECONDS:
                    watched.processor.signal(signal.SIGABRT)  # systemd.service(5), WatchdogSec=
                    watched.processor.wait()
                self._start_again(watched)

    def _listen(self, watched: _Watched) -> None:
        try:
            while state := watched.notified.recv(4096):
                if b"WATCHDOG=1" in state or b"READY=1" in state:
                    watched.fed_at, watched.said_ready = time.monotonic(), True
        except BlockingIOError:
            return

    def _start_again(self, watched: _Watched) -> None:
        processor = watched.processor
        status = processor.status
        if status is None:
            return
        self.ends.append((processor.label, status))
        self._on_end(processor, processor.label, status)
        self._stopping.wait(_RESTART_SECONDS)
        if not self._stopping.is_set():
            watched.said_ready = False
            processor.start()

    def stop(self) -> None:
        """Start nothing again from now on."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(30)
