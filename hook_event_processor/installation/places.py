"""Where everything goes: for the machine below /usr/local, /etc and /var, for a user below their home."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = "hook-event-processor"
ACCOUNT = "hep"  # of sysusers.conf
PROCESSOR = f"{NAME}.service"
TARGET = f"{NAME}.target"
RETENTION = "hook-retention.timer"
# Every unit of ours matches one of these, whatever its instance; no hook-event-processor-exporter.service does.
PATTERNS = (f"{NAME}.*", f"{NAME}@*", "hook-watcher.*", "hook-watcher@*", "hook-emit@*", "hook-retention.*")
_TEMPLATES = (NAME, "hook-watcher", "hook-emit")
_CREDSTORE = Path("/usr/lib/tmpfiles.d/credstore.conf")


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one installation. Those that only the machine has are None for a user."""

    of_user: bool
    units: Path
    own_units: Path  # where the administrator's own units and drop-ins are, and the links of enabled ones
    settings: Path
    state: Path
    man: Path
    completions: Mapping[str, Path]  # by shell
    program: Path
    sysusers: Path | None = None
    tmpfiles: Path | None = None
    credentials: Path | None = None
    encrypted_credentials: Path | None = None

    @property
    def environment(self) -> Path:
        """The settings of all units."""
        return self.settings / "environment"

    @property
    def systemctl(self) -> tuple[str, ...]:
        return ("systemctl", "--user") if self.of_user else ("systemctl",)

    @property
    def fixed(self) -> frozenset[Path]:
        """Directories that stay when they become empty: they are everybody's."""
        if self.of_user:
            data, config = _of_user()
            return frozenset({data, config, Path.home(), Path.home() / ".local", Path.home() / ".local/bin"})
        fixed = ("/usr/local/lib", "/usr/local/share", "/usr/local/bin", "/etc", "/var/lib")
        # Where these shells are installed, their packages have the directories.
        of_shells = {self.completions[shell].parent for shell in ("zsh", "fish") if shutil.which(shell)}
        # From systemd 254 on, its own package makes both.
        stores = {self.credentials, self.encrypted_credentials} if _CREDSTORE.is_file() else set()
        return frozenset({*(Path(path) for path in fixed), self.man, *of_shells, *filter(None, stores)})


def slices(*, of_user: bool) -> list[str]:
    """What systemd makes for a template's first instance, and keeps when the last one has ended."""
    names = (name.replace("-", r"\x2d") for name in _TEMPLATES)
    return [f"{'app' if of_user else 'system'}-{name}.slice" for name in names]


def for_machine() -> Places:
    """Beside what the distribution's packages have; /etc is left to the administrator."""
    local = Path("/usr/local")
    return Places(
        of_user=False,
        units=local / "lib/systemd/system",
        own_units=Path("/etc/systemd/system"),
        settings=Path("/etc", NAME),
        state=Path("/var/lib", NAME),
        man=local / "share/man",
        # Without XDG_DATA_DIRS, as in a login over ssh, Debian's fish does not look below /usr/local/share.
        completions={**_completions(local / "share"), "fish": Path("/etc/fish/completions/hep.fish")},
        program=local / "bin/hep",
        sysusers=local / f"lib/sysusers.d/{NAME}.conf",
        tmpfiles=local / f"lib/tmpfiles.d/{NAME}.conf",
        credentials=Path("/etc/credstore"),
        encrypted_credentials=Path("/etc/credstore.encrypted"),
    )


def for_user() -> Places:
    """As the XDG base directories are set."""
    data, config = _of_user()
    return Places(
        of_user=True,
        units=data / "systemd/user",
        own_units=config / "systemd/user",
        settings=config / NAME,
        state=data / NAME,
        man=data / "man",
        completions=_completions(data),
        program=Path.home() / ".local/bin/hep",
    )


def _of_user() -> tuple[Path, Path]:
    """Where this user's data and configuration are."""
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"),
        Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"),
    )


def _completions(share: Path) -> Mapping[str, Path]:
    return {
        "bash": share / "bash-completion/completions/hep",
        "zsh": share / "zsh/site-functions/_hep",
        "fish": share / "fish/vendor_completions.d/hep.fish",
    }


def programs() -> Path:
    """Where this installation's own programs are: the directory of its python3."""
    return Path(sys.prefix, "bin")
