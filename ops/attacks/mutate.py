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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from defences import DEFENCES, Defence

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sandbox.md"
BEGIN, END = "<!-- defences: written by ops/mutate -->\n", "<!-- end of defences -->\n"
_HEAD = "| attack | defence | test in tests/attacks | what fails without it |\n|---|---|---|---|\n"
_SECONDS = 40  # for one test; longer is a failure, too
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
    for name in ("hook_event_processor", "tests", "sql"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "sql", directory / "hook_event_processor" / "sql")
    shutil.copy(ROOT / "pyproject.toml", directory)


def failure(defence: Defence, directory: Path) -> str | None:
    """How the defence's test fails without it; None when it passes. Works in `directory`, which is a snapshot."""
    package = directory / "hook_event_processor"
    for path, text in mutated(package, defence):
        path.write_text(text)
    # -P: the current directory would come before the copy.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", defence.test]
    environment = os.environ | {
        "PYTHONPATH": f"{directory}:{directory / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOOK_TEST_PATIENCE_SECONDS": "6",
    }
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            preexec_fn=_confine,
        )
    except subprocess.TimeoutExpired:
        return "the test does not end"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process dies (signal {-done.returncode})"
    if done.returncode != 1:
        raise SystemExit(f"{defence.attack}: pytest cannot run {defence.test}:\n{done.stdout}{done.stderr}")
    found = re.findall(r"^E +(.+)$", done.stdout, re.MULTILINE)
    return re.sub(r"^(AssertionError: |Failed: )", "", found[0]) if found else "the test fails"


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def failure_in_a_copy(whole: Path, defence: Defence) -> str | None:
    with tempfile.TemporaryDirectory(prefix="hep-mutate-") as directory:
        shutil.copytree(whole, directory, dirs_exist_ok=True)
        return failure(defence, Path(directory))


def cell(text: str) -> str:
    """The text as it may stand in a table: short, and without signs that end a cell."""
    text = text if len(text) <= 90 else text[:87] + "..."
    return text.replace("|", "\\|").replace("<", "&lt;")


def fixed_cells(defence: Defence) -> str:
    """The cells of a row that follow from the list alone."""
    test = defence.test.removeprefix("tests/attacks/")
    return f"| {cell(defence.attack)} | `{defence.where}` | `{test}` |"


def write(failures: Sequence[str]) -> None:
    """Put the table into the page."""
    rows = "".join(f"{fixed_cells(row)} {cell(how)} |\n" for row, how in zip(DEFENCES, failures, strict=True))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{_HEAD}{rows}{END}{rest.partition(END)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("word", nargs="*", help="only attacks with one of these words")
    arguments = parser.parse_args()
    chosen = [row for row in DEFENCES if not arguments.word or any(word in row.attack for word in arguments.word)]
    for row in chosen:
        list(mutated(ROOT / "hook_event_processor", row))  # what has moved is said at once
    with tempfile.TemporaryDirectory(prefix="hep-mutate-") as whole, ThreadPoolExecutor(os.cpu_count()) as pool:
        snapshot(Path(whole))
        failures = list(pool.map(lambda row: failure_in_a_copy(Path(whole), row), chosen))
    for row, how in zip(chosen, failures, strict=True):
        print(f"{row.attack}: {how or 'STANDS WITHOUT ITS DEFENCE'}")
    if None in failures:
        raise SystemExit(1)
    if arguments.write and not arguments.word:
        write([how for how in failures if how is not None])


if __name__ == "__main__":
    main()
