"""What passes between the processor and a cell: a run to do, and what came of it."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hook_event_processor.event import OUTCOMES, outcome_of
from hook_event_processor.lua.program import Program
from hook_event_processor.policy import Policy
from hook_event_processor.run import ChunkResult, Dispatched, storable

BEGUN = b"b"  # the cell has read the request: what kills it from now on is this run
MAX_ANSWER = 256 * 1024 * 1024
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Request:
    """One run of one hook; `program` is None for a Python handler, which the cell knows by the hook's name."""

    hook_id: int
    hook_name: str
    version: int
    timeout: float
    program: Program | None
    row: tuple[Any, ...]
    policy: Policy


def send(stream: socket.socket, data: bytes) -> None:
    """Send one message."""
    stream.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def receive(stream: socket.socket) -> bytes | None:
    """Wait for one message; None when the other side is no more, or talks nonsense."""
    head = _exactly(stream, _LENGTH_BYTES)
    length = int.from_bytes(head or b"", "big")
    return _exactly(stream, length) if head is not None and length <= MAX_ANSWER else None


def _exactly(stream: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        try:
            block = stream.recv(min(count - len(data), 1024 * 1024))
        except ConnectionResetError:
            return None
        if not block:
            return None
        data += block
    return bytes(data)


def pack_request(request: Request) -> bytes:
    return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)


def unpack_request(data: bytes) -> Request:
    """What the processor has packed; never what a cell has."""
    request = pickle.loads(data)  # noqa: S301 - from the process that made this one
    assert isinstance(request, Request)  # noqa: S101 - it packs nothing else
    return request


def pack_result(result: ChunkResult) -> bytes:
    """The result of one run. JSON, since the cell that packs it may be out of its mind."""
    dispatched = [
        [item.type, _text(item.data), item.stack, item.priority, item.delay, item.id]
        for item in result.dispatched.get(0, ())
    ]
    return orjson.dumps(
        {
            "code": result.codes[0],
            "duration": result.durations[0],
            "output": _text(result.outputs[0]),
            "error": _text(result.errors[0]),
            "dispatched": dispatched,
            "accessed": sorted(result.accessed),
        }
    )


def unpack_result(data: bytes) -> ChunkResult:
    """The result of one run. Raises ValueError when it is none."""
    try:
        return _result(orjson.loads(data))
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeEncodeError) as fault:
        raise ValueError(f"not a result: {fault!r}") from None


def _result(answer: Mapping[str, Any]) -> ChunkResult:
    code = answer["code"]
    if outcome_of(code) not in OUTCOMES or not code >= ord("a"):
        raise ValueError(f"no outcome has the code {code}")
    error = _bytes(answer["error"])
    result = ChunkResult(
        bytes([code]), [float(answer["duration"])], [_bytes(answer["output"])], [storable(error) if error else None]
    )
    if answer["dispatched"]:
        result.dispatched[0] = [_dispatched(*item) for item in answer["dispatched"]]
    result.accessed = frozenset(map(str, answer["accessed"]))
    return result


def _dispatched(event_type: str, data: str, *rest: Any) -> Dispatched:
    stack, priority, delay, event_id = rest
    return Dispatched(event_type, data.encode("latin-1"), stack, priority, delay, event_id)


def _text(data: bytes | None) -> str | None:
    # Bytes of any kind, one character each.
    return None if data is None else data.decode("latin-1")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")


def first(rows: Sequence[Any]) -> tuple[Any, ...]:
    """The row of a chunk of one, as a plain tuple."""
    return tuple(rows[0])
