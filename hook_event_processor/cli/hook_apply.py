"""`hep hook apply`: make the database match a directory."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import hook_stack, some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.errors import HookRefused

if TYPE_CHECKING:
    from psycopg import Connection

    from hook_event_processor.cli.hook_directory import Contents
    from hook_event_processor.cli.hook_file import LibraryText, LuaFile, Said
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.hook_changes import Change
    from hook_event_processor.store.hooks import KnownHook

_ACTIONS = {"added": "add", "replaced": "change", "changed": "change", "unchanged": "unchanged"}
_DONE = {"add": "added", "change": "changed", "remove": "removed"}
_COMPARED = (
    *("version", "event_types", "stack", "priority", "timeout_seconds", "retry", "params", "libraries"),
    *("description", "enabled"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One line of a plan: add, change, unchanged, remove or keep; a hook or library; and what there is to say."""

    action: str
    kind: str
    name: str
    detail: str = ""


def add_apply(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "apply",
        apply,
        "make the database match a directory of hooks",
        "hep hook apply hooks --prune --dry-run",
        "Every *.lua in DIR is a hook, every lib/*.lua is a library; *_spec.lua are left out. A hooks.toml may say\n"
        "more: [NAME] with file, event_type, stack, priority, description, enabled and params makes a hook of that\n"
        "name; several may share a file. All is done in one transaction, and nothing when one file is bad.\n"
        "What DIR no longer holds stays, unless --prune is given: it removes what an earlier apply of the same\n"
        "source added, and nothing else. A hook that was disabled stays disabled.",
    )
    command.add_argument("directory", type=some_name, metavar="DIR", help="the directory")
    command.add_argument("--prune", action="store_true", help="remove what came from here and is here no longer")
    command.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    command.add_argument("--stack", type=hook_stack, help="let all of its hooks run for events of this stack only")
    command.add_argument(
        "--source",
        type=some_name,
        metavar="NAME",
        help="what to remember as their source (default: the directory's full path)",
    )
    add_format(command)


