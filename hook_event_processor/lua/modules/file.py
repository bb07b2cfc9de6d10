"""file: files of the host, below the directories that policy grants."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from hook_event_processor.lua.door import Call, Function, Services, Value
from hook_event_processor.lua.host.disk import Disk, shown
from hook_event_processor.lua.host.pretended_disk import PretendedDisk
from hook_event_processor.lua.host.reach import Outside

_Operation = Callable[..., Value]
_OPERATIONS: Mapping[str, Callable[[Disk], _Operation]] = {
    "read": lambda disk: disk.read,
    "write": lambda disk: disk.write,
    "append": lambda disk: disk.append,
    "exists": lambda disk: disk.exists,
    "stat": lambda disk: disk.stat,
    "list": lambda disk: disk.list,
    "copy": lambda disk: disk.copy,
    "remove": lambda disk: disk.remove,
    "mkdir": lambda disk: disk.mkdir,
}
_PATHS = {"copy": 2}  # how many of an operation's arguments are paths; of the others the first is one


def functions(services: Services) -> Mapping[str, Function]:
    """What file.lua calls: paths first, as bytes, then a content or a size."""
    own_root = os.fsencode(services.settings.home / "files")

    def disk(call: Call) -> Disk:
        return Disk(_roots(call), own_root, call.hold)

    def pretended(call: Call) -> Disk:
        return PretendedDisk(_roots(call), call.scratch.setdefault("file", {}), call.show)

    return {
        f"file.{name}": Function(_through(disk, name), waits=True, pretend=_through(pretended, name))
        for name in _OPERATIONS
    }


def _through(disk: Callable[[Call], Disk], name: str) -> _Operation:
    operation, paths = _OPERATIONS[name], _PATHS.get(name, 1)

    def run(call: Call, path: bytes, *rest: bytes | int) -> Value:
        try:
            return operation(disk(call))(path, *rest)
        except Outside:
            named = " or ".join(shown(part) for part in (path, *rest)[:paths] if isinstance(part, bytes))
            raise call.refusal("file", named) from None

    return run


def _roots(call: Call) -> list[bytes]:
    return [os.path.normpath(os.fsencode(root)) for root in call.grants.file_roots]
