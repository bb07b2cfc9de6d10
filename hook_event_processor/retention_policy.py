"""What is kept, for how long and how much of it: one default, and rules for types, stacks and hooks in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hook_event_processor import setting_values as takes
from hook_event_processor.errors import SettingsError
from hook_event_processor.toml_file import read_toml

NO_ARCHIVE = "off"
TABLE = "table"
_SELECTORS = ("types", "stacks", "hooks")
# Part -> what a rule of it can be selected by.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "events": ("types", "stacks"),
    "executions": ("types", "stacks", "hooks"),
    "versions": ("stacks", "hooks"),
}


@dataclass(frozen=True, slots=True)
class Keep:
    """How much to keep of what matches: None and 0 are no limit.

    `types` are patterns of event types, `hooks` names with * globs; an empty
    selector matches all. Of events `age` counts from their completion,
    `failed_age` from when a dead letter's attempts were used up; `count` is
    how many of the newest that match stay: of events the completed ones, of
    executions and versions those of each hook. `archive` is NO_ARCHIVE, TABLE
    or a directory.
    """

    name: str = "default"
    types: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    age: timedelta | None = None
    count: int = 0
    failed_age: timedelta | None = None
    archive: str = NO_ARCHIVE

    @property
    def removes(self) -> bool:
        """Whether anything goes by it."""
        return self.age is not None or self.failed_age is not None or self.count > 0


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """For each part the rules in their order; the first that matches decides, and the last matches all."""

    events: tuple[Keep, ...] = (Keep(),)
    executions: tuple[Keep, ...] = (Keep(),)
    versions: tuple[Keep, ...] = (Keep(),)

    @property
    def removes(self) -> bool:
        return any(keep.removes for part in (self.events, self.executions, self.versions) for keep in part)


def default_policy(age: timedelta | None, archive: str, *, failed: bool = False) -> RetentionPolicy:
    """Events of every type by one age; `failed`: that of failed ones, too."""
    return RetentionPolicy(events=(Keep(age=age, failed_age=age if failed else None, archive=archive),))


def read_retention(path: Path, default: RetentionPolicy, *, failed: bool = False) -> RetentionPolicy:
    """Read the tables [events], [executions], [versions] and the list of [[rule]] of a TOML file.

    `failed`: what names no failed_age takes its age for it. Raises
    SettingsError naming the table and key that is wrong and what it accepts.
    """
    content = read_toml(path, lambda reason: SettingsError(f"RETENTION_POLICY: {reason}"))
    rules = content.pop("rule", [])
    unknown = [key for key in content if key not in _PARTS]
    if unknown or not isinstance(rules, list):
        raise _refused(f"{path}", f"unknown entry {(unknown or ['rule'])[0]!r}", "[PART] and [[rule]] with PART")
    read = {}
    for part in _PARTS:
        last = getattr(default, part)[-1]
        last = _keep(f"{path}: [{part}]", part, content.get(part, {}), last, failed=failed)
        numbered = ((f"{path}: [[rule]] {n}", f"rule {n}", rule) for n, rule in enumerate(rules, 1))
        found = [_rule(where, name, part, rule, last, failed=failed) for where, name, rule in numbered]
        read[part] = (*(keep for keep in found if keep is not None), last)
    return RetentionPolicy(**read)


def _rule(where: str, name: str, part: str, rule: object, default: Keep, *, failed: bool) -> Keep | None:
    """What a rule says of a part; None when it says nothing."""
    if not isinstance(rule, dict):
        raise _refused(where, "it is no table", "types, stacks or hooks, and PART")
    selectors: dict[str, Any] = {key: _names(f"{where}: {key}", rule[key]) for key in _SELECTORS if key in rule}
    unknown = [key for key in rule if key not in (*_SELECTORS, *_PARTS)]
    if unknown:
        raise _refused(where, f"unknown key {unknown[0]!r}", "types, stacks, hooks and PART")
    if not selectors or not any(key in rule for key in _PARTS):
        raise _refused(where, "it lacks what it is for, or what it says of it", "types, stacks or hooks, and PART")
    if part not in rule:
        return None
    wrong = [key for key in selectors if key not in _PARTS[part]]
    if wrong:
        raise _refused(where, f"{part} cannot go by {wrong[0]}", f"for {part}: {' or '.join(_PARTS[part])}")
    # What a rule does not say of age and number is not limited; where it is archived, the default says.
    base = replace(Keep(name, archive=default.archive), **selectors)
    return _keep(f"{where}: {part}", part, rule[part], base, failed=failed)


def _keep(where: str, part: str, table: object, base: Keep, *, failed: bool) -> Keep:
    known: dict[str, Any] = {"age": _age, "count": _count}
    if part == "events":
        known |= {"failed_age": _age, "archive": _archive}
    if not isinstance(table, dict):
        raise _refused(where, "it is no table", ", ".join(known))
    for key in table:
        if key not in known:
            raise _refused(where, f"unknown key {key!r}", ", ".join(known))
    keep = replace(base, **{key: known[key](f"{where}: {key}", value) for key, value in table.items()})
    return replace(keep, failed_age=keep.age) if failed and part == "events" and "failed_age" not in table else keep


def _age(where: str, value: object) -> timedelta | None:
    try:
        return takes.retention(value if isinstance(value, str) else "")
    except ValueError:
        raise _refused(where, f"it is {value!r}", takes.retention.__doc__ or "") from None


def _count(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**12:
        raise _refused(where, f"it is {value!r}", "a whole number from 1")
    return value


def _archive(where: str, value: object) -> str:
    try:
        return takes.archive(value if isinstance(value, str) else "")
    except ValueError:
        raise _refused(where, f"it is {value!r}", takes.archive.__doc__ or "") from None


def _names(where: str, value: object) -> tuple[str, ...]:
    names: Sequence[object] = value if isinstance(value, list) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _refused(where, f"it is {value!r}", "a list of strings")
    return tuple(str(name) for name in names)


def _refused(where: str, what: str, accepted: str) -> SettingsError:
    takes_what = accepted.replace("PART", "events, executions or versions")
    return SettingsError(f"RETENTION_POLICY: {where}: {what}: it takes {takes_what}")