def apply(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.connect import session
    from hook_event_processor.cli.hook_directory import read_directory
    from hook_event_processor.cli.output import error
    from hook_event_processor.store import hook_changes

    directory = Path(arguments.directory).absolute()
    contents = read_directory(directory)
    application = _Application(contents, arguments.source or str(directory.resolve()), arguments.stack, settings)
    with session(settings) as connection, connection.transaction(force_rollback=arguments.dry_run) as transaction:
        hook_changes.lock(connection)
        plan = list(application.run(connection, prune=arguments.prune))
        if contents.faults:
            from psycopg import Rollback

            raise Rollback(transaction)
    if contents.faults:
        for fault in contents.faults:
            error(fault)
        return 1
    _show(arguments, plan)
    return 0


def _show(arguments: argparse.Namespace, plan: list[Step]) -> None:
    from hook_event_processor.cli.output import document, line, table, told

    said = [
        f"{number} to {action}" if arguments.dry_run else f"{number} {done}"
        for action, done in _DONE.items()
        if (number := sum(step.action == action for step in plan))
    ]
    text = f"{', '.join(said) or 'nothing to do'}{'; nothing was changed (--dry-run)' if arguments.dry_run else ''}"
    with told(text):
        if arguments.format == "json":
            document({"applied": not arguments.dry_run, "plan": [dataclasses.asdict(step) for step in plan]})
            return
        rows = [(step.action, step.kind, step.name, step.detail or "-") for step in plan]
        table(("Action", "Kind", "Name", "Detail"), rows, wrapped=("Name", "Detail"))
        line(text)
        if any(step.action == "keep" for step in plan):
            line("What is kept came from here and is here no longer: --prune removes it.")


class _Application:
    """Brings what a directory holds into the database; what cannot be is added to the contents' faults."""

    def __init__(self, contents: Contents, source: str, stack: str | None, settings: Settings) -> None:
        self._contents = contents
        self._source = source
        self._stack = stack
        self._settings = settings
        self._seen: dict[str, str] = {}  # names of hooks, and their files

    def run(self, connection: Connection, *, prune: bool) -> Iterator[Step]:
        from hook_event_processor.cli.hook_file import newest_texts
        from hook_event_processor.store import libraries

        before = libraries.known(connection)
        for name, file in self._contents.libraries.items():
            with self._collecting(connection):
                yield self._library(connection, name, file)
        shared = newest_texts(libraries.known(connection))
        for file, said in self._contents.hooks:
            with self._collecting(connection):
                yield self._hook(connection, file, said, shared)
        if self._contents.faults:
            return
        yield from self._gone_hooks(connection, prune=prune)
        for name, library in libraries.known(connection).items():
            if name in before and library.version != before[name].version:
                with self._collecting(connection):
                    yield from self._refresh(connection, name)
        with self._collecting(connection):
            yield from self._gone_libraries(connection, prune=prune)

    @contextmanager
    def _collecting(self, connection: Connection) -> Iterator[None]:
        with self._contents.collecting():
            yield
        # The server ends a transaction that is idle for too long, and bad files can take their time.
        connection.execute("SELECT")

    def _library(self, connection: Connection, name: str, file: LuaFile) -> Step:
        from hook_event_processor.lua.loader import check_library
        from hook_event_processor.store import libraries

        before = libraries.known(connection)
        others = {other: library.source_text for other, library in before.items()}
        others |= {other: text.text for other, text in self._contents.libraries.items()}
        check_library(name, file.text, file.path, others)
        change = libraries.add(connection, name, file.text, file.path, self._source)
        taken = _taken_over(before[name].source, self._source) if name in before else ""
        version = f"version {libraries.get(connection, name).version}"
        return Step(_ACTIONS[change], "library", name, ", ".join(filter(None, (version, taken))))

    def _hook(self, connection: Connection, file: LuaFile, said: Said, shared: Mapping[str, LibraryText]) -> Step:
        from hook_event_processor.cli.hook_file import hook_of
        from hook_event_processor.store import hook_changes, hooks

        if self._stack is not None:
            said = dataclasses.replace(said, overrides={**said.overrides, "stack": self._stack})
        said = dataclasses.replace(said, source=self._source)
        new, _ = hook_of(file, said, shared, self._settings)
        if new.name in self._seen:
            raise HookRefused(f"{file.path}: {self._seen[new.name]} has a hook of the same name, {new.name!r}")
        self._seen[new.name] = file.path
        before = hooks.find(connection, new.name)
        change, after = hook_changes.add(connection, new)
        return Step(_ACTIONS[change], "hook", after.name, self._detail(change, before, after))

    def _detail(self, change: Change, before: KnownHook | None, after: KnownHook) -> str:
        from hook_event_processor.cli.hook_permissions import uses

        said = []
        if before is not None and change != "unchanged":
            said = [
                _changed(name, before, after) for name in _COMPARED if getattr(before, name) != getattr(after, name)
            ]
            said += filter(None, [_taken_over(before.source, self._source)])
        missing = [
            use for use in uses(after.modules, self._settings.policy.grants(after.name, after.stack)) if use.missing
        ]
        return "; ".join(said + [f"{use.module} is not granted on this host ({use.setting})" for use in missing])

    def _refresh(self, connection: Connection, library: str) -> list[Step]:
        from hook_event_processor.cli.hook_refresh import refresh_users

        refreshed = refresh_users(connection, library, self._settings)
        return [Step("change", "hook", hook.name, f"version {hook.version}, for lib.{library}") for hook in refreshed]

    def _gone_hooks(self, connection: Connection, *, prune: bool) -> Iterator[Step]:
        from hook_event_processor.store import hook_changes, hooks

        for hook in hooks.known_hooks(connection):
            if hook.source == self._source and hook.name not in self._seen:
                if prune:
                    hook_changes.remove(connection, hook.name)
                yield Step("remove" if prune else "keep", "hook", hook.name)

    def _gone_libraries(self, connection: Connection, *, prune: bool) -> Iterator[Step]:
        from hook_event_processor.cli.hook_lib import refuse_in_use
        from hook_event_processor.store import libraries

        known = libraries.known(connection).values()
        here = self._contents.libraries
        gone = [library.name for library in known if library.source == self._source and library.name not in here]
        for name in gone:
            if prune:
                refuse_in_use(connection, name, f"put lib/{name}.lua back, or change what names it", gone)
                libraries.remove(connection, name)
            yield Step("remove" if prune else "keep", "library", name)


def _changed(name: str, before: KnownHook, after: KnownHook) -> str:
    if name == "version":
        return f"version {before.version} -> {after.version}"
    return name.removesuffix("_seconds").replace("_", " ")


def _taken_over(before: str | None, now: str) -> str:
    if before == now:
        return ""
    return f"was from {before}" if before else "was added by hand"
