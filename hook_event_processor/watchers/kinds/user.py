"""user: people who log in and out, and accounts that come and go."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any

from hook_event_processor.timestamp import elapsed, rfc3339
from hook_event_processor.watchers import parsers
from hook_event_processor.watchers.check import CheckFailed, Definition, Kind, Moment, Noticed, Option
from hook_event_processor.watchers.host import logins, stamps
from hook_event_processor.watchers.host.logins import Session
from hook_event_processor.watchers.host.stamps import Stamp
from hook_event_processor.watchers.notice import Notice

_LOGIN, _LOGOUT, _CREATED, _DELETED = "security.login_success", "security.logout", "user.created", "user.deleted"
_CONDITIONS = {
    "changed": (_LOGIN, _LOGOUT, _CREATED, _DELETED),
    "login": (_LOGIN,),
    "opened": (_LOGIN,),
    "started": (_LOGIN,),
    "logout": (_LOGOUT,),
    "closed": (_LOGOUT,),
    "stopped": (_LOGOUT,),
    "created": (_CREATED,),
    "deleted": (_DELETED,),
}


class _Check:
    """The logins and accounts of a name or a pattern, or all."""

    def __init__(self, definition: Definition, state: object) -> None:
        self._pattern: str = definition.options.get("username", "*")
        self._notice = Notice(definition, _CONDITIONS)
        kept = state if isinstance(state, dict) else {}
        sessions, accounts = kept.get("sessions"), kept.get("accounts")
        self._sessions = None if sessions is None else {Session(*session) for session in sessions}
        self._accounts = None if accounts is None else set(accounts)
        self._stamps: dict[str, Stamp] = {}
        self._recorded: list[Session] = []

    def look(self, moment: Moment) -> list[Noticed]:
        noticed = []
        if self._notice.wants(_CREATED, _DELETED) and self._has_changed(logins.PASSWD):
            noticed += self._compare_accounts(moment)
        if self._notice.wants(_LOGIN, _LOGOUT):
            try:
                noticed += self._compare_sessions(moment)
            except CheckFailed:
                if not noticed:  # else the next look raises it
                    raise
        return noticed

    def _has_changed(self, path: str) -> bool:
        try:
            stamp = stamps.of(path)
        except OSError:
            return True
        if stamp == self._stamps.get(path):
            return False
        if stamp.lasts():
            self._stamps[path] = stamp
        return True

    def _compare_sessions(self, moment: Moment) -> list[Noticed]:
        # Of what logind keeps, files change without their directory.
        if self._has_changed(logins.UTMP):
            self._recorded = [one for one in logins.sessions() if fnmatchcase(one.user, self._pattern)]
        before, self._sessions = self._sessions, {one for one in self._recorded if logins.is_alive(one)}
        if before is None:
            return []
        noticed = []
        for session in sorted(before - self._sessions):
            duration = elapsed(session.started, moment.time.timestamp())
            noticed += self._notice.of(moment, _LOGOUT, session.user, {**_about(session), "duration": duration})
        for session in sorted(self._sessions - before):
            noticed += self._notice.of(moment, _LOGIN, session.user, _about(session))
        return noticed

    def _compare_accounts(self, moment: Moment) -> list[Noticed]:
        before = self._accounts
        self._accounts = {name for name in logins.accounts() if fnmatchcase(name, self._pattern)}
        if before is None:
            return []
        noticed = []
        for name in sorted(self._accounts - before):
            noticed += self._notice.of(moment, _CREATED, name, {"user": name})
        for name in sorted(before - self._accounts):
            noticed += self._notice.of(moment, _DELETED, name, {"user": name})
        return noticed

    def state(self) -> object:
        return {
            "sessions": None if self._sessions is None else [list(one) for one in sorted(self._sessions)],
            "accounts": None if self._accounts is None else sorted(self._accounts),
        }


def _about(session: Session) -> dict[str, Any]:
    return {
        "user": session.user,
        "ip_address": session.remote if _is_address(session.remote) else None,
        "remote_host": session.remote or None,
        "session_id": session.terminal or str(session.pid),
        "terminal": session.terminal or None,
        "pid": session.pid or None,
        "login_time": rfc3339(session.started),
    }


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


KIND = Kind(
    name="user",
    summary="people who log in and out, and accounts that come and go",
    interval=15.0,
    example="--username root --when login",
    conditions=_CONDITIONS,
    options={"username": Option(parsers.name, "a user's name, such as root or svc-*", "the users (default all)")},
    start=_Check,
    paths=lambda _: (logins.UTMP, logins.PASSWD),
    target=lambda definition: str(definition.options.get("username", "all users")),
)
