"""A shell of root's that changes the machine for a test: its own, or one outside of the sandbox that it runs in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

# Where sandboxed.py has a shell listen while it runs tests.
SOCKET = Path("/run/root-shell.socket")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ and not SOCKET.exists(),
    reason="it changes the machine: run as root, or by tests/test_systemd_sandbox.py",
)
# Units of a test's own are for a machine that is thrown away.
needs_box = pytest.mark.skipif(
    not SOCKET.exists(), reason="it needs a systemd of its own: run by tests/test_systemd_sandbox.py"
)


def as_root(script: str) -> str:
    """What a script prints; it fails with its first command that does."""
    if SOCKET.exists():
        status, printed, complaint = _ask(script)
    else:
        done = subprocess.run(["bash", "-eu"], input=script, capture_output=True, text=True, timeout=100, check=False)
        status, printed, complaint = done.returncode, done.stdout, done.stderr
    assert status == 0, f"{script}: {printed}{complaint}"
    return printed


def _ask(script: str) -> tuple[int, str, str]:
    with socket.socket(socket.AF_UNIX) as shell:
        shell.connect(str(SOCKET))
        shell.sendall(script.encode())
        shell.shutdown(socket.SHUT_WR)
        with shell.makefile() as answer:
            status, printed, complaint = json.load(answer)
    return status, printed, complaint
