"""What a run of specs looks like: a tree of names, or a JSON document."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hook_event_processor.amount import counted
from hook_event_processor.cli.marks import indented, marked_line
from hook_event_processor.cli.output import document, line, milliseconds
from hook_event_processor.errors import HookEventProcessorError

if TYPE_CHECKING:
    from hook_event_processor.workshop.spec import Tested

_SLOW = 0.1  # seconds from which on a test's duration is worth a word


class SpecReport:
    """Prints tests as they end; `silent` gathers them for one JSON document at the end."""

    def __init__(self, *, quiet: bool, silent: bool) -> None:
        self._quiet = quiet or silent
        self._silent = silent
        self._started = perf_counter()
        self._files: list[dict[str, Any]] = []
        self._around: tuple[str, ...] = ()
        self._announced = False
        self.passed = self.failed = 0

    def begin(self, path: Path) -> None:
        """The tests that follow are those of this file."""
        self._files.append({"file": str(path), "tests": []})
        self._around = ()
        self._announced = False

    def add(self, tested: Tested) -> None:
        """A test has ended."""
        passed = tested.reason is None
        self.passed += passed
        self.failed += not passed
        self._files[-1]["tests"].append(
            {
                "name": " ".join(tested.test.names),
                "names": tested.test.names,
                "line": tested.test.line,
                "passed": passed,
                "error": tested.reason,
                "output": tested.output,
                "duration_ms": round(tested.duration * 1000, 3),
            }
        )
        if not self._quiet:
            self._print_in_tree(tested)
        elif not passed and not self._silent:
            marked_line("", False, f"{self._files[-1]['file']}: {' > '.join(tested.test.names)}")
            self._print_failure(tested, "    ")

    def _announce(self) -> None:
        """Print the file's name above its first line: a file of which nothing was run is not worth one."""
        if not self._announced and not self._quiet:
            line(self._files[-1]["file"])
        self._announced = True

    def _print_in_tree(self, tested: Tested) -> None:
        self._announce()
        *around, name = tested.test.names
        for depth, part in enumerate(around):
            if tuple(around[: depth + 1]) != self._around[: depth + 1]:
                line(f"{_indent(depth)}{part}")
        self._around = tuple(around)
        time = f" ({milliseconds(tested.duration * 1000)})" if tested.duration >= _SLOW else ""
        marked_line(_indent(len(around)), tested.reason is None, f"{name}{time}")
        if tested.reason is not None:
            self._print_failure(tested, _indent(len(around) + 2))

    def _print_failure(self, tested: Tested, indent: str) -> None:
        indented(tested.reason or "", indent)
        if tested.output:
            line(f"{indent}printed:")
            indented(tested.output, f"{indent}  ")

    def refused(self, reason: HookEventProcessorError) -> None:
        """The file that was begun cannot be run."""
        self.failed += 1
        self._files[-1]["error"] = str(reason)
        if not self._silent:
            self._announce()
            marked_line(_indent(0), False, str(reason))

    def finish(self) -> None:
        """Print the count, or the document."""
        duration = (perf_counter() - self._started) * 1000
        if self._silent:
            counts = {"passed": self.passed, "failed": self.failed, "duration_ms": round(duration, 3)}
            document({**counts, "files": self._files})
            return
        if not self._quiet:
            line()
        said = [f"{self.passed:,} passed"] + ([f"{self.failed:,} failed"] if self.failed else [])
        line(f"{', '.join(said)} of {counted(self.passed + self.failed, 'test')} in {milliseconds(duration)}")


def _indent(depth: int) -> str:
    return "  " * (depth + 1)
