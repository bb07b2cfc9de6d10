"""JSON as text of a bounded length: a number of few bytes may be written in very many digits."""

from __future__ import annotations


def bounded(column: str, most_bytes: str) -> str:
    """SQL for the text of a jsonb column; NULL where it could be far longer than `most_bytes`, which is SQL, too.

    1e131071 takes 16 bytes of a jsonb, and 131,072 of its text. Each number
    counts here for no more characters than it has, and for a 450th at the least.
    """
    numbers = f"jsonb_path_query({column}, 'strict $.** ? (@.type() == \"number\")')::numeric"
    length = "sum(scale(number) + CASE WHEN abs(number) < 1e300 THEN 1 ELSE 300 END)"
    return f"""CASE WHEN pg_column_size({column}) <= {most_bytes}
        AND coalesce((SELECT {length} FROM (SELECT {numbers} AS number) AS n), 0) <= {most_bytes}
        THEN {column}::text END"""
