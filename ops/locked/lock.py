"""Lock the service's dependencies: every version, and the hash of every file that an installation may take.

pip itself resolves them, for each Python and each machine in turn, and says
in its report which files those are. What is locked for the first holds for
all. `--check` needs no network: it compares the files with pyproject.toml and
with what the installed packages ask for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
SERVICE, BUILD = HERE / "requirements.txt", HERE / "build.txt"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# Debian 12's C library, and what is built for older ones.
_PLATFORMS = ("manylinux_2_36", "manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
# Published as source only. They depend on nothing but what builds them.
SOURCES = ("sdnotify",)
BUILDERS = ("setuptools", "wheel")

Files = dict[str, tuple[str, set[str]]]  # name -> version, SHA-256 of the files


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        faults = list(_faults())
        for fault in faults:
            print(f"ops/lock: {fault}: run ./ops/lock", file=sys.stderr)
        return int(bool(faults))
    if arguments:
        print("usage: ops/lock [--check]", file=sys.stderr)
        return 2
    _write(BUILD, _resolve(BUILDERS), "What builds the packages that are published as source only: install it first.")
    _write(SERVICE, _resolve(_wanted()), "What the service needs, without the service.")
    return 0


def _wanted() -> list[str]:
    with open("pyproject.toml", "rb") as file:
        dependencies: list[str] = tomllib.load(file)["project"]["dependencies"]
    return dependencies


def _resolve(wanted: Iterable[str]) -> Files:
    files: Files = {}
    wheels = [each for each in wanted if Requirement(each).name not in SOURCES]
    for python in PYTHONS:
        for machine in MACHINES:
            platforms = [f"--platform={platform}_{machine}" for platform in _PLATFORMS]
            _add(files, wheels, f"--python-version={python}", *platforms, "--only-binary=:all:", "--target=unused")
    sources = [each for each in wanted if Requirement(each).name in SOURCES]
    if sources:
        _add(files, sources, "--no-deps", "--no-binary=:all:")
    return files


def _add(files: Files, wanted: list[str], *options: str) -> None:
    for item in _report(wanted, [f"{name}=={version}" for name, (version, _) in files.items()], *options):
        name, version = canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"]
        hashes = files.setdefault(name, (version, set()))[1]
        hashes.add(item["download_info"]["archive_info"]["hashes"]["sha256"])


def _report(wanted: list[str], constraints: list[str], *options: str) -> list[Mapping[str, dict[str, str]]]:
    """What pip would install; constraints hold it to versions that are known already."""
    # The index alone: no file that only this machine has, built in another way.
    environment = {name: value for name, value in os.environ.items() if not re.match("PIP_(FIND|EXTRA|INDEX)", name)}
    with tempfile.TemporaryDirectory() as directory:
        held, report = Path(directory, "held.txt"), Path(directory, "report.json")
        held.write_text("\n".join(constraints))
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            report,
        ]
        subprocess.run(
            [*command, *options, "--constraint", held, *wanted],
            check=True,
            env={**environment, "PIP_CONFIG_FILE": os.devnull},
        )
        installed: list[Mapping[str, dict[str, str]]] = json.loads(report.read_text())["install"]
    return installed


def _write(path: Path, files: Files, purpose: str) -> None:
    lines = [
        f"# {purpose}",
        f"# Made by ops/lock for Python {', '.join(PYTHONS)} on Linux, {' and '.join(MACHINES)}.",
        f"# pip install --require-hashes -r {path.relative_to(HERE.parent.parent)}",
    ]
    for name, (version, hashes) in sorted(files.items()):
        lines += [f"{name}=={version} \\", *(f"    --hash=sha256:{digest} \\" for digest in sorted(hashes))]
        lines[-1] = lines[-1].removesuffix(" \\")
    path.write_text("\n".join(lines) + "\n")


def locked(path: Path) -> dict[str, str]:
    """The versions that a file locks, each with one hash at least."""
    text = path.read_text().replace("\\\n", "")
    entries = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    for pin, *hashes in entries:
        if not hashes or not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes):
            raise SystemExit(f"ops/lock: {path}: {pin} has no hash, or something else")
    return {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin, *_ in entries}


def _faults() -> Iterator[str]:
    """What the lock lacks, and what it has too much. Of what is not installed, it is not known what that needs."""
    versions = locked(SERVICE)
    needed: set[str] = set()
    open_ends = [Requirement(each) for each in _wanted()]
    while open_ends:
        wanted = open_ends.pop()
        name = canonicalize_name(wanted.name)
        if name not in versions:
            yield f"{name} is not locked"
        elif not wanted.specifier.contains(versions[name], prereleases=True):
            yield f"{name} is locked at {versions[name]}, and {wanted} is wanted"
        if (first := name not in needed) or wanted.extras:
            needed.add(name)
            open_ends += _requirements(name, wanted.extras or {""}) if first or wanted.extras else []
    for name in sorted(versions.keys() - needed):
        yield f"{name} is locked, and nothing needs it"
    for name in set(BUILDERS) - locked(BUILD).keys():
        yield f"{name} is not locked"


def _requirements(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    try:
        asked = [Requirement(each) for each in requires(name) or ()]
    except PackageNotFoundError:
        return
    # For each Python that is locked for: a marker may name one.
    for each in asked:
        environments = [{"extra": extra, "python_version": python} for extra in {"", *extras} for python in PYTHONS]
        if each.marker is None or any(each.marker.evaluate(environment) for environment in environments):
            yield each


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
