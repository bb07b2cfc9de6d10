"""The processors that are struck: processes of their own, with handles to kill, freeze and start them again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.chaos.effects import Effects

# Of the caller's environment only this: his settings and his database are not what is tested.
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
_END_SECONDS = 45.0  # a drain takes up to 25


class Processor:
    """One processor that may be started many times; `label` names the start that runs now."""

    def __init__(self, name: str, effects: Effects, place: Path, environment: Callable[[], Mapping[str, str]]) -> None:
        """`environment` is asked at each start; `place` gets the log."""
        self.name = name
        self.log_path = place / f"{name}.log"
        # The scenario may change these before a start.
        self.extra_environment: dict[str, str] = {}
        self.command: list[str] = [sys.executable, "-m", "hook_event_processor", "run"]
        self._effects = effects
        self._environment = environment
        self._place = place
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.labels: dict[int, str] = {}  # the label of each process that there was

    @property
    def label(self) -> str:
        return f"{self.name}.{self._starts}"

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and do not wait for it."""
        self._starts += 1
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        environment = {
            **passed,
            "LOG_LEVEL": os.environ.get("CHAOS_LOG_LEVEL", "WARNING"),
            "HEP_INSTANCE": self.name,
            "HEP_HOME": str(self._place / "processors"),  # all on one host, and none with what else runs there
            "HOOK_ENV": "CHAOS_LABEL",
            "CHAOS_LABEL": self.label,
            "HOOK_FILE_ROOTS": str(self._effects.root(self.label)),
            **self._environment(),
            **self.extra_environment,
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, env=environment, cwd=self._place, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.labels[self.pid] = self.label

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM: drain and end; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> None:
        """End it gently, if it runs, and start it again."""
        if self.status is None:
            self.terminate()
        self.start()

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, seconds: float = _END_SECONDS) -> int:
        """Wait for its end; returns the exit status, negative for a signal."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.wait(seconds)

    def end(self) -> None:
        """Whatever it does, it is gone afterwards."""
        if self._process is None or self.status is not None:
            return
        self.thaw()
        try:
            self.terminate()
        except subprocess.TimeoutExpired:
            self.kill()
