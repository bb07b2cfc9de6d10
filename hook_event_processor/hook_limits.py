"""What a hook may have: commands refuse what is beyond it, and processors leave out a row that is (sql/0027, too)."""

from __future__ import annotations

NAME_CHARACTERS = 200
STACK_CHARACTERS = 1_000
TEXT_BYTES = 256 * 1024  # a library's, too
EVENT_TYPES_BYTES = 256 * 1024  # of all patterns together, as PostgreSQL writes an array
TIMEOUT_SECONDS = (0.01, 3_600.0)
LONGEST_DELAY = 86_400.0  # seconds between two attempts
