"""The ledger of effects: what an HTTP server and files have seen of hooks' runs, and from which processor."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "effects"  # in the directory of each start of a processor


@dataclass(frozen=True, slots=True)
class Effect:
    """A run of an event's effectful hook that somebody outside has seen begin."""

    label: str  # which start of which processor ran it
    began_at: float  # Unix time


class Effects:
    """Effects by event number. Safe for several threads."""

    def __init__(self, ledger: Path, directory: Path) -> None:
        """`ledger` gets a line for each effect; below `directory` processors write those of their file hooks."""
        self._file = ledger.open("a", encoding="ascii")
        self._directory = directory
        self._lock = threading.Lock()
        self._begun: dict[int, list[Effect]] = defaultdict(list)
        self._ended: dict[int, int] = defaultdict(int)
        self._offsets: dict[Path, int] = {}

    def begun(self, number: int, label: str, at: float | None = None) -> None:
        effect = Effect(label, time.time() if at is None else at)
        with self._lock:
            self._begun[number].append(effect)
            self._file.write(f"begun {number} {label} {effect.began_at:.3f}\n")

    def ended(self, number: int, label: str) -> None:
        with self._lock:
            self._ended[number] += 1
            self._file.write(f"ended {number} {label}\n")

    def root(self, label: str) -> Path:
        """A directory for the file hooks of one start of a processor."""
        root = self._directory / label
        root.mkdir(parents=True)
        return root

    def collect(self) -> None:
        """Take over what file hooks have written since the last time."""
        for path in self._directory.glob(f"*/{FILE_NAME}"):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                lines = file.read()
            complete = lines[: lines.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(complete)
            for line in complete.decode("ascii").splitlines():
                word, number, at = line.split()
                if word == "begun":
                    self.begun(int(number), path.parent.name, float(at))
                else:
                    self.ended(int(number), path.parent.name)

    def runs(self) -> Mapping[int, Sequence[Effect]]:
        """Every effect that began, by the number of its event."""
        with self._lock:
            return {number: list(effects) for number, effects in self._begun.items()}

    def since(self, at: float) -> Iterator[tuple[int, Effect]]:
        """Effects that began after this time."""
        for number, effects in self.runs().items():
            for effect in effects:
                if effect.began_at >= at:
                    yield number, effect

    def forget(self) -> None:
        """All so far is accounted for."""
        self.collect()
        with self._lock:
            self._begun.clear()
            self._ended.clear()

    def close(self) -> None:
        self._file.close()
