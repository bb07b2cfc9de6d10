"""Progress on a terminal; elsewhere nothing is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar that is told which fraction of the work is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def reading_bar(title: str, stream: IO[bytes]) -> Iterator[Iterator[bytes]]:
    """The lines of a stream, under a bar that counts bytes; its end is known when it is a file."""
    if not sys.stderr.isatty() or stream.isatty():
        yield iter(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        yield _counted(stream, progress, progress.add_task(title, total=_size(stream)))


def _counted(stream: IO[bytes], progress: Any, task: Any) -> Iterator[bytes]:
    pending = 0
    for line in stream:
        yield line
        pending += len(line)
        if pending > 65_536:  # an update per line would cost more than the line
            progress.advance(task, pending)
            pending = 0
    progress.advance(task, pending)


def _size(stream: IO[bytes]) -> int | None:
    import os
    import stat

    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
