"""docs/watchers.md: tables that say what the types say of themselves, commands that work, a hook that does its part."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from chunks import event, runtime
from commands import Hep
from pages import ROOT, Block, blocks
from shell import Shell

from hook_event_processor import catalog
from hook_event_processor.event import OWN_TYPES
from hook_event_processor.lua.loader import program
from hook_event_processor.store.database import Database
from hook_event_processor.watchers import kinds

PAGE = ROOT / "docs/watchers.md"
BLOCKS = blocks(PAGE)


def rows(title: str) -> list[list[str]]:
    """The cells of the tables below a title."""
    text = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_of_types_has_each_with_its_options() -> None:
    listed = {row[0]: row[1:] for row in rows("Types")}
    for name in kinds.NAMES:
        kind = kinds.kind(name)
        flags = {
            option: f"**--{option.replace('_', '-')}**" if spec.required else f"--{option.replace('_', '-')}"
            for option, spec in kind.options.items()
        }
        assert listed[name] == [kind.summary, f"{kind.interval:g}s", ", ".join(flags.values())]


def test_the_table_of_events_has_each_with_its_conditions() -> None:
    listed = {(row[0], row[1]): row[2] for row in rows("Events") if len(row) == 4}
    told = {}
    for name in kinds.NAMES:
        conditions = kinds.kind(name).conditions
        for event_type in {event_type for types in conditions.values() for event_type in types}:
            standing = [condition for condition, types in conditions.items() if event_type in types]
            told[name, event_type] = ", ".join(standing)
    del listed["type", "event"]
    assert listed == told


def test_own_events_are_listed_and_known() -> None:
    listed = {name for row in rows("What the product tells of itself") for name in row[0].split(", ")} - {"event"}
    handled = {"schedule.missed", "health.check_failed", "health.degraded", "health.recovered", "system.error"}
    assert listed == OWN_TYPES | handled
    hosts = {name for row in rows("Hosts") for name in row[0].split(", ")} - {"event"}
    assert listed | hosts <= catalog.known(None).keys()


def test_the_commands_work_in_their_order(hep: Hep, database: Database, tmp_path: Path) -> None:
    shell = Shell(hep, database, tmp_path)
    for block in BLOCKS:
        if block.language == "bash":
            shell.run(block.text)
    listed = hep.document("watcher", "list", "--all", "--format", "json")
    created = sum(block.text.count("hep watcher create") for block in BLOCKS if block.language == "bash")
    assert len(listed) == created
    assert all(watcher["status"] == "active" for watcher in listed)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.is_hook], ids=lambda block: block.file)
def test_the_hook_comes_to_what_it_says(block: Block) -> None:
    for event_type, data, _, outcome in block.runs:
        source, _, action = event_type.partition(".")
        row = event(data, source=source, action=action)
        result = runtime().run(program(block.text, "hook"), 5.0, [row], threading.Event())
        assert (result.outputs, result.errors) == ([outcome.encode()], [None])
