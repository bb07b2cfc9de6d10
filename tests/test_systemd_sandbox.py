"""The tests of exec and of what watchers look at, run anew within the sandboxes of the shipped units."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest
from box import Box
from sandboxed import SECONDS, run_within
from shop import installed

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(SECONDS + 100),
]


@pytest.fixture(scope="module")
def with_units(box: Box) -> Iterator[Box]:
    with installed(box, "all"):
        yield box


# Those of services make a box of their own.
_WATCHERS = (
    *("changes", "daemon", "far", "files", "last_look", "log", "network"),
    *("others", "port", "process", "spool", "standing", "system"),
)


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("hook-event-processor.service", ["module_exec"]),
        ("hook-watcher.service", [f"watch_{of}" for of in _WATCHERS]),
    ],
)
def test_in_the_sandbox_of(with_units: Box, unit: str, names: Sequence[str]) -> None:
    files = " ".join(f"tests/test_{name}.py" for name in names)
    said = run_within(
        with_units, unit, f"-m pytest -q -p no:cacheprovider --basetemp=%S/hook-event-processor/tests {files}"
    )
    print(said)
