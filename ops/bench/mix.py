"""A thousand watchers as a host may have them: how many of each type, and what each looks at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MIX = {
    "file": 400, "directory": 60, "log": 100, "process": 120, "port": 120, "service": 40, "cpu": 40, "memory": 40,
    "swap": 10, "disk": 20, "load": 20, "network": 10, "connection": 10, "user": 5, "package": 5,
}  # fmt: skip
# Where systemd runs, most of them are there.
_UNITS = ("systemd-journald", "systemd-logind", "dbus", "cron", "ssh")


def options_of(folder: Path, type_name: str, number: int) -> Mapping[str, str]:
    """The options of one of them; the file, directory or log that it looks at is made below the folder."""
    path = folder / f"{type_name}-{number // 20}" / str(number)
    if type_name in ("file", "log", "directory"):
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if type_name == "directory" else path.write_text("once\n")
    of_type = {
        "file": {"path": str(path)},
        "directory": {"path": str(path)},
        "log": {"path": str(path), "pattern": "ERROR"},
        "process": {"name": f"worker-{number}"},
        "port": {"port": str(20_000 + number)},
        "service": {"name": _UNITS[number % len(_UNITS)]},
        "load": {"threshold": "1000"},
        "cpu": {"threshold": "99.9"},
        "memory": {"threshold": "99.9"},
        "disk": {"path": "/", "threshold": "99.9"},
        "network": {"interface": "lo"},
        "connection": {"remote_port": str(20_000 + number)},
        "package": {"name": f"package-{number}"},
        "command": {"command": "true"},
        "custom": {"command": "true"},
    }
    return of_type.get(type_name, {})
