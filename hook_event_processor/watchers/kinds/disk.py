"""disk: how full file systems are."""

from __future__ import annotations

import os
from typing import Any

from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Option, WatcherRefused, number
from hook_event_processor.watchers.host import mounts
from hook_event_processor.watchers.host.mounts import Mount
from hook_event_processor.watchers.kinds import level
from hook_event_processor.watchers.kinds.edge import THRESHOLD_OPTIONS
from hook_event_processor.watchers.kinds.level import Level, Levels

_THRESHOLD = 90.0
_CONDITIONS = level.conditions("system.disk_full", "system.disk_normal")


class _Disks:
    """How full each file system is: that of one path, or all that lie on disks of this machine."""

    def __init__(self, path: str | None, field: str) -> None:
        self._path = path
        self._field = field

    def __call__(self, _: Moment) -> dict[str, Level]:
        if self._path is not None:
            mount = _mount_of(self._path)
            return {mount.point: self._level(mount, _space(self._path))}
        levels = {}
        for mount in mounts.real_mounts():
            try:
                space = _space(mount.point)
            except CheckFailed:
                continue  # unmounted meanwhile, or not for us to look at
            if space.f_blocks:
                levels[mount.point] = self._level(mount, space)
        return levels

    def _level(self, mount: Mount, space: os.statvfs_result) -> Level:
        data = _data(mount, space)
        return Level(data[self._field], self._field, data, mount.point)


def _space(path: str) -> os.statvfs_result:
    try:
        return os.statvfs(path)
    except OSError as fault:
        raise CheckFailed(f"cannot look at the file system of {path}: {fault.strerror}") from fault


def _mount_of(path: str) -> Mount:
    """Where the path's file system is mounted; of several mounts at one place, the last."""
    real = os.path.realpath(path)
    over = [mount for mount in mounts.all_mounts() if f"{real}/".startswith(f"{mount.point.rstrip('/')}/")]
    return max(enumerate(over), key=lambda item: (len(item[1].point), item[0]))[1] if over else Mount(path, "", "")


def _data(mount: Mount, space: os.statvfs_result) -> dict[str, Any]:
    """As df counts it: what is reserved for root is neither used nor available."""
    used = space.f_blocks - space.f_bfree
    inodes_used = space.f_files - space.f_ffree
    return {
        "mount_point": mount.point,
        "device": mount.device,
        "filesystem": mount.type,
        "usage_percent": _percent(used, used + space.f_bavail),
        "total_bytes": space.f_blocks * space.f_frsize,
        "used_bytes": used * space.f_frsize,
        "available_bytes": space.f_bavail * space.f_frsize,
        "inodes_total": space.f_files,
        "inodes_available": space.f_favail,
        "inodes_usage_percent": _percent(inodes_used, inodes_used + space.f_favail),
    }


def _percent(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 2) if whole > 0 else 0.0


def _start(definition: Definition, state: object) -> Levels:
    options = definition.options
    free = options.get("free")
    field = "available_bytes" if free is not None else _field(definition)
    limit = _limit(definition) if free is None else free
    disks = _Disks(options.get("path"), field)
    return Levels(definition, state, disks, _CONDITIONS, limit, above=free is None)


def _field(definition: Definition) -> str:
    return "inodes_usage_percent" if definition.options.get("inodes") else "usage_percent"


def _limit(definition: Definition) -> float:
    return float(definition.options.get("threshold", _THRESHOLD))


def _validate(definition: Definition) -> None:
    options = definition.options
    if "free" not in options:
        level.validate_percentage(definition, _limit(definition))
        return
    level.validate_size(definition)
    if "threshold" in options or options.get("inodes"):
        raise WatcherRefused("--free goes by the bytes that are left: --threshold and --inodes do not go with it")
    for condition in ("above", "below"):
        if condition in definition.conditions:
            raise WatcherRefused(
                f"--when {condition} is about the percentage in use: with --free, high tells that less is left than"
                " that, and normal that it is no longer so"
            )


def _target(definition: Definition) -> str:
    path, free = definition.options.get("path", "all disks"), definition.options.get("free")
    of = " of inodes" if definition.options.get("inodes") else ""
    limit = f"threshold: {_limit(definition):g}%{of}" if free is None else f"free: {parsers.shown_size(free)}"
    return f"{path}, {limit}"


KIND = Kind(
    name="disk",
    summary="space in use on one file system, or on each that lies on a disk",
    interval=60.0,
    example="--path / --free 5G --until-normal 1G",
    conditions=_CONDITIONS,
    options={
        "path": Option(parsers.absolute_path, "an absolute path", "look at this path's file system, not at all"),
        "threshold": Option(number(0, 100, percent=True), "a percentage from 0 to 100", "percent in use (default 90)"),
        "free": Option(parsers.size, "a size such as 5G", "look at the bytes that are left"),
        "inodes": parsers.flag("look at inodes in use in place of space"),
        **THRESHOLD_OPTIONS,
        "until_normal": Option(
            parsers.margin,
            "a percentage, or a size such as 1G with --free",
            "how far the value must come back from the threshold to be normal",
        ),
    },
    start=_start,
    blocks=True,  # a file system of another machine may not answer
    target=_target,
    validate=_validate,
)
