"""Take each defence away in a copy of the package, run its test there, and require that it fails."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import host_defences
import module_defences
import sandbox_defences
import secret_defences
import time_defences
from defence import Defence

DEFENCES = (
    *(*time_defences.DEFENCES, *sandbox_defences.DEFENCES, *secret_defences.DEFENCES),
    *(*host_defences.DEFENCES, *module_defences.DEFENCES),
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sandbox.md"
BEGIN, END = "<!-- defences: written by ops/mutate -->\n", "<!-- end of defences -->\n"
_HEAD = "| attack | defence | test in tests | what fails without it |\n|---|---|---|---|\n"
_SECONDS = 40  # for one test; longer is a failure, too
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")  # what tests show of the environment is the same everywhere
_MEMORY = 4 << 30  # bytes of address space: some attacks take all there is


def mutated(package: Path, defence: Defence) -> Iterator[tuple[Path, str]]:
    """Each file of the package that the defence's changes are in, and its text without the defence.

    Raises SystemExit when a text to be replaced does not stand there exactly once.
    """
    texts: dict[Path, str] = {}
    for name, text, instead in defence.changes:
        path = package / "lua" / name
        content = texts.get(path) or path.read_text()
        if content.count(text) != 1:
            raise SystemExit(f"{defence.attack}: {name} has {content.count(text)} times, not once: {text!r}")
        texts[path] = content.replace(text, instead)
    yield from texts.items()


def snapshot(directory: Path) -> None:
    """Copy package and tests: they may be worked on meanwhile."""
    directory.chmod(0o755)
    for name in ("hook_event_processor", "tests", "sql"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "sql", directory / "hook_event_processor" / "sql")
    shutil.copy(ROOT / "pyproject.toml", directory)


def failure(defence: Defence, directory: Path) -> str | None:
    """How the defence's test fails without it; None when it passes. Works in `directory`, which is a snapshot."""
    package = directory / "hook_event_processor"
    for path, text in mutated(package, defence):
        path.write_text(text)
    try:
        done = tested([defence.test], directory, _SECONDS)
    except subprocess.TimeoutExpired:
        return "the test does not end"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process dies (signal {-done.returncode})"
    if done.returncode != 1:
        raise SystemExit(f"{defence.attack}: pytest cannot run {defence.test}:\n{done.stdout}{done.stderr}")
    found = re.findall(r"^E +(.+)$", done.stdout, re.MULTILINE)
    how = re.sub(r"^(AssertionError: |Failed: )", "", found[0]) if found else "the test fails"
    return "the run succeeds" if how.startswith("ChunkResult(codes=b'a'") else how


def tested(tests: Sequence[str], directory: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run these tests of a snapshot. Raises TimeoutExpired."""
    # -P: the current directory would come before the copy.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", *tests]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
        "PYTHONPATH": f"{directory}:{directory / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOOK_TEST_PATIENCE_SECONDS": "6",
    }
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=seconds, preexec_fn=_confine
    )


def check_with_defences(tests: Sequence[str], directory: Path) -> None:
    """Raise SystemExit unless all tests pass where nothing was taken away: else their failures would show nothing."""
    done = tested(sorted(set(tests)), directory, _SECONDS * len(tests))
    if done.returncode != 0:
        raise SystemExit(f"with all defences:\n{done.stdout}{done.stderr}")


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def failure_in_a_copy(whole: Path, defence: Defence) -> str | None:
    with tempfile.TemporaryDirectory(prefix="hep-mutate-") as directory:
        shutil.copytree(whole, directory, dirs_exist_ok=True)  # and its mode: some tests run programs as nobody
        return failure(defence, Path(directory))


def cell(text: str) -> str:
    """The text as it may stand in a table: short, and without signs that end a cell."""
    text = text if len(text) <= 90 else text[:87] + "..."
    return text.replace("|", "\\|").replace("<", "&lt;")


def fixed_cells(defence: Defence) -> str:
    """The cells of a row that follow from the list alone."""
    test = defence.test.removeprefix("tests/")
    return f"| {cell(defence.attack)} | `{defence.where}` | `{test}` |"


def write(failures: Mapping[Defence, str]) -> None:
    """Put these failures into the page's table, and keep what it says of the other defences."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    known = {line.split(" | ")[0]: line.rpartition("` | ")[2].removesuffix(" |") for line in table.splitlines()}
    rows = []
    for defence in DEFENCES:
        cells = fixed_cells(defence)
        how = cell(failures[defence]) if defence in failures else known.get(cells.split(" | ")[0])
        if how is None:
            raise SystemExit(f"{defence.attack}: it is not in the table yet, and was not run")
        rows.append(f"{cells} {how} |\n")
    PAGE.write_text(f"{before}{BEGIN}{_HEAD}{''.join(rows)}{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help=f"write what was seen into the table of {PAGE.relative_to(ROOT)}"
    )
    parser.add_argument("word", nargs="*", help="only attacks with one of these words")
    arguments = parser.parse_args()
    chosen = [row for row in DEFENCES if not arguments.word or any(word in row.attack for word in arguments.word)]
    for row in chosen:
        list(mutated(ROOT / "hook_event_processor", row))  # what has moved is said at once
    with tempfile.TemporaryDirectory(prefix="hep-mutate-") as whole, ThreadPoolExecutor(os.cpu_count()) as pool:
        snapshot(Path(whole))
        check_with_defences([row.test for row in chosen], Path(whole))
        failures = list(pool.map(lambda row: failure_in_a_copy(Path(whole), row), chosen))
    for row, how in zip(chosen, failures, strict=True):
        print(f"{row.attack}: {how or 'STANDS WITHOUT ITS DEFENCE'}")
    if None in failures:
        raise SystemExit(1)
    if arguments.write:
        write({row: how for row, how in zip(chosen, failures, strict=True) if how is not None})


if __name__ == "__main__":
    main()
