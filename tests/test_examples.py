"""What the pages show: links that lead somewhere, hooks that can be added, a one-liner that works."""

from __future__ import annotations

import gzip
import os
import re
import sys
from pathlib import Path

import pytest
from psycopg import Connection
from shell import bash

from hook_event_processor.lua.loader import read_definition
from hook_event_processor.store.database import Database

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOOKS = sorted((ROOT / "hook_event_processor/starter").glob("*.lua"))
DPKG_LOG = """\
2026-05-09 10:00:00 startup archives unpack
2026-05-09 10:00:01 install curl:amd64 <none> 7.88.1-10
2026-05-09 10:00:01 status half-installed curl:amd64 7.88.1-10
2026-05-09 10:00:02 configure curl:amd64 7.88.1-10 <none>
2026-05-10 11:00:00 upgrade tzdata:all 2025a-0 2025b-0
"""
ROTATED_LOG = """\
2026-04-01 09:00:00 remove nano:amd64 7.2-1 <none>
2026-04-01 09:00:05 purge nano:amd64 7.2-1 <none>
"""


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if not link.startswith("https://"):
            assert (page.parent / target).exists(), link
            assert not anchor or anchor in _anchors(page.parent / target if target else page), link


def test_the_readme_fits_one_screen_and_names_the_line() -> None:
    text = (ROOT / "README.md").read_text()
    assert "insert -> claim -> route -> run hook -> record -> ack" in text
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_every_starting_hook_can_be_added_and_is_pure(hook: Path) -> None:
    definition = read_definition(hook.read_text(), str(hook))
    assert definition.name == hook.stem
    assert definition.description
    assert definition.event_types
    assert not definition.effectful


@pytest.fixture
def dpkg_logs(tmp_path: Path) -> str:
    """The pattern of two log files, the older one compressed, in the order in which a shell lists them."""
    (tmp_path / "dpkg.log").write_text(DPKG_LOG)
    (tmp_path / "dpkg.log.1.gz").write_bytes(gzip.compress(ROTATED_LOG.encode()))
    return f"{tmp_path}/dpkg.log*"


def _run_one_liner(database: Database, logs: str) -> str:
    page = (ROOT / "docs/hooks/packages/README.md").read_text()
    command = re.search(r"```bash\n(zcat .*?)```", page, re.DOTALL)
    assert command is not None
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATABASE_URL": database.conninfo,
        "TZ": "Europe/Berlin",
    }
    return bash(command[1].replace("/var/log/dpkg.log*", logs), environment, Path(logs).parent)


def test_the_package_history_becomes_events_oldest_first(
    connection: Connection, database: Database, dpkg_logs: str
) -> None:
    _run_one_liner(database, dpkg_logs)
    rows = connection.execute(
        "SELECT type, resource_id, data ->> 'old_version', data ->> 'version', data ->> 'arch',"
        """ to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM events ORDER BY seq"""
    ).fetchall()
    assert rows == [
        ("package.removed", "nano", "7.2-1", None, "amd64", "2026-04-01 07:00:00"),
        ("package.purged", "nano", "7.2-1", None, "amd64", "2026-04-01 07:00:05"),
        ("package.installed", "curl", None, "7.88.1-10", "amd64", "2026-05-09 08:00:01"),
        ("package.upgraded", "tzdata", "2025a-0", "2025b-0", "all", "2026-05-10 09:00:00"),
    ]


def test_the_package_history_taken_twice_adds_nothing(
    connection: Connection, database: Database, dpkg_logs: str
) -> None:
    _run_one_liner(database, dpkg_logs)
    assert "4 were there already" in _run_one_liner(database, dpkg_logs)
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (4,)
