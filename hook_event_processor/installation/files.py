"""The files of an installation: units with their drop-ins, man pages, completions, accounts and directories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hook_event_processor.installation.places import NAME, Places, programs
from hook_event_processor.installation.settings_file import encrypted_credential
from hook_event_processor.installation.steps import Link, Remove, Step, Write

_PACKAGE = Path(__file__).parents[1]
_UNIT_SUFFIXES = (".service", ".timer", ".target")
# systemd reads drop-ins by their names, whatever their directory: before override.conf, so that `systemctl edit` wins.
_FIRST = "10-"
_FISH_BEFORE = Path("/usr/local/share/fish/vendor_completions.d/hep.fish")  # its place in earlier versions
_NAMESPACES = "no-user-namespaces.conf"
# Drop-ins by unit, in the system's manager.
_FOR_MACHINE: Mapping[str, tuple[str, ...]] = {
    f"{NAME}.service": ("system.conf",),
    f"{NAME}@.service": ("system.conf",),
    "hook-emit@.service": ("system.conf", "emit-system.conf"),
    "hook-retention.service": ("system.conf",),
    "hook-watcher.service": ("watcher-system.conf",),
    "hook-watcher@.service": ("watcher-system.conf",),
}


def files(places: Places, completions: Mapping[str, str], *, namespaces: bool) -> Iterator[Step]:
    """What to write; `completions` by shell. Without `namespaces`, a user's units do without those of the kernel."""
    if places.sysusers is not None:
        yield Write(places.sysusers, _text("sysusers.conf"))
    if places.tmpfiles is not None:
        yield Write(places.tmpfiles, _text("tmpfiles.conf"))
    for unit in units():
        yield Write(places.units / unit.name, _with_program(unit.read_text(encoding="utf-8")))
        for name, text in _drop_ins(places, unit.name, namespaces=namespaces):
            folder = places.units / f"{unit.name}.d"
            yield Write(folder / f"{_FIRST}{name}", text)
            yield Remove(folder / name, places.fixed)  # its name in earlier versions
    for page in man_pages():
        yield Write(places.man / f"man{page.suffix[1:]}" / page.name, page.read_text(encoding="utf-8"))
    for shell, text in completions.items():
        yield Write(places.completions[shell], text)
    if not places.of_user:
        yield Remove(_FISH_BEFORE, places.fixed)
    if places.program != programs() / "hep":
        yield Link(places.program, programs() / "hep")


def units() -> list[Path]:
    """The unit files that the package has."""
    return sorted(file for file in _folder().iterdir() if file.suffix in _UNIT_SUFFIXES)


def man_pages() -> list[Path]:
    """The man pages that the package has: none in a checkout, where the wheel's build has not made them."""
    folder = _PACKAGE / "man"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _drop_ins(places: Places, unit: str, *, namespaces: bool) -> Iterator[tuple[str, str]]:
    if not places.of_user:
        for name in _FOR_MACHINE.get(unit, ()):
            yield name, _with_encrypted(places, _text(name))
    elif unit.endswith(".service"):
        # ProtectSystem= leaves nothing writable but what is named; %E and %S are no help, XDG_DATA_HOME has a say.
        yield "user.conf", f"[Service]\nEnvironment=HEP_HOME={places.state}\nReadWritePaths=-{places.state}\n"
        if not namespaces:
            yield _NAMESPACES, _text(_NAMESPACES)


def _with_program(unit: str) -> str:
    """The unit, with this installation's programs before the system's."""
    return re.sub(r"^ExecSearchPath=.*", f"ExecSearchPath={programs()}:/usr/local/bin:/usr/bin:/bin", unit, flags=re.M)


def _with_encrypted(places: Places, drop_in: str) -> str:
    """The drop-in, with those credentials decrypted that are there encrypted: a unit has one of a name."""

    def directive(found: re.Match[str]) -> str:
        file = encrypted_credential(places, found[1])
        return f"LoadCredentialEncrypted={found[1]}:" if file is not None and file.is_file() else found[0]

    return re.sub(r"^LoadCredential=(\w+):", directive, drop_in, flags=re.M)


def _text(name: str) -> str:
    return _folder().joinpath(name).read_text(encoding="utf-8")


def _folder() -> Path:
    """systemd/ as installed inside the package, or beside it in a checkout."""
    installed = _PACKAGE / "systemd"
    return installed if installed.is_dir() else _PACKAGE.parent / "systemd"
