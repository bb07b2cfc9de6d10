"""The processor with clocks in it: what each of its parts takes of the CPU. Writes them to a file as it ends."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import process_time, thread_time
from typing import Any

from hook_event_processor.cli import main
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.processor.lane import Lane
from hook_event_processor.processor.recording import Recorder
from hook_event_processor.store.claim import Claims

# A round is all of a lane's but the hooks, which have threads of their own.
PARTS = {
    "claim": (Claims, "take"),
    "sort": (Lane, "_sort"),
    "record": (Recorder, "commit"),
    "tell": (Lane, "_tell"),
    "round": (Lane, "_round"),
    "hooks": (HookRunner, "__call__"),
}


class Clocks:
    """Seconds of CPU by part, and of the whole process from the first round to the last that did something."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)  # appended to by all threads
        self._began: float | None = None
        self._ended = 0.0

    def put_into(self, part: str, holder: type, name: str) -> None:
        """Time this method from now on."""
        setattr(holder, name, self._timed(part, getattr(holder, name)))

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            if part == "round" and self._began is None:
                self._began = process_time()
            began = thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._seconds[part].append(thread_time() - began)
                if part == "tell":
                    self._ended = process_time()

        return timed

    def result(self) -> dict[str, float]:
        sums = {part: sum(seconds) for part, seconds in self._seconds.items()}
        return {**sums, "process": self._ended - (self._began or 0.0)}


if __name__ == "__main__":
    clocks = Clocks()
    for part, (holder, name) in PARTS.items():
        clocks.put_into(part, holder, name)
    try:
        status = main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_text(json.dumps(clocks.result()))
    sys.exit(status)
