"""The digests of watched files, taken when something moved, and of so much at one look."""

from __future__ import annotations

from collections.abc import Mapping

from hook_event_processor.watchers.check import Definition
from hook_event_processor.watchers.host import hashing
from hook_event_processor.watchers.host.hashing import NotHashed, Unreadable
from hook_event_processor.watchers.host.tree import Record

_MAX_SIZE = 100 * 1024 * 1024  # bytes of a file
_BUDGET = 32 * 1024 * 1024  # bytes of one look; a single larger file is read all the same


class Digests:
    """SHA-256 of files by path. Where a file cannot be hashed, the reason stands in its place."""

    def __init__(self, wanted: bool, always: bool, max_size: int) -> None:
        self.wanted = wanted
        self._always = always
        self._max_size = max_size
        self._digests: dict[str, str | NotHashed] = {}
        self._left = _BUDGET

    @classmethod
    def of(cls, definition: Definition) -> Digests:
        options = definition.options
        always = bool(options.get("always_hash"))
        return cls(bool(options.get("check_hash")), always, options.get("max_hash_size", _MAX_SIZE))

    def restore(self, digests: Mapping[str, str]) -> None:
        """Go on from what an earlier check knew."""
        if self.wanted:
            self._digests.update(digests)

    def refill(self) -> None:
        """Begin a look."""
        self._left = _BUDGET

    def known(self, path: str) -> str | None:
        """The file's digest, when it was taken last."""
        digest = self._digests.get(path)
        return digest if isinstance(digest, str) else None

    def skipped(self, path: str) -> str | None:
        """Why the file was not hashed."""
        digest = self._digests.get(path)
        return str(digest) if isinstance(digest, NotHashed) else None

    def unreadable(self, path: str) -> str | None:
        """Why the file could not be read."""
        return self.skipped(path) if isinstance(self._digests.get(path), Unreadable) else None

    def settled(self, records: Mapping[str, Record]) -> bool:
        """Whether nothing is to be hashed while no record changes."""
        return not self.wanted or (not self._always and len(self._digests) >= len(records))

    def current(self, path: str, old: Record, new: Record) -> bool:
        """Whether the digest that is known, if any is wanted, is that of the file as it is now."""
        return not self.wanted or (not self._always and path in self._digests and old == new)

    def affords(self, record: Record) -> bool:
        """Whether this look may read the file yet."""
        return self._always or self._left == _BUDGET or record.size <= self._left or record.size > self._max_size

    def refresh(self, path: str, real: str, record: Record) -> bool:
        """Hash the file, unless no digests are wanted or this look has read enough.

        Returns whether the digest is that of the file of the record, which may be written meanwhile.
        """
        if not self.wanted or not self.affords(record):
            return True
        try:
            if not record.regular:
                raise NotHashed("is not a regular file")
            if record.size > self._max_size:
                raise NotHashed(f"is larger than {self._max_size} bytes")
            self._digests[path], status = hashing.sha256(real, self._max_size)
            self._left -= record.size
        except NotHashed as reason:
            self._digests[path] = reason.with_traceback(None)
            return True
        return record.is_of(status)

    def set_back(self, path: str, digest: str | None) -> None:
        """The digest is what it was before; None for none."""
        self.forget(path)
        if digest is not None:
            self._digests[path] = digest

    def move(self, old: str, new: str) -> None:
        """The file has another path."""
        if old in self._digests:
            self._digests[new] = self._digests.pop(old)

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._digests.pop(path, None)
