"""`hep hook add --watch`: a directory's hooks, added again whenever one is saved."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hook_event_processor.errors import HookEventProcessorError, HookRefused, UsageError

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.settings import Settings

_OF_ONE_HOOK = ("name", "event", "set", "description")
_OPEN_AFTER_MS = 100


def watch(arguments: argparse.Namespace, settings: Settings) -> int:
    """Add what the directory holds, and again what is saved, until Ctrl-C."""
    import watchfiles

    from hook_event_processor.cli.hook_directory import hook_files, library_files
    from hook_event_processor.cli.output import note

    for option in _OF_ONE_HOOK:
        if getattr(arguments, option):
            raise UsageError(f"--{option} is for one hook: it cannot stand beside --watch")
    directory = Path(arguments.file).absolute()  # as 'hep hook add' remembers paths
    if not directory.is_dir():
        raise UsageError(f"--watch takes a directory, and {arguments.file} is none")
    stopped = threading.Event()

    def interrupt(*_: object) -> None:
        stopped.set()  # a finalizer that runs just now swallows the exception
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        saved = watchfiles.watch(
            directory,
            watch_filter=_is_lua(directory),
            raise_interrupt=False,
            stop_event=stopped,
            rust_timeout=_OPEN_AFTER_MS,
            yield_on_timeout=True,
        )
        next(saved, None)  # opens it: what is saved while all is added comes below
        _add_all([*library_files(directory), *hook_files(directory)], arguments, settings)
        note(f"watching {directory}: Ctrl-C ends it")
        sys.stderr.flush()
        for changes in saved:
            paths = sorted({Path(path) for _, path in changes}, key=lambda path: (path.parent == directory, path))
            _add_all(paths, arguments, settings)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def _is_lua(directory: Path) -> Callable[[object, str], bool]:
    from hook_event_processor.cli.hook_directory import SPEC

    folders = (directory, directory / "lib")
    return lambda _, path: path.endswith(".lua") and not path.endswith(SPEC) and Path(path).parent in folders


def _add_all(paths: Iterable[Path], arguments: argparse.Namespace, settings: Settings) -> None:
    """Add each file, libraries first; what is refused is said, and stays as it was."""
    from hook_event_processor.cli.connect import database_fault, session
    from hook_event_processor.cli.output import document_line, error, flush, line

    for path in paths:
        try:
            with session(settings) as connection:
                said = _added(connection, path, arguments, settings)
        except HookEventProcessorError as refusal:
            error(str(refusal))
            continue
        except Exception as fault:
            known = database_fault(fault)
            if known is None:
                raise
            error(str(known))
            continue
        for change, kind, name, version in said:
            if arguments.format == "json":
                document_line({"change": change, "kind": kind, "name": name, "version": version})
            else:
                line(f"{change}: {kind} {name}, version {version}")
        flush()


def _added(
    connection: Connection, path: Path, arguments: argparse.Namespace, settings: Settings
) -> list[tuple[str, str, str, int]]:
    """What adding a file did: change, kind, name and version of each hook or library."""
    from hook_event_processor.store import hook_changes

    if not path.exists():
        raise HookRefused(f"{path} is gone; what came from it stays: 'hep hook remove' and 'hep hook lib remove'")
    with connection.transaction():
        hook_changes.lock(connection)
        if path.parent.name == "lib" and path.parent != Path(arguments.file).absolute():
            return _added_library(connection, path, settings)
        return _added_hooks(connection, path, arguments, settings)


def _added_library(connection: Connection, path: Path, settings: Settings) -> list[tuple[str, str, str, int]]:
    from hook_event_processor.cli.hook_file import read_file
    from hook_event_processor.cli.hook_lib import add_library, checked_name
    from hook_event_processor.store import libraries

    name = checked_name(path.stem)
    change, refreshed = add_library(connection, name, read_file(str(path)), settings)
    done = [(str(change), "library", name, libraries.get(connection, name).version)]
    return done + [("replaced", "hook", hook.name, hook.version) for hook in refreshed]


def _added_hooks(
    connection: Connection, path: Path, arguments: argparse.Namespace, settings: Settings
) -> list[tuple[str, str, str, int]]:
    """Add the hook that a file holds, and those that were made from it under other names."""
    from hook_event_processor.cli.hook_file import hook_of, newest_texts, read_file, said_by, said_of
    from hook_event_processor.store import hook_changes, hooks, libraries

    file, said = read_file(str(path)), said_by(arguments)
    place = _place(file.path)
    made = [hook for hook in hooks.known_hooks(connection) if hook.kind == "lua" and _place(hook.file_path) == place]
    own = [hook for hook in made if "name" not in hook.overrides]
    wanted = [
        replace(said_of(hook), overrides={**hook.overrides, **said.overrides}) for hook in made if hook not in own
    ]
    if own:
        wanted.append(replace(said, params=own[0].params, overrides={**own[0].overrides, **said.overrides}))
    elif not made:
        wanted.append(said)
    shared = newest_texts(libraries.known(connection))
    done = []
    for each in wanted:
        change, hook = hook_changes.add(connection, hook_of(file, each, shared, settings)[0])
        done.append((str(change), "hook", hook.name, hook.version))
    return done


def _place(path: str) -> Path:
    """The same by whatever links one comes to its directory; a link to a file is a file of its own."""
    return Path(path).parent.resolve() / Path(path).name
