"""What an installation does, one thing at a time: each step says itself, and is done once however often it is taken."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hook_event_processor.errors import HookEventProcessorError

_TIMEOUT_SECONDS = 120.0  # a stop lets runs end for half a minute


class Step(Protocol):
    """One step. `needed` says whether anything is left to do, so that it can be told before it is done."""

    @property
    def text(self) -> str: ...

    @property
    def needed(self) -> bool: ...

    def take(self) -> None:
        """Do it. Raises OSError or HookEventProcessorError."""


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this content; its directories are made. One that `stays` is never overwritten.

    Bytes that are no UTF-8 are in the content as surrogates (errors="surrogateescape").
    """

    path: Path
    content: str
    mode: int = 0o644
    stays: bool = False

    @property
    def text(self) -> str:
        return f"write {self.path}"

    @property
    def needed(self) -> bool:
        if self.path.is_symlink() or not self.path.is_file():
            return not (self.stays and self.path.exists())
        return not self.stays and (
            self.path.read_text(encoding="utf-8", errors="surrogateescape") != self.content
            or self.path.stat().st_mode & 0o777 != self.mode
        )

    def take(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)
        # Nobody else may read it at any moment, and nobody sees half of it.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, self.mode)
        try:
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                os.fchmod(descriptor, self.mode)
                file.write(self.content)
                file.flush()
                os.fsync(descriptor)
            new.rename(self.path)
        except BaseException:  # the half of it may hold a password
            new.unlink(missing_ok=True)
            raise


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; what is there stays, unless it is a link that leads nowhere."""

    path: Path
    target: Path

    @property
    def text(self) -> str:
        return f"link {self.path} to {self.target}"

    @property
    def needed(self) -> bool:
        return not os.path.exists(self.path)

    def take(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self.target)


@dataclass(frozen=True, slots=True)
class Make:
    """A directory."""

    path: Path
    mode: int

    @property
    def text(self) -> str:
        return f"make {self.path}"

    @property
    def needed(self) -> bool:
        return not self.path.is_dir()

    def take(self) -> None:
        self.path.mkdir(mode=self.mode, parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, or a directory with what is in it, and the directories above that have become empty."""

    path: Path
    fixed: frozenset[Path]

    @property
    def text(self) -> str:
        return f"remove {self.path}"

    @property
    def needed(self) -> bool:
        return os.path.lexists(self.path)

    def take(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()
        _remove_empty(self.path.parent, self.fixed)


@dataclass(frozen=True, slots=True)
class Prune:
    """A directory that may have become empty, and those above."""

    path: Path
    fixed: frozenset[Path]

    @property
    def text(self) -> str:
        return f"remove {self.path}, which is empty"

    @property
    def needed(self) -> bool:
        return self.path not in self.fixed and self.path.is_dir() and not any(self.path.iterdir())

    def take(self) -> None:
        _remove_empty(self.path, self.fixed)


def _remove_empty(path: Path, fixed: frozenset[Path]) -> None:
    while path not in fixed and path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        path = path.parent


@dataclass(frozen=True, slots=True)
class Run:
    """A command, if `when` says so at its turn; its failure is ours, unless it `may_fail`."""

    command: tuple[str, ...]
    when: Callable[[], object] = lambda: True
    may_fail: bool = False

    @property
    def text(self) -> str:
        return f"run {shlex.join(self.command)}"

    @property
    def needed(self) -> bool:
        return bool(self.when())

    def take(self) -> None:
        done = _run(self.command)
        if done is None or done.returncode != 0:
            if self.may_fail:
                return
            said = " ".join((done.stderr or done.stdout).split()) if done else "it is not there, or does not end"
            raise HookEventProcessorError(f"{shlex.join(self.command)} failed: {said}")


def output(command: Sequence[str]) -> str | None:
    """What a command prints, or None when it fails or is not there."""
    done = _run(command)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None


def take(steps: Iterable[Step], say: Callable[[str], None], *, dry: bool) -> bool:
    """Take each step that is needed, saying it before; with `dry`, say only. Whether any was needed."""
    any_needed = False
    for step in steps:
        if step.needed:
            any_needed = True
            say(f"would {step.text}" if dry else step.text)
            if not dry:
                step.take()
    return any_needed
