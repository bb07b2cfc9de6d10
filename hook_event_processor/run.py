"""The run of a hook: what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hook_event_processor.event import Outcome, code_of

_MAX_ERROR_BYTES = 16 * 1024
_MEMORY = code_of(Outcome.MEMORY)


def storable(error: bytes) -> bytes:
    """An error as PostgreSQL can store it: valid UTF-8 without NUL, of bounded length."""
    if len(error) > _MAX_ERROR_BYTES:
        error = error[:_MAX_ERROR_BYTES] + b"\n[error cut]"
    return error.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}").encode()


@dataclass(frozen=True, slots=True)
class Dispatched:
    """An event that a run dispatched: `data` is JSON text, `delay` in seconds."""

    type: str
    data: bytes
    stack: str | None = None
    priority: int | None = None
    delay: float | None = None
    id: str | None = None


@dataclass(slots=True)
class ChunkResult:
    """What came of a chunk, one entry an event: outcome codes (event.OUTCOMES), durations in seconds, UTF-8 texts.

    Shorter than the chunk when memory ran out: the last entry is then the
    run that took it, and the runtime is not to be used again.
    """

    codes: bytes
    durations: list[float]
    outputs: list[bytes | None]
    errors: list[bytes | None]
    dispatched: dict[int, list[Dispatched]] = field(default_factory=dict)
    accessed: frozenset[str] = frozenset()  # names of secrets that were handed out, to whichever of the events

    @classmethod
    def refused(cls, outcome: Outcome, reason: str, count: int) -> ChunkResult:
        """Nothing ran, for the same reason for each of `count` events."""
        codes = bytes([code_of(outcome)]) * count
        return cls(codes, [0.0] * count, [None] * count, [storable(reason.encode())] * count)

    @classmethod
    def joined(cls, results: Sequence[ChunkResult]) -> ChunkResult:
        """The results of consecutive parts of a chunk as one."""
        whole = cls(b"", [], [], [])
        for part in results:
            for index, dispatched in part.dispatched.items():
                whole.dispatched[len(whole.codes) + index] = dispatched
            whole.accessed |= part.accessed
            whole.codes += part.codes
            whole.durations += part.durations
            whole.outputs += part.outputs
            whole.errors += part.errors
        return whole

    @property
    def out_of_memory(self) -> bool:
        return _MEMORY in self.codes
