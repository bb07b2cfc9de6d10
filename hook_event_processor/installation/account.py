"""The account that the services run as: whether there is one of its name, and whether it is ours."""

from __future__ import annotations

import pwd

from hook_event_processor.installation.places import ACCOUNT, Places

_COMMENT = "Hook event processor"  # of sysusers.conf, as is its home


def exists() -> bool:
    """Whether there is an account of that name, whosever it is."""
    return _entry() is not None


def is_ours(places: Places) -> bool:
    """Whether it was made for this program: a person of that name has another home, or another comment."""
    entry = _entry()
    return entry is not None and (entry.pw_dir, entry.pw_gecos) == (str(places.state), _COMMENT)


def made(places: Places) -> str:
    """What tells it apart, as options of usermod(8)."""
    return f"--home {places.state} --comment '{_COMMENT}'"


def _entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
