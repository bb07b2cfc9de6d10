"""What `hep doctor` finds on a test's database, and the commands that it prints, run as they are printed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from commands import Finished, Hep
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer, psql_program

Finding = Mapping[str, Any]


class Clinic:
    """`hep doctor` on a database of a server."""

    def __init__(self, hep: Hep, database: Database, server: EmbeddedServer) -> None:
        self._hep = hep
        self.database = database
        self._administration = server.administration
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{psql_program().parent}:{os.environ['PATH']}",
            "DATABASE_URL": database.conninfo,
            # For those commands that take somebody who may do more: they name the server themselves.
            "PGUSER": str(conninfo_to_dict(server.administration)["user"]),
        }

    def document(self, *arguments: str) -> Any:
        """What `hep doctor` says as JSON; its exit status must agree."""
        finished = self.run(*arguments)
        assert finished.errors == ""
        document = json.loads(finished.output)
        assert finished.status == (0 if document["ok"] else 1)
        return document

    def run(self, *arguments: str) -> Finished:
        """What `hep doctor` prints as JSON, and on standard error."""
        return self._hep.run("doctor", *arguments, "--format", "json")

    def findings(self, area: str, kind: str = "") -> list[Finding]:
        """What is found in an area, of one kind or of all."""
        return [one for one in self.document(area)["findings"] if kind in ("", one["kind"])]

    def only(self, area: str, kind: str) -> Finding:
        """The finding of that kind; there must be one."""
        [found] = self.findings(area, kind)
        assert found["meaning"]
        assert found["mend"]
        return found

    def mend(self, finding: Finding, command: int = 0) -> None:
        """Run one of the commands that the finding prints: in a shell, but `hep` in this process, which is faster."""
        line = finding["mend"][command]
        words = shlex.split(line, comments=True)
        if words[0] == "hep" and not {"&&", "|"} & set(words):
            with patch("os.execve", _run):  # what becomes psql
                finished = self._hep.run(*words[1:])
            assert finished.status == 0, finished
        else:
            _run("bash", ["bash", "-euo", "pipefail", "-c", line], self._environment)

    def mends(self, area: str, kind: str, command: int = 0) -> Finding:
        """What is found is mended by the command that is printed, and gone; returns what it was."""
        found = self.only(area, kind)
        self.mend(found, command)
        assert self.findings(area, kind) == []
        return found

    def fixes(self, area: str, kind: str) -> Finding:
        """What is found is mended by --fix, and gone; returns what it was."""
        found = self.only(area, kind)
        assert found["fixable"]
        fixed = self.document(area, "--fix")
        assert [one for one in fixed["fixed"] if one["kind"] == kind and one["done"]]
        assert [one for one in fixed["findings"] if one["kind"] == kind] == []
        return found

    def administer(self, statement: str) -> None:
        """Run a statement as the superuser, on the database."""
        with self.as_superuser() as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def as_superuser(self) -> Connection:
        """A session of the superuser's on the database, in autocommit."""
        name = conninfo_to_dict(self.database.conninfo)["dbname"]
        return psycopg.connect(make_conninfo(self._administration, dbname=name), autocommit=True)


def _run(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    subprocess.run([program, *arguments[1:]], env=environment, timeout=60, check=True)
    if program.endswith("psql"):
        raise SystemExit(0)
