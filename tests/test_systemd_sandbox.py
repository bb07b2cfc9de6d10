"""The tests of exec and of what watchers look at, run anew within the sandboxes of the shipped units."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from box import REPOSITORY, Box
from shop import installed

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(600),
    pytest.mark.alone,  # as some of what it runs is
]

# The checkout, which may lie where the service's account has no way to.
THERE = "/checkout"
# In place of the service; all else of the unit, and of what `hep install` adds to it, holds, but for the share of the
# processors: the tests' own bounds of time are for a whole one.
DROP_IN = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
TimeoutStartSec=500
CPUQuota=
ExecStart=
ExecStart={there}/{python} -m pytest -q -p no:cacheprovider --basetemp=%S/hook-event-processor/tests {files}
BindReadOnlyPaths={checkout}:{there}
WorkingDirectory={there}
Environment=PYTHONDONTWRITEBYTECODE=1 TMPDIR=%S/hook-event-processor
"""


@pytest.fixture(scope="module")
def with_units(box: Box) -> Iterator[Box]:
    with installed(box, "all"):
        yield box


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("hook-event-processor.service", ["module_exec"]),
        (
            "hook-watcher.service",
            [f"watch_{of}" for of in ("files", "log", "network", "others", "port", "process", "system")],
        ),
    ],
)
def test_in_the_sandbox_of(with_units: Box, unit: str, names: Sequence[str]) -> None:
    files = " ".join(f"tests/test_{name}.py" for name in names)
    drop_in = f"/etc/systemd/system/{unit}.d/tests.conf"
    python = Path(sys.prefix, "bin/python").relative_to(REPOSITORY)
    with_units.write(drop_in, DROP_IN.format(python=python, checkout=REPOSITORY, there=THERE, files=files))
    with_units.run("systemctl", "daemon-reload")
    with_units.run("systemctl", "stop", unit)
    status = with_units.status("systemctl", "start", unit)
    said = "\n".join(with_units.messages(f"_SYSTEMD_UNIT={unit}"))
    with_units.run("rm", drop_in)
    with_units.run("systemctl", "daemon-reload")
    print(said)
    assert status == 0, said
