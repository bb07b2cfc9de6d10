"""secret: values that hooks are granted, from systemd's credentials or from the encrypted table."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from time import monotonic

from psycopg import Error

from hook_event_processor.errors import SecretRefused, StoreUnavailable
from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services
from hook_event_processor.store import key_ring, secrets
from hook_event_processor.store.database import one_line
from hook_event_processor.store.session_pool import SessionPool

_KEPT_SECONDS = 5.0  # a value that was set anew is live after this time
_KEPT_FAILURE_SECONDS = 1.0
_MAX_KEPT = 256
_SESSIONS = 2
_SECONDS = 1.0  # a claim waits for it
_SHARE_OF_LEFT = 0.9


def functions(services: Services) -> Mapping[str, Function]:
    reader = _Reader(services)
    return {"secret.kept": Function(reader.kept), "secret.get": Function(reader.get, waits=True)}


class _Reader:
    """Reads secrets, and keeps them for a short time: many runs ask for the same one."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._pool = SessionPool(services.database, "secrets", _SESSIONS) if services.database is not None else None
        self._lock = threading.Lock()
        # Until when, and the value or why there is none.
        self._kept: OrderedDict[str, tuple[float, bytes | str]] = OrderedDict()

    def kept(self, call: Call, name: object) -> bytes | None:
        """The value, if it was read a short time ago."""
        wanted = _permitted(call, name)
        found = self._recent(wanted)
        return _handed_out(call, wanted, found) if isinstance(found, bytes) else None

    def get(self, call: Call, name: object) -> bytes:
        wanted = _permitted(call, name)
        found = self._recent(wanted)
        if found is None:
            found = self._read(call, wanted)
            self._keep(wanted, found)
        if isinstance(found, str):
            raise Failed(found)
        return _handed_out(call, wanted, found)

    def _recent(self, name: str) -> bytes | str | None:
        with self._lock:
            until, found = self._kept.get(name, (0.0, ""))
            return found if monotonic() < until else None

    def _keep(self, name: str, found: bytes | str) -> None:
        seconds = _KEPT_SECONDS if isinstance(found, bytes) else _KEPT_FAILURE_SECONDS
        with self._lock:
            self._kept[name] = (monotonic() + seconds, found)
            self._kept.move_to_end(name)
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)

    def _read(self, call: Call, name: str) -> bytes | str:
        """The value, or why there is none."""
        try:
            value = _credential(name)
            if value is None:
                value = self._stored(call, name)
        except (SecretRefused, StoreUnavailable) as fault:
            return f"the secret {name!r} cannot be read: {fault}"
        except Error as fault:
            return f"the secret {name!r} cannot be read: the database refused: {one_line(fault)}"
        return value if value is not None else f"there is no secret {name!r}: 'hep secret set {name}' adds it"

    def _stored(self, call: Call, name: str) -> bytes | None:
        row = self._row(call, name)
        if row is None:
            return None
        ring = key_ring.load(self._settings)
        if ring is None:
            raise SecretRefused(f"its key {row.key_id} is not here: {key_ring.file_of(self._settings)} does not exist")
        if all(key.id != row.key_id for key in ring.keys):  # a rotation may have ended since the row was read
            row = self._row(call, name)
        return row.open(ring) if row is not None else None

    def _row(self, call: Call, name: str) -> secrets.Sealed | None:
        if self._pool is None:
            raise StoreUnavailable("there is no database here")
        with self._pool.session(min(call.left * _SHARE_OF_LEFT, _SECONDS)) as session:
            return secrets.get(session, name)


def _permitted(call: Call, name: object) -> str:
    if not isinstance(name, bytes):
        raise Misused("secret.get takes a name")
    try:
        wanted = secrets.check_name(name.decode(errors="replace"))
    except SecretRefused as fault:
        raise Misused(str(fault)) from None
    if not any(fnmatchcase(wanted, granted) for granted in call.grants.secrets):
        raise call.refusal("secret", f"the secret {wanted!r}")
    return wanted


def _handed_out(call: Call, name: str, value: bytes) -> bytes:
    call.secrets.add(value)
    call.accessed.add(name)
    return value


def _credential(name: str) -> bytes | None:
    directory = key_ring.credentials_directory()
    if directory is None:
        return None
    try:
        with (directory / name).open("rb") as stream:
            value = stream.read(secrets.MAX_VALUE_BYTES + 2)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SecretRefused(f"the credential cannot be read: {fault.strerror}") from None
    return secrets.check_value(secrets.without_line_break(value))
