"""The end of a service, or its settings read anew: asked for by a signal, noticed by the main thread."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Says that it is over. Set in a signal handler, whatever that interrupts; waited for by the main thread.

    A pipe, not a lock: the interpreter itself writes to it as a signal
    arrives, so that none is slept over.
    """

    def __init__(self) -> None:
        self._set = False
        self._reload = False
        self._read, self._written = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._written, False)

    def is_set(self) -> bool:
        return self._set

    def take_reload(self) -> bool:
        """Whether SIGHUP has come since this was last asked."""
        asked, self._reload = self._reload, False
        return asked

    def wait(self, seconds: float) -> bool:
        """Wait until a signal is handled, or the time is up; whether it is set."""
        if not self._set and select.select([self._read], [], [], seconds)[0]:
            os.read(self._read, 4096)
        return self._set

    @contextmanager
    def at_signals(self, *, reloads: bool = False) -> Iterator[None]:
        """For a while, SIGTERM and SIGINT set it, and a second one leaves at once; SIGHUP is for take_reload()."""
        descriptor = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        # Ignored, as some parents leave it, it would let the number of an ended program be another's at once.
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if reloads:
            handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(descriptor)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._set:
            os._exit(128 + number)
        self._set = True

    def _on_hangup(self, _: int, __: FrameType | None) -> None:
        self._reload = True
