"""A file system that is soon full: a tmpfs of a few megabytes, seen by this process and its children alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = "CHAOS_PRIVATE_MOUNTS"


def enter_private_mounts() -> None:
    """Begin this program anew in a mount namespace of its own, unless it is in one; an ordinary user may, too.

    Exits with a line that says so where the kernel does not let users make namespaces.
    """
    if os.environ.get(_MARK) == str(os.getppid()) or os.environ.get(_MARK) == "here":
        return
    ordinary = ["--user", "--map-current-user", "--keep-caps"] if os.geteuid() != 0 else []
    command = ["unshare", *ordinary, "--mount", "--propagation", "private"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        sys.exit(f"skipped: no mount namespace may be made here: {tried.stderr.strip()}")
    os.execvpe("unshare", [*command, "--", sys.executable, *sys.orig_argv[1:]], {**os.environ, _MARK: "here"})


class SmallDisk:
    """A mounted file system with a ballast that takes what is left of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, spare: int = 0) -> None:
        """Leave `spare` bytes, or nothing."""
        with self._ballast.open("ab") as file:
            left = self.free - spare
            if left > 0:
                os.posix_fallocate(file.fileno(), file.tell(), left)

    def clear(self) -> None:
        """Give back what fill() took."""
        self._ballast.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        """Bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A file system of this size at `path`, which is made; after enter_private_mounts()."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}M,mode=755", "chaos", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        # Whoever still has a file there is about to end.
        subprocess.run(["umount", "--lazy", path], check=True)
