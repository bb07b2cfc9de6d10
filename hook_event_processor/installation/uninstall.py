"""The steps that take an installation away, in their order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from hook_event_processor.installation import account
from hook_event_processor.installation.files import files
from hook_event_processor.installation.places import ACCOUNT, NAME, PATTERNS, RETENTION, Places, slices
from hook_event_processor.installation.settings_file import credential_files
from hook_event_processor.installation.steps import Link, Prune, Remove, Run, Step, Write, output

_CREDENTIALS = ("db_password", "database_url", "hep_secret_key")
_DATABASE = "postgresql"
_KEYS = "secret.key"  # of hooks' secrets, which lie encrypted in the database
_SHELLS = ("bash", "zsh", "fish")


def remove(places: Places, *, purge: bool) -> Iterator[Step]:
    """Stop and disable all units, and remove what was put in place; with `purge` settings, state and account, too."""
    known = output((*places.systemctl, "list-unit-files", "--plain", "--no-legend", *PATTERNS)) or ""
    # A template is indirectly so by its instances.
    states = (["enabled"], ["indirect"])
    enabled = sorted({line.split()[0] for line in known.splitlines() if line.split()[1:2] in states})
    ours = (*PATTERNS, *slices(of_user=places.of_user))
    loaded = output((*places.systemctl, "list-units", "--all", "--plain", "--no-legend", *ours)) or ""
    running = sorted({line.split()[0] for line in loaded.splitlines() if line.split()})
    if running:
        yield Run((*places.systemctl, "stop", *running), may_fail=True)
    kept = [unit for unit in running if unit.startswith((NAME, "hook-watcher")) and unit.endswith(".service")]
    if kept:
        # What one that waited to be restarted had kept for its next run.
        yield Run((*places.systemctl, "clean", "--what=runtime", *kept), may_fail=True)
    if enabled:
        # For a template it takes the links of all its instances.
        yield Run((*places.systemctl, "disable", "--quiet", *enabled))
    # When the timer last ran.
    yield Run((*places.systemctl, "clean", "--what=state", RETENTION), when=lambda: running, may_fail=True)
    yield from _files(places)
    if purge:
        yield from _data(places)
    if places.of_user:
        yield Prune(places.own_units, places.fixed)
        yield Prune(places.units.parent / "timers", places.fixed)  # where systemd noted when the timer last ran
    yield Run((*places.systemctl, "daemon-reload"))
    if running:
        yield Run((*places.systemctl, "reset-failed", *running), may_fail=True)
    if not places.of_user and shutil.which("mandb"):
        yield Run(("mandb", "--quiet"), may_fail=True)


def _files(places: Places) -> Iterator[Step]:
    written = files(places, dict.fromkeys(_SHELLS, ""), namespaces=False)
    for step in written:
        if isinstance(step, Write) or (isinstance(step, Link) and _is_ours(step)):
            yield Remove(step.path, places.fixed)
        elif isinstance(step, Remove):
            yield step


def _is_ours(link: Link) -> bool:
    return link.path.is_symlink() and link.path.readlink() == link.target


def _data(places: Places) -> Iterator[Step]:
    yield Remove(places.settings, places.fixed)
    for file in credential_files(places, _CREDENTIALS):
        yield Remove(file, places.fixed)
    if places.credentials is not None:
        yield Prune(places.credentials, places.fixed)
    # Drop-ins that `systemctl edit` made for units that are no more.
    for pattern in PATTERNS:
        for folder in places.own_units.glob(f"{pattern}.d"):
            yield Remove(folder, places.fixed | {places.own_units})
    if keeps_database(places):
        for child in sorted(places.state.iterdir()):
            if child.name not in (_DATABASE, _KEYS):
                yield Remove(child, places.fixed | {places.state})
    else:
        yield Remove(places.state, places.fixed)
    if not places.of_user and account.is_ours(places):
        yield Run(("userdel", ACCOUNT))


def keeps_database(places: Places) -> bool:
    """Whether an embedded PostgreSQL of `hep up` lies among the state: its events and secrets are not ours to take."""
    return (places.state / _DATABASE).is_dir()


def why_kept(places: Places) -> str:
    """What is kept of the state though it is purged."""
    keys = f", and {_KEYS}, without which its secrets are lost" if (places.state / _KEYS).exists() else ""
    return f"an embedded database is in it{keys}"


def leftovers(places: Places) -> list[Path]:
    """What stays without `purge`."""
    kept = [places.settings, places.state]
    return [*(path for path in kept if path.exists()), *credential_files(places, _CREDENTIALS)]
