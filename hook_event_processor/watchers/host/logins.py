"""Who is logged in, and which accounts there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from hook_event_processor.watchers.check import CheckFailed
from hook_event_processor.watchers.host import proc

UTMP = "/run/utmp"
PASSWD = "/etc/passwd"  # noqa: S105 - the accounts' file
SESSIONS = "/run/systemd/sessions"
_MAX_PASSWD = 64 << 20


class Session(NamedTuple):
    """A login: who, on which terminal, from where, since when (Unix seconds), and the process that it lives with."""

    user: str
    terminal: str
    remote: str
    started: float
    pid: int


def sessions() -> list[Session]:
    """The logins that are recorded: in utmp, or by logind where nobody keeps that any more. Raises CheckFailed."""
    if os.path.exists(UTMP):
        # 2 MB that only those need who watch logins. It publishes no types.
        import psutil  # type: ignore[import-untyped]

        return [
            Session(user.name, user.terminal or "", user.host or "", user.started, user.pid or 0)
            for user in psutil.users()
        ]
    if os.path.isdir(SESSIONS):
        return list(_logind_sessions())
    raise CheckFailed(f"nobody records logins here: there is neither {UTMP} nor {SESSIONS}")


def _logind_sessions() -> Iterator[Session]:
    for name in sorted(os.listdir(SESSIONS)):
        path = f"{SESSIONS}/{name}"
        try:
            text = "" if name.endswith(".ref") else proc.read(path).decode("utf-8", "replace")
        except OSError:
            continue  # it ended meanwhile
        fields = dict(line.partition("=")[::2] for line in text.splitlines())
        if fields.get("CLASS") == "user" and fields.get("STATE") != "closing":
            yield Session(
                fields.get("USER", ""),
                fields.get("TTY", ""),
                fields.get("REMOTE_HOST", ""),
                int(fields.get("REALTIME", "0")) / 1e6,
                int(fields.get("LEADER", "0")),
            )


def is_alive(session: Session) -> bool:
    """Whether its process is there: whoever is killed does not sign out."""
    try:
        if session.pid:
            os.kill(session.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def accounts() -> list[str]:
    """The names of the accounts of /etc/passwd, in its order. Raises CheckFailed."""
    try:
        text = proc.read(PASSWD, _MAX_PASSWD).decode("utf-8", "replace")
    except OSError as fault:
        raise CheckFailed(f"cannot read {PASSWD}: {fault.strerror}") from fault
    return [line.partition(":")[0] for line in text.split("\n") if line and line[0] not in "#+-"]
