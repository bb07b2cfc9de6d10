"""The files that a unit is made of: its own, and those that add to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

from hook_event_processor.watchers.host import stamps
from hook_event_processor.watchers.host.stamps import Stamp
from hook_event_processor.watchers.host.units import Unit

# systemd.unit(5), "Unit File Load Path", as far as people write there.
_SYSTEM = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_USER = ("/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")
_MAX_BYTES = 1 << 20


class UnitFiles:
    """What stands in a unit's files, read again only when one was written; on one thread at a time.

    They are looked up where they lie, as the manager itself learns of them at
    its next reload.
    """

    def __init__(self, *, user: bool) -> None:
        own = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "systemd/user")
        self._directories = (own, *_USER) if user else _SYSTEM
        self._real: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}
        self._digests: dict[str, str] = {}

    def digests(self, unit: Unit) -> Mapping[str, str]:
        """SHA-256 of each file that there is, by path."""
        found = {}
        for path in sorted({self._one_name(path) for path in self._paths(unit)}):
            digest = self._digest(path)
            if digest is not None:
                found[path] = digest
        return found

    def _one_name(self, path: str) -> str:
        """The path by which a file is known: /lib/systemd/system may be /usr/lib/systemd/system."""
        directory, name = os.path.split(path)
        if directory not in self._real:
            self._real[directory] = os.path.realpath(directory)
        return f"{self._real[directory]}/{name}"

    def _paths(self, unit: Unit) -> Iterator[str]:
        yield from filter(None, (unit.fragment, *unit.drop_ins))
        for directory in self._directories:
            yield f"{directory}/{unit.id}"
            try:
                names = os.listdir(f"{directory}/{unit.id}.d")
            except OSError:
                continue
            yield from (f"{directory}/{unit.id}.d/{name}" for name in names if name.endswith(".conf"))

    def _digest(self, path: str) -> str | None:
        try:
            stamp = stamps.of(path)
            if self._stamps.get(path) != stamp:
                with open(path, "rb") as file:
                    self._digests[path] = hashlib.sha256(file.read(_MAX_BYTES)).hexdigest()
                if stamp.lasts():
                    self._stamps[path] = stamp
        except OSError:
            self._stamps.pop(path, None)
            return None
        return self._digests[path]
