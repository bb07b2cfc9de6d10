"""The table of attacks and defences is that of ops/mutate, and each defence stands where it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(_ROOT / "ops" / "attacks"))

import mutate  # noqa: E402 - a script beside the product, found by the line above


@pytest.mark.parametrize("defence", mutate.DEFENCES, ids=lambda defence: defence.attack)
def test_a_defence_stands_where_the_table_says(defence: mutate.Defence) -> None:
    assert list(mutate.mutated(_ROOT / "hook_event_processor", defence))
    name, _, function = defence.where.partition(":")
    text = (_ROOT / "hook_event_processor/lua" / name).read_text()
    defined = rf"(def|function|local)\s(\w+\.)?{function}\b|\b{function}\s=|\"{function}\", function"
    assert re.search(defined, text), defence.where


def test_the_page_has_a_row_for_each_defence() -> None:
    table = mutate.PAGE.read_text().partition(mutate.BEGIN)[2].partition(mutate.END)[0]
    rows = table.splitlines()[2:]
    expected = [mutate.fixed_cells(defence) for defence in mutate.DEFENCES]
    assert [row for row, cells in zip(rows, expected, strict=True) if not row.startswith(cells)] == []


def test_each_attack_has_one_row() -> None:
    attacks = [defence.attack for defence in mutate.DEFENCES]
    assert len(set(attacks)) == len(attacks)
