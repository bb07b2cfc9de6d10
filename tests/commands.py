"""`hep` in this process, on a test's database."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pytest

from hook_event_processor.cli import main


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit status, and what it wrote."""

    status: int
    output: str
    errors: str

    @property
    def fault(self) -> str:
        """The one line that a failed command writes."""
        assert self.status in (1, 2), self
        assert self.output == ""
        assert self.errors.count("\n") == 1, self.errors
        return self.errors.rstrip("\n")


class Hep:
    """Runs commands; settings are in the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str, stdin: str = "") -> Finished:
        """What becomes of a command."""
        self._capsys.readouterr()
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode(errors="surrogateescape"))))
        status = main(arguments)
        return Finished(status, *self._capsys.readouterr())

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What a command prints; it must succeed and complain of nothing, but for notes on types of one's own."""
        finished = self.run(*arguments, stdin=stdin)
        complaints = [line for line in finished.errors.splitlines() if not line.startswith("note: the event type ")]
        assert (finished.status, complaints) == (0, []), finished
        return finished.output

    def fault(self, *arguments: str, stdin: str = "") -> str:
        """The one line of a command that must fail."""
        return self.run(*arguments, stdin=stdin).fault

    def document(self, *arguments: str, stdin: str = "") -> Any:
        """The JSON document that a command prints."""
        return json.loads(self(*arguments, stdin=stdin))
