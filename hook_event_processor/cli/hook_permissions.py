"""What a hook's modules need of this host's policy, and what it grants them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hook_event_processor.policy import Grants

# Modules that need a permission, and the setting that gives it.
_SETTINGS = {
    "env": "HOOK_ENV",
    "exec": "HOOK_EXEC",
    "file": "HOOK_FILE_ROOTS",
    "http": "HOOK_HTTP_ALLOW",
    "notify": "HOOK_HTTP_ALLOW",
    "secret": "HOOK_SECRETS",
}


@dataclass(frozen=True, slots=True)
class Use:
    """A module that a hook uses: what it may do with it ('' for nothing), and the setting that would grant it."""

    module: str
    granted: str
    setting: str | None

    @property
    def missing(self) -> bool:
        return self.setting is not None and not self.granted


def uses(modules: Iterable[str], grants: Grants) -> list[Use]:
    """Each module with what `grants` let a hook do with it."""
    return [
        Use(module, _granted(module, grants) if module in _SETTINGS else "needs no permission", _SETTINGS.get(module))
        for module in modules
    ]


def missing_line(use: Use) -> str:
    """What to do about a module that is used and not granted."""
    return (
        f"{use.module} is not granted to it on this host: {use.setting},"
        " or an entry for the hook or its stack in HOOK_POLICY, grants it"
    )


def _granted(module: str, grants: Grants) -> str:
    if module == "exec":
        return "all programs" if grants.exec is True else ", ".join(grants.exec or ())
    if module in ("http", "notify"):
        allowed = ", ".join("public hosts" if host == "*" else host for host in grants.http_allow)
        denied = f", but not {', '.join(grants.http_deny)}" if grants.http_deny else ""
        return allowed and allowed + denied
    if module == "file":
        return ", ".join(map(str, grants.file_roots))
    return ", ".join(grants.env if module == "env" else grants.secrets)
