"""The files of a dry run: what it reads is there, what it writes it only believes to have written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hook_event_processor.lua.door import Failed
from hook_event_processor.lua.host.disk import MAX_BYTES, Disk, Facts, check_is_of_a_file, is_part, shown
from hook_event_processor.lua.host.reach import reach, written

Pretended = dict[bytes, bytes | bool]  # a path: the content of a file, True for a directory, False for what is removed

_MAX_PRETENDED = 64 * 1024 * 1024  # bytes that a dry run remembers


class PretendedDisk(Disk):
    """A disk that changes nothing, and tells `show` what it would have changed."""

    def __init__(self, roots: Sequence[bytes], pretended: Pretended, show: Callable[[str], None]) -> None:
        super().__init__(roots, own_root=None)
        self._pretended = pretended
        self._show = show

    def read(self, path: bytes, most: int) -> bytes:
        found = self._pretended.get(self._name(path))
        if found is None:
            return super().read(path, most)
        if not isinstance(found, bytes):
            raise Failed(f"{shown(path)}: {'is a directory' if found else 'no such file or directory'}")
        if len(found) > most:
            raise Failed(f"{shown(path)}: {len(found)} bytes are too many: at most {most}")
        return found

    def write(self, path: bytes, content: bytes) -> bool:
        return self._put(path, content, f"file.write: {shown(path)} ({len(content)} bytes)")

    def append(self, path: bytes, content: bytes) -> bool:
        before = self.read(path, MAX_BYTES) if self.exists(path) else b""
        return self._put(path, before + content, f"file.append: {shown(path)} ({len(content)} bytes)")

    def copy(self, source: bytes, target: bytes) -> bool:
        return self._put(target, self.read(source, MAX_BYTES), f"file.copy: {shown(source)} to {shown(target)}")

    def _put(self, path: bytes, content: bytes, line: str) -> bool:
        if len(content) > MAX_BYTES:
            raise Failed(f"{shown(path)}: {len(content)} bytes are too many: at most {MAX_BYTES}")
        name = self._name(path)
        check_is_of_a_file(path)
        self._check_parent(path, name)
        facts = self.facts(path)
        if facts is not None and facts[0] != b"file":
            raise Failed(f"{shown(path)}: is {'a directory' if facts[0] == b'directory' else 'not a regular file'}")
        held = sum(len(other) for other in self._pretended.values() if isinstance(other, bytes))
        if held + len(content) > _MAX_PRETENDED:
            raise Failed(f"{shown(path)}: a dry run writes at most {_MAX_PRETENDED} bytes")
        self._pretended[name] = content
        self._show(line)
        return True

    def _check_parent(self, path: bytes, name: bytes) -> None:
        facts = self.facts(name.rpartition(b"/")[0] if name not in self._roots else name)
        if facts is None or facts[0] != b"directory":
            raise Failed(f"{shown(path)}: {'not a directory' if facts else 'no such file or directory'}")

    def facts(self, path: bytes) -> Facts | None:
        name = self._name(path)
        found = self._pretended.get(name)
        if found is None:
            # A root of the product's own is made when it is needed.
            return self._facts_on_disk(path) or ((b"directory", 0, time.time(), 0o700) if name in self._roots else None)
        if isinstance(found, bytes):
            return b"file", len(found), time.time(), 0o600
        return (b"directory", 0, time.time(), 0o700) if found else None

    def list(self, path: bytes) -> bytes:
        directory = self._name(path)
        facts = self.facts(path)
        if facts is None or facts[0] != b"directory":
            raise Failed(f"{shown(path)}: {'not a directory' if facts else 'no such file or directory'}")
        listed = super().list(path) if self._facts_on_disk(path) else b""
        names = {name for name in listed.split(b"\0") if name}
        for known, found in self._pretended.items():
            parent, _, name = known.rpartition(b"/")
            if parent == directory:
                names = names - {name} if found is False else names | {name}
        return b"\0".join(sorted(name for name in names if not is_part(name)))

    def remove(self, path: bytes) -> bool:
        name = self._name(path, follow=False)
        facts = self.facts(path)
        if facts is None:
            raise Failed(f"{shown(path)}: no such file or directory")
        if facts[0] == b"directory" and self.list(path):
            raise Failed(f"{shown(path)}: directory not empty")
        if name in self._roots:
            raise Failed(f"{shown(path)}: it is what hooks were granted, and stays")
        self._pretended[name] = False
        self._show(f"file.remove: {shown(path)}")
        return True

    def mkdir(self, path: bytes) -> bool:
        name, made = self._name(path), []
        while (facts := self.facts(name)) is None:
            made.append(name)
            name = name.rpartition(b"/")[0]
        if facts[0] != b"directory":
            raise Failed(f"{shown(path)}: not a directory")
        if made:
            self._pretended |= dict.fromkeys(made, True)
            self._show(f"file.mkdir: {shown(path)}")
        return True

    def _facts_on_disk(self, path: bytes) -> Facts | None:
        return super().facts(path)

    def _name(self, path: bytes, follow: bool = True) -> bytes:
        """What the file is called without links, whichever way it was named."""
        try:
            with reach(self._roots, path, follow=follow) as place:
                return place.path
        except OSError:
            return written(self._roots, path)
