"""ops/locked: what the service is installed with is locked by version and hash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

LOCKED = ROOT / "ops/locked"


def _check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOCKED / "lock.py"), "--check"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_everything_that_the_service_needs_is_locked() -> None:
    assert (_check(ROOT).returncode, _check(ROOT).stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"tenacity>=9.2",', '"tenacity>=9.2", "of-tomorrow",', "of-tomorrow is not locked"),
        ('"tenacity>=9.2",', '"tenacity>=99",', "tenacity is locked at 9."),
        ('"tenacity>=9.2",', "", "tenacity is locked, and nothing needs it"),
    ],
)
def test_what_the_lock_lacks_or_has_too_much_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert old in text
    (tmp_path / "pyproject.toml").write_text(text.replace(old, new))
    finished = _check(tmp_path)
    assert finished.returncode == 1
    assert said in finished.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "build.txt"])
def test_every_version_has_hashes_and_no_index_is_named(name: str) -> None:
    lines = (LOCKED / name).read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if "==" in line]
    assert pinned
    assert all(lines[number + 1].lstrip().startswith("--hash=sha256:") for number in pinned)
    assert not any("://" in line for line in lines)
