"""JSON as text of a bounded length: a number of few bytes may be written in very many digits."""

from __future__ import annotations

# Nobody reads more levels, and at some 10,000 a path is too much for the server's own stack.
_DEEPER = "strict $.**{1025}"
_NUMBERS = 'strict $.**{0 to 1024} ? (@.type() == "number")'


def bounded(column: str, most_bytes: str) -> str:
    """SQL for the text of a jsonb column; NULL where it could be far longer than `most_bytes`, which is SQL, too.

    1e131071 takes 16 bytes of a jsonb, and 131,072 of its text. Each number
    counts here for no more characters than it has, and for a 450th at the least.
    What has more than 1,024 levels is NULL as well.
    """
    numbers = f"jsonb_path_query({column}, '{_NUMBERS}')::numeric"
    length = "sum(scale(number) + CASE WHEN abs(number) < 1e300 THEN 1 ELSE 300 END)"
    return f"""CASE WHEN pg_column_size({column}) <= {most_bytes} AND NOT jsonb_path_exists({column}, '{_DEEPER}')
        AND coalesce((SELECT {length} FROM (SELECT {numbers} AS number) AS n), 0) <= {most_bytes}
        THEN {column}::text END"""


def short(text: str, most_bytes: int) -> str:
    """SQL for `text`, which is SQL and made once; NULL where it has more bytes: what is stored may be compressed."""
    made = f"(SELECT {text} OFFSET 0) AS made (text)"
    return f"(SELECT CASE WHEN octet_length(text) <= {most_bytes} THEN text END FROM {made})"
