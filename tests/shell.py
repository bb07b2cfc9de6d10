"""Runs a page's commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from commands import Hep

from hook_event_processor.store.database import Database


def bash(script: str, environment: Mapping[str, str], folder: Path) -> str:
    """What the script prints, run in that folder; it must succeed."""
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, f"{script}\n{finished.stdout}{finished.stderr}"
    return finished.stdout


class Shell:
    """Runs a block's commands as bash would; `hep` alone in this process, which is faster."""

    def __init__(self, hep: Hep, database: Database, folder: Path) -> None:
        self._hep = hep
        self._folder = folder
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": database.conninfo,
            "HEP_HOME": str(folder),
            "HOME": str(folder),
        }

    def run(self, commands: str) -> str:
        """What they print; each must succeed."""
        return "".join(self._line(line) for line in commands.splitlines())

    def _line(self, line: str) -> str:
        words = shlex.split(line, comments=True)
        if words[:1] == ["hep"] and not {"|", "<", ">", "$"} & set(line):
            return self._hep(*words[1:])
        return bash(line, self._environment, self._folder)
