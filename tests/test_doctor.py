"""`hep doctor` itself: what it prints, its page, the files of this host; and that nothing it can find goes untested."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest
from commands import Hep

from hook_event_processor.cli import doctor as command
from hook_event_processor.doctor.checkup import ALWAYS, AREAS
from hook_event_processor.doctor.finding import Kind

ROOT = Path(__file__).parent.parent
KINDS = {kind.name: kind for kind in (*ALWAYS, *(kind for area in AREAS for kind in area.kinds))}


def test_the_command_names_every_area() -> None:
    assert [area.name for area in AREAS] == list(command.AREAS)


def _rows(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of the page."""
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    part = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def _row(kind: Kind) -> list[str]:
    return [f"`{kind.name}`", kind.level.value, kind.meaning]


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_the_page_has_what_can_be_found_in_its_words(area: object) -> None:
    """Otherwise: write the rows into docs/doctor.md as they stand here."""
    kinds = {kind.name: kind for kind in area.kinds}  # type: ignore[attr-defined]
    assert _rows(area.name) == [_row(kind) for kind in kinds.values()]  # type: ignore[attr-defined]


def test_the_page_has_what_any_check_can_end_with() -> None:
    assert _rows("any") == [_row(kind) for kind in ALWAYS]


@pytest.mark.parametrize("kind", KINDS)
def test_every_finding_is_caused_by_a_test(kind: str) -> None:
    texts = [path.read_text() for path in (ROOT / "tests").glob("test_doctor*.py")]
    texts.append((ROOT / "tests/test_systemd.py").read_text())
    assert re.search(rf'"{kind}"', "\n".join(texts))


def test_without_a_database_that_is_said_first_and_this_host_is_looked_at(offline_hep: Hep) -> None:
    finished = offline_hep.run("doctor")
    lines = finished.output.splitlines()
    assert finished.status == 1
    assert lines[0].startswith("problem database ")
    assert "no database" in lines[1]
    assert any(line.startswith("ok      files") for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("skipped")] == list(command.AREAS[3:])
    document = json.loads(offline_hep.run("doctor", "database", "files", "--format", "json").output)
    assert [one["kind"] for one in document["findings"]] == ["database-away"]


def test_an_area_that_there_is_not_is_refused(offline_hep: Hep) -> None:
    assert "'spleen' is no area: there are files, units" in offline_hep.fault("doctor", "spleen")


SECRET = "s3same"


def _env(text: str, mode: int) -> Path:
    file = Path(".env")
    file.write_text(text)
    file.chmod(mode)
    return file


def _found(hep: Hep, *arguments: str) -> list[dict[str, object]]:
    finished = hep.run("doctor", "files", "--format", "json", *arguments)
    assert SECRET not in finished.output
    findings: list[dict[str, object]] = json.loads(finished.output)["findings"]
    return findings


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (f"DB_PASSWORD={SECRET}\n", 0o644),
        (f"DATABASE_URL=postgresql://hep:{SECRET}@127.0.0.1:1/hep\n", 0o640),
        (f"SLACK_TOKEN={SECRET}\n", 0o602),
    ],
)
def test_a_file_of_secrets_that_others_can_read_is_found_and_shut(offline_hep: Hep, text: str, mode: int) -> None:
    file = _env(text, mode)
    [found] = _found(offline_hep)
    assert found["kind"] == "secrets-readable"
    assert found["what"] == f"{file.absolute()} holds secrets, and its mode is {mode:04o}"
    assert found["mend"] == [f"chmod 600 {file.absolute()}"]
    assert _found(offline_hep, "--fix") == []
    assert file.stat().st_mode & 0o777 == 0o600
    assert _found(offline_hep) == []


def test_a_file_without_secrets_is_everybodys(offline_hep: Hep) -> None:
    _env("POLL_INTERVAL=5\nHOOK_SECRETS=*\nDB_HOST=localhost\nDB_PASSWORD=\n", 0o644)
    assert _found(offline_hep) == []


def test_the_key_of_secrets_is_one(offline_hep: Hep, tmp_path: Path) -> None:
    key = tmp_path / "home/secret.key"
    key.parent.mkdir()
    key.write_text("x")
    key.chmod(0o640)
    assert [one["kind"] for one in _found(offline_hep)] == ["secrets-readable"]
    offline_hep.run("doctor", "files", "--fix")
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another group")
@pytest.mark.parametrize(("mode", "left"), [(0o640, 0o640), (0o644, 0o640), (0o660, 0o640), (0o604, 0o600)])
def test_a_group_that_was_given_a_file_keeps_it(offline_hep: Hep, tmp_path: Path, mode: int, left: int) -> None:
    key = tmp_path / "home/secret.key"
    key.parent.mkdir()
    key.write_text("x")
    os.chown(key, 0, 54321)
    key.chmod(mode)
    assert [one["mend"] for one in _found(offline_hep)] == [[f"chmod {left:o} {key}"]] * (mode != left)
    assert _found(offline_hep, "--fix") == []
    assert key.stat().st_mode & 0o777 == left


def test_an_account_that_was_given_a_file_keeps_it(offline_hep: Hep) -> None:
    file = _env(f"DB_PASSWORD={SECRET}\n", 0o600)
    # setfacl -m u:54321:r, as linux/posix_acl_xattr.h has it: tag, permissions, id.
    nobody = 2**32 - 1
    entries = [(1, 6, nobody), (2, 4, 54321), (4, 0, nobody), (16, 4, nobody), (32, 0, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(file, "system.posix_acl_access", acl)
    assert file.stat().st_mode & 0o777 == 0o640  # the bits of the group are the ACL's mask
    assert _found(offline_hep) == []


def test_what_was_mended_is_said(offline_hep: Hep) -> None:
    file = _env(f"DB_PASSWORD={SECRET}\n", 0o644)
    said = offline_hep("doctor", "files", "--fix").splitlines()
    assert said[0] == f"ok      mended: shut {file.absolute()} for others"
    assert said[-1] == "Nothing is wrong."
