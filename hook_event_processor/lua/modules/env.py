"""env: the variables of the processor's environment that policy lets hooks read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from urllib.parse import unquote, unquote_plus

from hook_event_processor.connection_values import secrets_of
from hook_event_processor.lua.door import Call, Function, Misused, Services, Value

# The product's own secrets, and the ways to them: no glob grants these.
_OWN_SECRETS = re.compile(
    r"DATABASE_URL.*|DB_PASS.*|PG.*PASS.*|PGSERVICEFILE|PGSSLKEY|CREDENTIALS_DIRECTORY|NOTIFY_SOCKET|LISTEN_FDS.*"
    r"|(HEP|HOOK|DB)_.*(KEY|SECRET|PASS|TOKEN).*",
    re.IGNORECASE,
)
_MIN_PASSWORD = 4  # characters; a shorter one stands in too many values by chance


def functions(services: Services) -> Mapping[str, Function]:
    """What env.lua calls. A variable that holds the database's password is one of the product's secrets, too."""
    secrets = secrets_of(services.settings.conninfo or "")
    passwords = [secret for secret in secrets if len(secret) >= _MIN_PASSWORD]

    def is_own_secret(name: str) -> bool:
        value = os.environ.get(name, "")
        # In a URL it stands with its special characters encoded.
        forms = (value, unquote(value), unquote_plus(value))
        holds_one = any(password in form for form in forms for password in passwords)
        return holds_one or _OWN_SECRETS.fullmatch(name) is not None

    def get(call: Call, name: bytes) -> Value:
        """The variable's value, or None when it is not set."""
        variable = name.decode("utf-8", "surrogateescape")
        if is_own_secret(variable):
            raise Misused(f"env.get: {_shown(name)} may hold a secret of the processor's own: no hook is given it")
        if not _is_granted(call, variable):
            raise call.refusal("env", f"the variable {_shown(name)}")
        value = os.environ.get(variable)
        return None if value is None else os.fsencode(value)

    def names(call: Call) -> Value:
        """The names that get would give a value for, sorted, with NUL between them."""
        granted = (name for name in os.environ if _is_granted(call, name) and not is_own_secret(name))
        return b"\0".join(sorted(os.fsencode(name) for name in granted))

    return {"env.get": Function(get), "env.list": Function(names)}


def _is_granted(call: Call, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in call.grants.env)


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
