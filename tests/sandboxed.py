"""What runs within the sandbox of one of the shipped units, in its service's place, with a shell of root's outside."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from box import REPOSITORY, Box
from root_shell import SOCKET

# The checkout, which may lie where the service's account has no way to.
_THERE = "/checkout"
SECONDS = 500  # that it may take
# All else of the unit holds, but for the share of the processors: the tests' own bounds of time are for a whole one.
# Tests that have a PostgreSQL of their own have its socket in /tmp; setpriv, which starts it, sets its capabilities.
# Their files are on a disk of the host's, which gives inodes away again, as the box's own file system does not.
_DROP_IN = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
TimeoutStartSec={seconds}
CPUQuota=
StandardOutput=truncate:{files}/said
ExecStart=
ExecStart={there}/{python} -m pytest -q -p no:cacheprovider --basetemp={files}/tests {arguments}
BindReadOnlyPaths={checkout}:{there}
ReadWritePaths=/tmp {files}
SystemCallFilter=capset
WorkingDirectory={there}
Environment=PYTHONDONTWRITEBYTECODE=1 TMPDIR={files}
"""


def run_within(box: Box, unit: str, arguments: str, more: str = "") -> str:
    """What pytest writes that runs with these arguments, in the checkout, instead of the unit's program.

    `more` are the lines of a drop-in of somebody's own.
    """
    drop_in = f"/etc/systemd/system/{unit}.d/tests.conf"
    python = Path(sys.prefix, "bin/python").relative_to(REPOSITORY)
    files = box.shared / unit
    box.run("install", "-d", "-o", "hep", str(files))
    values = {"there": _THERE, "checkout": REPOSITORY, "python": python, "files": files, "seconds": SECONDS}
    box.write(drop_in, _DROP_IN.format(arguments=arguments, **values) + more)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "stop", unit)
    with _shell_of_root(box), box.popen("systemctl", "start", unit) as starting:
        status = starting.wait(SECONDS)
    said = (files / "said").read_text()
    box.run("rm", "-r", drop_in, str(files))
    box.run("systemctl", "daemon-reload")
    assert status == 0, said
    return said


@contextmanager
def _shell_of_root(box: Box) -> Iterator[None]:
    """Runs what root_shell.as_root() sends: in the box, but with the host's root's power over the network, too."""

    class Shell(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            done = box.finished("bash", "-eu", text=self.rfile.read().decode())
            self.wfile.write(json.dumps([done.returncode, done.stdout, done.stderr]).encode())

    path = box.inside(str(SOCKET))
    with socketserver.ThreadingUnixStreamServer(str(path), Shell) as server:
        path.chmod(0o666)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            path.unlink()
