"""package: packages that are installed, upgraded and removed, whoever does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Noticed, Option
from hook_event_processor.watchers.host import package_databases
from hook_event_processor.watchers.host.package_databases import Package, Packages
from hook_event_processor.watchers.notice import Notice

_INSTALLED, _UPGRADED, _REMOVED, _PURGED = (
    *("package.installed", "package.upgraded", "package.removed", "package.purged"),
)
_CONDITIONS = {
    "changed": (_INSTALLED, _UPGRADED, _REMOVED, _PURGED),
    "installed": (_INSTALLED,),
    "created": (_INSTALLED,),
    "exists": (_INSTALLED,),
    "upgraded": (_UPGRADED,),
    "modified": (_UPGRADED,),
    "removed": (_REMOVED,),
    "deleted": (_REMOVED,),
    "purged": (_PURGED,),
}


class _Check:
    """The packages of a name or a pattern, or all."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._pattern: str = definition.options.get("name", "*")
        self._notice = Notice(definition, _CONDITIONS)
        self._read: dict[str, Packages] = {}
        kept = state if isinstance(state, dict) else {}
        self._settled: dict[str, Packages] = {
            manager: {key: Package(*package) for key, package in packages.items()} for manager, packages in kept.items()
        }
        self._state = kept

    def look(self, moment: Moment) -> list[Noticed]:
        noticed: list[Noticed] = []
        faults: list[CheckFailed] = []
        found = 0
        for database in package_databases.DATABASES:
            try:
                packages = database.packages()
            except CheckFailed as fault:
                faults.append(fault)
                continue
            if packages is not None:
                found += 1
                noticed += self._compare(database.manager, packages, moment)
        if faults and not noticed:  # else the next look raises it
            raise faults[0]
        if not found:
            raise CheckFailed("there is no database of packages here, neither dpkg's nor rpm's")
        return noticed

    def _chosen(self, packages: Packages) -> Packages:
        if self._pattern == "*":
            return packages
        return {key: one for key, one in packages.items() if fnmatchcase(key.rpartition(":")[0], self._pattern)}

    def _compare(self, manager: str, packages: Packages, moment: Moment) -> list[Noticed]:
        if packages is self._read.get(manager):
            return []
        self._read[manager] = packages
        before = self._settled.get(manager)
        after = self._settled[manager] = _settle(before or {}, self._chosen(packages))
        self._state = {**self._state, manager: {key: [one.version, one.installed] for key, one in after.items()}}
        if before is None:
            return []
        noticed = []
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key), after.get(key)
            if old != new and (event_type := _move(old, new)):
                name, _, arch = key.rpartition(":")
                data = {
                    "package": name,
                    "version": new.version if new and new.installed else None,
                    "old_version": old.version if old else None,
                    "arch": arch,
                    "manager": manager,
                }
                noticed += self._notice.of(moment, event_type, name, data)
        return noticed

    def state(self) -> object:
        return self._state


def _settle(before: Packages, now: Packages) -> Packages:
    """The packages as they are now; one that is being worked on is still as it was."""
    if not any(package.in_work for package in now.values()):
        return now
    settled = {key: package for key, package in now.items() if not package.in_work}
    for key in now.keys() - settled.keys():
        if key in before:
            settled[key] = before[key]
    return settled


def _move(old: Package | None, new: Package | None) -> str | None:
    if new is not None and new.installed:
        return _UPGRADED if old is not None and old.installed else _INSTALLED
    if old is not None and old.installed:
        return _REMOVED
    return _PURGED if new is None else None


def _paths(_: Definition) -> Sequence[str]:
    return [path for database in package_databases.DATABASES for path in database.paths]


def _target(definition: Definition) -> str:
    options: Mapping[str, Any] = definition.options
    return str(options.get("name", "all packages"))


KIND = Kind(
    name="package",
    summary="packages that are installed, upgraded and removed, by dpkg or rpm",
    interval=60.0,
    example="--name 'nginx*' --when upgraded,removed",
    conditions=_CONDITIONS,
    options={
        "name": Option(parsers.name, "a package's name, such as nginx or linux-image-*", "the packages (default all)")
    },
    start=_Check,
    blocks=True,
    paths=_paths,
    target=_target,
)
