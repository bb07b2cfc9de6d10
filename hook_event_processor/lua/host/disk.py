"""What hooks do with files: below their roots, regular files only, and within sizes."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from hook_event_processor.lua.door import Failed
from hook_event_processor.lua.host.reach import Place, reach

MAX_BYTES = 8 * 1024 * 1024  # of a file that a hook writes, or reads when it says so
MAX_NAMES = 10_000  # of a directory
_BLOCK = 256 * 1024
# No link is followed, nothing is waited for (a FIFO), and nothing becomes our terminal.
_CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_PART_BEGINS, _PART_ENDS = b".hep-", b".part"  # the name of a file that is being written
_KINDS = {stat.S_IFREG: b"file", stat.S_IFDIR: b"directory"}

Facts = tuple[bytes, int, float, int]  # kind, bytes, seconds since 1970 when it was changed, permissions


class Disk:
    """The files below some roots. A path is relative to the first of them, or absolute.

    Raises Outside for a path that leads out of all roots, and Failed for what
    is to be expected: a file that is missing, too large, or not permitted.
    """

    def __init__(
        self, roots: Sequence[bytes], own_root: bytes | None, hold: Callable[[int], bool] = lambda _: True
    ) -> None:
        """`own_root` is made when it is missing: it is the product's. `hold` says if there is room for more bytes."""
        self._hold = hold
        self._roots = roots
        self._own_root = own_root

    def read(self, path: bytes, most: int) -> bytes:
        """The content, of at most so many bytes."""
        with self._at(path) as place, _opened(place, os.O_RDONLY) as descriptor:
            _check_size(path, os.fstat(descriptor).st_size, most)
            blocks, left = [], most + 1
            # The size is only what it was: it may grow, or be a file of the kernel's, which says 0.
            while left > 0 and (block := os.read(descriptor, min(left, _BLOCK))):
                if not self._hold(len(block)):
                    raise Failed(f"{shown(path)}: hooks are reading too much at once, there is no room for it now")
                blocks.append(block)
                left -= len(block)
            _check_size(path, most + 1 - left, most)
            return b"".join(blocks)

    def write(self, path: bytes, content: bytes) -> bool:
        """Put the content in place of the file at once: nobody sees half of it."""
        _check_size(path, len(content), MAX_BYTES)
        with self._at(path) as place:
            check_is_of_a_file(path)
            _replace(place, content, self._mode_to_keep(place))
        return True

    def _mode_to_keep(self, place: Place) -> int:
        try:
            mode = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return 0o600
        _check_regular(mode)
        return stat.S_IMODE(mode) & 0o777

    def append(self, path: bytes, content: bytes) -> bool:
        """Add the content to the file's end; on a disk that gets full the beginning of it stays."""
        _check_size(path, len(content), MAX_BYTES)
        with self._at(path) as place:
            check_is_of_a_file(path)
            self._append(path, place, content)
        return True

    def _append(self, path: bytes, place: Place, content: bytes) -> None:
        with _opened(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
            _check_size(path, os.fstat(descriptor).st_size + len(content), MAX_BYTES)
            # Nothing is cut off again after a failure: behind it others may have appended meanwhile.
            _write_all(descriptor, content)

    def exists(self, path: bytes) -> bool:
        """Whether there is anything of that name."""
        return self.facts(path) is not None

    def stat(self, path: bytes) -> Facts:
        """What the file is."""
        facts = self.facts(path)
        if facts is None:
            raise Failed(f"{shown(path)}: no such file or directory")
        return facts

    def facts(self, path: bytes) -> Facts | None:
        """What there is of that name, if anything."""
        try:
            with self._place(path) as place:
                found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as fault:
            raise failure(path, fault) from None
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), b"other")
        return kind, found.st_size, found.st_mtime, stat.S_IMODE(found.st_mode)

    def list(self, path: bytes) -> bytes:
        """The names in a directory, sorted, with NUL between them."""
        flags = os.O_RDONLY | os.O_DIRECTORY | _CAREFULLY
        with self._at(path) as place:
            descriptor = os.open(place.name, flags, dir_fd=place.directory)
            try:
                return b"\0".join(sorted(_names(path, descriptor)))
            finally:
                os.close(descriptor)

    def copy(self, source: bytes, target: bytes) -> bool:
        """Write what another file holds."""
        return self.write(target, self.read(source, MAX_BYTES))

    def remove(self, path: bytes) -> bool:
        """Remove a file, a link (not what it leads to) or an empty directory."""
        with self._at(path, follow=False) as place:
            if place.name == b".":
                raise OSError(None, "it is what hooks were granted, and stays")
            found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(place.name, dir_fd=place.directory)
            else:
                os.unlink(place.name, dir_fd=place.directory)
        return True

    def mkdir(self, path: bytes) -> bool:
        """Make a directory and those that it lies in; one that exists is fine."""
        with self._at(path, make=True) as place:
            try:
                os.mkdir(place.name, 0o700, dir_fd=place.directory)
            except FileExistsError:
                os.close(os.open(place.name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.directory))
        return True

    @contextmanager
    def _at(self, path: bytes, *, follow: bool = True, make: bool = False) -> Iterator[Place]:
        try:
            with self._place(path, follow=follow, make=make) as place:
                yield place
        except OSError as fault:
            raise failure(path, fault) from None

    @contextmanager
    def _place(self, path: bytes, *, follow: bool = True, make: bool = False) -> Iterator[Place]:
        own = self._own_root
        if own is not None and own in self._roots and not os.path.isdir(own):
            os.makedirs(own, 0o700, exist_ok=True)
        with reach(self._roots, path, follow=follow, make=make) as place:
            yield place


def shown(path: bytes) -> str:
    return path.decode(errors="replace")


def check_is_of_a_file(path: bytes) -> None:
    """Raise Failed for a path that can only be a directory's, whether it is there or not."""
    if path.endswith((b"/", b"/.")):
        raise Failed(f"{shown(path)}: a path that ends in / or /. is a directory's")


def failure(path: bytes, fault: OSError) -> Failed:
    """The reason why nothing was done to a file, in one line."""
    return Failed(f"{shown(path)}: {(fault.strerror or str(fault)).lower()}")


def is_part(name: bytes) -> bool:
    """Whether the name is that of a file which is being written."""
    return name.startswith(_PART_BEGINS) and name.endswith(_PART_ENDS)


def _check_size(path: bytes, size: int, most: int) -> None:
    if size > most:
        raise Failed(f"{shown(path)}: {size} bytes are too many: at most {most}")


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(None, "is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(None, "is not a regular file")


@contextmanager
def _opened(place: Place, flags: int) -> Iterator[int]:
    descriptor = os.open(place.name, flags | _CAREFULLY, 0o600, dir_fd=place.directory)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(place: Place, content: bytes, mode: int) -> None:
    part = _PART_BEGINS + secrets.token_hex(8).encode() + _PART_ENDS
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(part, flags, 0o600, dir_fd=place.directory)
    try:
        try:
            _write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(part, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=place.directory)
        raise


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _names(path: bytes, directory: int) -> list[bytes]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if not is_part(name):
                names.append(name)
            if len(names) > MAX_NAMES:
                raise Failed(f"{shown(path)}: more than {MAX_NAMES} names")
    return names
