"""Hashes of files' content."""

from __future__ import annotations

import hashlib
import os
import stat

_CHUNK = 1 << 18  # bytes


class NotHashed(Exception):
    """A file's content was not hashed: the reason."""


class Unreadable(NotHashed):
    """It could not be read."""


def sha256(path: str, limit: int) -> tuple[str, os.stat_result]:
    """The SHA-256 of a regular file's content, in hexadecimal, and what the file was when it had been read.

    Raises NotHashed. A file of more than `limit` bytes is not hashed, nor one that grows past them.
    """
    try:
        # Opening a named pipe that took the file's place must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as fault:
        raise Unreadable(f"cannot be read: {fault.strerror}") from fault
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotHashed("is not a regular file")
        return _content(descriptor, status.st_size, limit), os.fstat(descriptor)
    except OSError as fault:
        raise Unreadable(f"cannot be read: {fault.strerror}") from fault
    finally:
        os.close(descriptor)


def _content(descriptor: int, size: int, limit: int) -> str:
    digest = hashlib.sha256(usedforsecurity=False)
    read = 0
    while size <= limit and read <= limit:
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        read += len(chunk)
    raise NotHashed(f"is larger than {limit} bytes")
