"""What runs within the sandbox of one of the shipped units, in its service's place."""

from __future__ import annotations

import sys
from pathlib import Path

from box import REPOSITORY, Box

# The checkout, which may lie where the service's account has no way to.
THERE = "/checkout"
SECONDS = 500  # that it may take
_STATE = "/var/lib/hook-event-processor"
# All else of the unit holds, but for the share of the processors: the tests' own bounds of time are for a whole one.
# Tests that have a PostgreSQL of their own have its socket in /tmp; setpriv, which starts it, sets its capabilities.
_DROP_IN = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
TimeoutStartSec={seconds}
CPUQuota=
ExecStart=
ExecStart={there}/{python} {arguments}
BindReadOnlyPaths={checkout}:{there}
ReadWritePaths=/tmp
SystemCallFilter=capset
WorkingDirectory={there}
Environment=PYTHONDONTWRITEBYTECODE=1 TMPDIR={state}
"""


def run_within(box: Box, unit: str, arguments: str) -> str:
    """What Python writes that runs with these arguments, in the checkout, instead of the unit's program."""
    drop_in = f"/etc/systemd/system/{unit}.d/tests.conf"
    python = Path(sys.prefix, "bin/python").relative_to(REPOSITORY)
    values = {"there": THERE, "checkout": REPOSITORY, "python": python, "state": _STATE, "seconds": SECONDS}
    box.write(drop_in, _DROP_IN.format(arguments=arguments, **values))
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "stop", unit)
    with box.popen("systemctl", "start", unit) as starting:
        status = starting.wait(SECONDS)
    said = "\n".join(box.messages(f"_SYSTEMD_UNIT={unit}"))
    box.run("rm", drop_in)
    box.run("systemctl", "daemon-reload")
    assert status == 0, said
    return said
