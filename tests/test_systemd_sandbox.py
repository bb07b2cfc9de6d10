"""The tests of exec and of watchers, run anew within the sandboxes of the shipped units: none is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from box import REPOSITORY, Box
from sandboxed import SECONDS, run_within
from shop import installed

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(SECONDS + 100),
]
# All of what runs programs for hooks, and threads that give way.
_EXEC = "tests/test_module_exec.py tests/test_poison.py tests/test_seed_hooks.py tests/test_pool.py"
_WATCHERS = " ".join(sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("tests/test_watch_*.py")))
_UNREADABLE = (
    "tests/test_watch_changes.py::test_a_directory_that_cannot_be_watched_is_said_and_tried_again",
    "tests/test_watch_files.py::test_what_becomes_unreadable_is_not_gone",
)
# As watcher-system.conf says where nothing of others' is watched.
_LESS = "CapabilityBoundingSet=\nAmbientCapabilities=\n"


@pytest.fixture(scope="module")
def with_units(box: Box) -> Iterator[Box]:
    with installed(box, "all"):
        yield box


@pytest.mark.parametrize(
    ("unit", "what", "more"),
    [
        ("hook-event-processor.service", _EXEC, ""),
        # With its capabilities nothing is unreadable.
        ("hook-watcher.service", " ".join((_WATCHERS, *(f"--deselect={test}" for test in _UNREADABLE))), ""),
        ("hook-watcher.service", " ".join(("tests/test_watch_service.py", *_UNREADABLE)), _LESS),
    ],
    ids=["processor", "watchers", "watchers without capabilities"],
)
def test_in_the_sandbox_of(with_units: Box, unit: str, what: str, more: str) -> None:
    said = run_within(with_units, unit, what, more)
    print(said)
    # What a test needs that is skipped for want of it elsewhere, it finds here: the reasons name this file.
    assert "test_systemd_sandbox" not in said
