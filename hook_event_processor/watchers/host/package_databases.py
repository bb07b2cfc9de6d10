"""What is installed: the databases of dpkg and of rpm, read again only when they were written."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hook_event_processor import child
from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import programs, stamps
from hook_event_processor.watchers.host.stamps import Stamp

_FIELD = re.compile(rb"^(Package|Status|Version|Architecture):[ \t]*(.*)$", re.MULTILINE)
_MAX_BYTES = 256 << 20
_RPM_TIMEOUT = 60.0
_RPM_FORMAT = r"%{NAME}:%{ARCH}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\n"

# dpkg(1), "Package states".
_INSTALLED = frozenset({b"installed", b"triggers-awaited", b"triggers-pending"})
_CONFIGURED = b"config-files"
_ABSENT = b"not-installed"


class Package(NamedTuple):
    """A package's version, or several; not installed, it has left its configuration; in work, it is neither yet."""

    version: str
    installed: bool = True
    in_work: bool = False


Packages = Mapping[str, Package]  # by name:architecture


class PackageDatabase(Protocol):
    """A database of packages. For several threads."""

    manager: str

    @property
    def paths(self) -> Sequence[str]:
        """Files that change with it."""

    def packages(self) -> Packages | None:
        """What it holds, the same object until that changes; None when there is none. Raises CheckFailed."""


class _Kept(ABC):
    """A reading and the stamps of the files that it was of."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._lock = threading.Lock()
        self._stamps: dict[str, Stamp] = {}
        self._packages: Packages = {}

    def packages(self) -> Packages | None:
        with self._lock:
            found = {path: stamp for path in self.paths if (stamp := _stamp(path))}
            if not found:
                return None
            if found != self._stamps:
                self._packages = self._read()
                self._stamps = found if all(stamp.lasts() for stamp in found.values()) else {}
            return self._packages

    @abstractmethod
    def _read(self) -> Packages:
        """What the files say now."""


class Dpkg(_Kept):
    """dpkg's status file."""

    manager = "dpkg"

    def __init__(self, path: str = "/var/lib/dpkg/status") -> None:
        super().__init__((path,))

    def _read(self) -> Packages:
        try:
            with open(self.paths[0], "rb") as file:
                text = file.read(_MAX_BYTES)
        except OSError as fault:
            raise CheckFailed(f"cannot read {self.paths[0]}: {fault.strerror}") from fault
        packages = {}
        for stanza in text.split(b"\n\n"):
            fields = dict(_FIELD.findall(stanza))
            state = fields.get(b"Status", b"").rpartition(b" ")[2]
            if state and state != _ABSENT:
                key = fields.get(b"Package", b"") + b":" + fields.get(b"Architecture", b"")
                installed = state in _INSTALLED
                in_work = not installed and state != _CONFIGURED
                packages[_text(key)] = Package(_text(fields.get(b"Version", b"")), installed, in_work)
        return packages


class Rpm(_Kept):
    """rpm's database, which rpm reads: its forms are many."""

    manager = "rpm"

    def __init__(self, directories: Sequence[str] = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")) -> None:
        names = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages")
        super().__init__([f"{directory}/{name}" for directory in directories for name in names])

    def _read(self) -> Packages:
        ended = programs.run(["rpm", "--query", "--all", "--queryformat", _RPM_FORMAT], _RPM_TIMEOUT)
        if ended.timed_out or ended.exit_code:
            said = "nothing in time" if ended.timed_out else programs.first_line(ended.stderr)
            raise CheckFailed(f"rpm failed: {said}")
        if ended.stdout.endswith(child.CUT):
            raise CheckFailed(f"rpm lists more than the {child.MAX_OUTPUT} bytes that are read of it")
        versions: dict[str, list[str]] = {}
        for line in programs.text(ended.stdout).splitlines():
            key, _, version = line.partition("\t")
            versions.setdefault(key, []).append(version)
        # Kernels are installed beside each other.
        return {key: Package(" ".join(sorted(found))) for key, found in versions.items()}


DATABASES: Sequence[PackageDatabase] = (Dpkg(), Rpm())


def _stamp(path: str) -> Stamp | None:
    try:
        stamp = stamps.of(path)
    except OSError:
        return None
    # SQLite makes an empty log when its database is only read.
    return stamp if stamp.size else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
