"""A JSON Schema from a file, checked."""

from __future__ import annotations

import sys
from typing import Any

from hook_event_processor.errors import EventRefused, TypeRefused

_MOST_BYTES = 1024 * 1024  # with its spaces; what is left without them is bounded further


def read_schema(file: str) -> dict[str, Any]:
    """The schema in the file; - reads standard input. Raises TypeRefused naming the file and what is wrong."""
    from hook_event_processor.cli.event_lines import json_object
    from hook_event_processor.payload_schema import PayloadSchema

    text = _read(file)
    try:
        schema = json_object("it", text)
        if "\\u0000" in text.decode():
            raise TypeRefused("it holds a NUL character (\\u0000), which PostgreSQL cannot store")
        PayloadSchema(schema)
    except (EventRefused, TypeRefused) as refusal:
        raise TypeRefused(f"{'standard input' if file == '-' else file}: {refusal}") from None
    return schema


def _read(file: str) -> bytes:
    try:
        if file == "-":
            text = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                text = opened.read(_MOST_BYTES + 1)
    except OSError as fault:
        raise TypeRefused(f"{file} cannot be read: {fault.strerror}") from None
    if len(text) > _MOST_BYTES:
        raise TypeRefused(f"{file} is no JSON Schema: it has more than {_MOST_BYTES:,} bytes")
    return text
