"""Two versions of the program at once."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from hook_event_processor.store.migrate import migrate
from ops.chaos.context import Context
from ops.chaos.scenario import Scenario

_CHECKOUT = Path(__file__).parents[3]
_EX_CONFIG = 78


class Versions(Scenario):
    name = "versions"
    about = "the program before the last migration and this one at once: migrated under load, replaced one by one"
    seconds = 25.0

    def migrate(self, context: Context) -> None:
        """The older program makes the schema."""
        # What stood before the last migration; others of sql/ change without one.
        latest = _git("log", "-1", "--diff-filter=AR", "--format=%H", "--", "sql/[0-9]*.sql").strip()
        revision = _git("rev-parse", f"{latest}^").strip()
        self._old = context.place / "old"
        _unpack(revision, self._old)
        context.note(f"the older program is {revision[:10]}")
        subprocess.run(
            [sys.executable, "-m", "hook_event_processor", "db", "migrate"],
            env={"PYTHONPATH": str(self._old), "DATABASE_URL": context.server.for_auditor, "PATH": "/usr/bin:/bin"},
            cwd=context.place,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def prepare(self, context: Context) -> None:
        for processor in context.processors:
            processor.extra_environment["PYTHONPATH"] = str(self._old)

    def during(self, context: Context) -> None:
        pause = context.seconds / 5
        with context.blow("migrated under load"), context.database() as connection:
            applied = migrate(connection)
        context.note(f"applied under load: {applied}")
        context.sleep(pause)
        for processor in context.processors:
            with context.blow(f"{processor.name} replaced by this version", processor):
                processor.terminate()
            del processor.extra_environment["PYTHONPATH"]
            processor.start()
            context.mended()
            context.sleep(pause)
        last = context.processors[-1]
        with context.blow(f"{last.name} put back to the older version, which must refuse", last):
            last.terminate()
        last.extra_environment["PYTHONPATH"] = str(self._old)
        last.start()
        try:
            status = last.wait(30)
            context.note(f"the older program says: {last.log.strip().splitlines()[-1]}")
        except subprocess.TimeoutExpired:
            status = last.terminate()
        if status != _EX_CONFIG:
            context.find(f"the older program ended with status {status} on a newer schema, not with {_EX_CONFIG}")
        del last.extra_environment["PYTHONPATH"]
        last.start()
        context.mended()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_CHECKOUT, check=True, capture_output=True, text=True).stdout


def _unpack(revision: str, folder: Path) -> None:
    """The package of an older revision, as PYTHONPATH takes it."""
    archive = subprocess.run(["git", "archive", revision], cwd=_CHECKOUT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder)  # our own archive
    described = tomllib.loads((folder / "pyproject.toml").read_text())
    for package, directory in described["tool"]["setuptools"]["package-dir"].items():
        (folder / package.replace(".", "/")).symlink_to(folder / directory)
