"""`hep hook new`: every starter is a hook without slips whose tests pass as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Hep

from hook_event_processor.workshop.starters import Starter, starters


@pytest.mark.parametrize("starter", starters(), ids=lambda starter: starter.name)
def test_a_starter_passes_its_check_and_its_spec(offline_hep: Hep, starter: Starter) -> None:
    offline_hep("hook", "new", "my-hook_1", "--template", starter.name)
    assert offline_hep("hook", "check", "--strict", ".") == "no complaints in 2 files\n"
    report = offline_hep.document("hook", "spec", "--format", "json")
    assert report["failed"] == 0
    assert report["passed"] >= 2
    assert "__NAME__" not in Path("my-hook_1.lua").read_text() + Path("my-hook_1_spec.lua").read_text()


def test_the_list_has_a_line_for_each(offline_hep: Hep) -> None:
    listed = offline_hep("hook", "templates").splitlines()
    assert [line.split()[0] for line in listed[1:]] == [starter.name for starter in starters()]
    assert all(line.endswith(".") for line in listed[1:])
    asked_for = {"slack", "http-check", "autoscale", "deploy", "guard", "rate", "notify"}
    assert asked_for <= {entry["name"] for entry in offline_hep.document("hook", "templates", "--format", "json")}


def test_what_comes_next_is_said(offline_hep: Hep) -> None:
    assert offline_hep("hook", "new", "greet", "--dir", "hooks/mine") == (
        "written: hooks/mine/greet.lua and its tests, hooks/mine/greet_spec.lua\n"
        "Next: hep hook spec hooks/mine/greet.lua; hep hook check hooks/mine/greet.lua;"
        " hep hook test hooks/mine/greet.lua; hep hook add hooks/mine/greet.lua\n"
    )


@pytest.mark.parametrize("there", ["greet.lua", "greet_spec.lua"])
def test_a_file_that_is_there_stays_and_nothing_is_written(offline_hep: Hep, there: str) -> None:
    Path(there).write_text("mine")
    assert offline_hep.fault("hook", "new", "greet") == (
        f"hep: {there} is there already: choose another name, or another --dir"
    )
    assert [path.name for path in Path().glob("*.lua")] == [there]
    assert Path(there).read_text() == "mine"


@pytest.mark.parametrize("name", ["../greet", "greet.lua", "greet_spec", "", "a b", ".hidden", "a/b"])
def test_a_name_is_that_of_a_file_here(offline_hep: Hep, name: str) -> None:
    finished = offline_hep.run("hook", "new", name)
    assert (finished.status, "is no name for a hook's file" in finished.fault) == (2, True)


def test_an_unknown_template_is_told_with_the_nearest(offline_hep: Hep) -> None:
    finished = offline_hep.run("hook", "new", "x", "--template", "slak")
    assert (finished.status, finished.fault) == (2, "hep: there is no template 'slak'; did you mean slack?")
