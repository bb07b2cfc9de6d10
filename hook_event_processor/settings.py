"""Environment -> one frozen Settings; all faults are reported together."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hook_event_processor import connection_values
from hook_event_processor import setting_values as takes
from hook_event_processor.errors import SettingsError
from hook_event_processor.hook_limits import TIMEOUT_SECONDS
from hook_event_processor.policy import Grants, Policy, read_policy

_PASSWORDS = ("DB_PASSWORD", "PGPASSWORD")
# libpq's own variables (PostgreSQL manual, "Environment Variables") and the
# connection parameters that they stand for. PGSERVICEFILE stands for none: libpq
# itself takes it from the environment.
LIBPQ_VARIABLES: Mapping[str, str] = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGPASSFILE": "passfile",
    "PGSERVICE": "service",
    "PGOPTIONS": "options",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl",
    "PGREQUIREAUTH": "require_auth",
    "PGCHANNELBINDING": "channel_binding",
    "PGGSSENCMODE": "gssencmode",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGCONNECT_TIMEOUT": "connect_timeout",
}
_A_URL = "postgresql://user:password@host:port/database, with %2F, %3A and %40 for / : and @ in the password"
# Any of these names a server; the others only say how to reach one.
_NAMES_A_SERVER = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


@dataclass(frozen=True)
class Settings:
    """Everything that the environment decides.

    `conninfo` is a libpq connection string that holds the password, or None
    for the embedded server below `home`. Times are in seconds, sizes in bytes.
    """

    home: Path
    conninfo: str | None = field(repr=False)
    schema: str = ""
    poll_interval: float = 1.0
    batch_size: int = 1000
    lanes: int = 3
    workers: int = 100
    max_in_flight: int = 1000
    max_retry_count: int = 3
    retry_delay: float = 1.0
    retry_max_delay: float = 300.0
    hook_timeout: float = 30.0
    hook_memory: int = 32 * 1024 * 1024
    hook_memory_total: int = 256 * 1024 * 1024
    max_payload_size: int = 100_000
    listen: bool = True
    instance: str = ""
    log_level: str = "INFO"
    hook_exec: bool | tuple[str, ...] = False
    hook_http_allow: tuple[str, ...] = ("*",)
    hook_http_deny: tuple[str, ...] = ()
    hook_file_roots: tuple[Path, ...] = ()
    hook_env: tuple[str, ...] = ()
    hook_secrets: tuple[str, ...] = ()
    hook_secret_key_file: Path | None = None
    hook_policy: Path | None = None
    watch_exec: bool | tuple[str, ...] = False
    policy: Policy = field(default_factory=Policy)
    host_name: str = ""
    host_tags: tuple[str, ...] = ()
    watch_batch: int = 50
    watch_flush: float = 1.0
    spool_max_events: int = 100_000
    spool_max_size: int = 200 * 1024 * 1024
    spool_policy: str = "drop_oldest"
    retention: timedelta | None = timedelta(hours=720)
    audit_retention: timedelta | None = timedelta(hours=8760)
    retention_archive: str = "off"
    retention_policy: Path | None = None
    own_events: bool = True

    @property
    def host(self) -> str:
        """The name that this host has among those with watchers."""
        return self.host_name or socket.gethostname()


# Variable -> (field, parser). A parser's docstring says what the variable accepts.
VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "DB_SCHEMA": ("schema", takes.schema),
    "POLL_INTERVAL": ("poll_interval", takes.seconds(0.01, 3600)),
    "BATCH_SIZE": ("batch_size", takes.integer(1, 10_000)),
    "LANES": ("lanes", takes.integer(1, 16)),
    "WORKERS": ("workers", takes.integer(1, 10_000)),
    "MAX_IN_FLIGHT": ("max_in_flight", takes.integer(1, 100_000)),
    "MAX_RETRY_COUNT": ("max_retry_count", takes.integer(1, 10)),
    "RETRY_DELAY": ("retry_delay", takes.seconds(0, 3600)),
    "RETRY_MAX_DELAY": ("retry_max_delay", takes.seconds(0, 86_400)),
    "HOOK_TIMEOUT": ("hook_timeout", takes.seconds(*TIMEOUT_SECONDS)),
    "HOOK_MEMORY_MB": ("hook_memory", takes.megabytes(2, 1024)),
    "HOOK_MEMORY_TOTAL_MB": ("hook_memory_total", takes.megabytes(8, 65_536)),
    "HOOK_MAX_PAYLOAD_SIZE": ("max_payload_size", takes.integer(2, 100_000_000)),
    "LISTEN": ("listen", takes.switch),
    "HEP_INSTANCE": ("instance", takes.instance),
    "LOG_LEVEL": ("log_level", takes.log_level),
    "HOOK_EXEC": ("hook_exec", takes.programs),
    "HOOK_HTTP_ALLOW": ("hook_http_allow", takes.hosts),
    "HOOK_HTTP_DENY": ("hook_http_deny", takes.hosts),
    "HOOK_FILE_ROOTS": ("hook_file_roots", takes.paths),
    "HOOK_ENV": ("hook_env", takes.names),
    "HOOK_SECRETS": ("hook_secrets", takes.names),
    "HOOK_SECRET_KEY_FILE": ("hook_secret_key_file", takes.path),
    "HOOK_POLICY": ("hook_policy", takes.path),
    "WATCH_EXEC": ("watch_exec", takes.programs),
    "HOST_NAME": ("host_name", takes.host_name),
    "HOST_TAGS": ("host_tags", takes.tags),
    "WATCH_BATCH": ("watch_batch", takes.integer(1, 1000)),
    "WATCH_FLUSH": ("watch_flush", takes.seconds(0, 3600)),
    "SPOOL_MAX_EVENTS": ("spool_max_events", takes.integer(1, 100_000_000)),
    "SPOOL_MAX_MB": ("spool_max_size", takes.megabytes(1, 1_000_000)),
    "SPOOL_POLICY": ("spool_policy", takes.spool_policy),
    "RETENTION": ("retention", takes.retention),
    "AUDIT_RETENTION": ("audit_retention", takes.retention),
    "RETENTION_ARCHIVE": ("retention_archive", takes.archive),
    "RETENTION_POLICY": ("retention_policy", takes.path),
    "OWN_EVENTS": ("own_events", takes.switch),
}


def load(environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Settings:
    """Read the settings from the environment and from `dotenv` (./.env).

    The environment wins over the file, with an empty value, too: one that is empty counts as not given.
    Raises SettingsError naming every variable that is wrong and what it accepts.
    """
    values = merged(os.environ if environ is None else environ, Path(".env") if dotenv is None else dotenv)
    faults: list[str] = []
    parsed: dict[str, Any] = {}
    for name, (attribute, parse) in VARIABLES.items():
        if name in values:
            try:
                parsed[attribute] = parse(values[name])
            except (ValueError, KeyError):
                faults.append(f"{name} is {values[name]!r}: it takes {parse.__doc__}")
    try:
        conninfo = _conninfo(values)
    except SettingsError as fault:
        faults.append(str(fault))
        conninfo = None
    faults += _disagreements(Settings(home=Path(), conninfo=None, **parsed))
    try:
        home = _home(values)
    except ValueError:
        home = Path()
        faults.append(f"HEP_HOME is {values['HEP_HOME']!r}: it takes a path, without a NUL")
    except RuntimeError:  # of pathlib, where a user has none
        home = Path()
        faults.append(
            f"HEP_HOME is {values.get('HEP_HOME', '')!r}: where the user has no home, it takes a path in full"
        )
    parsed.setdefault("hook_file_roots", (home / "files",))
    parsed.setdefault("hook_secret_key_file", home / "secret.key")
    settings = Settings(home=home, conninfo=conninfo, **parsed)
    try:
        settings = replace(settings, policy=_policy(settings))
    except SettingsError as fault:
        faults.append(str(fault))
    if faults:
        raise SettingsError("; ".join(faults))
    return settings


def _policy(settings: Settings) -> Policy:
    default = Grants(
        settings.hook_exec,
        settings.hook_http_allow,
        settings.hook_http_deny,
        settings.hook_file_roots,
        settings.hook_env,
        settings.hook_secrets,
    )
    return read_policy(settings.hook_policy, default) if settings.hook_policy else Policy(default)


def _disagreements(settings: Settings) -> list[str]:
    """Settings that are each right, but not together."""
    faults = []
    # A run in a slot may wait with what it holds only beside room for another.
    least = (settings.lanes + 3) * settings.hook_memory
    if settings.hook_memory_total < least:
        with_these = f"with LANES {settings.lanes} and HOOK_MEMORY_MB {settings.hook_memory >> 20}"
        total = settings.hook_memory_total >> 20
        faults.append(f"HOOK_MEMORY_TOTAL_MB is {total}: {with_these} it takes at least {least >> 20}")
    delay, max_delay = settings.retry_delay, settings.retry_max_delay
    if max_delay < delay:
        faults.append(f"RETRY_MAX_DELAY is {max_delay:g}: it takes at least RETRY_DELAY, {delay:g}")
    return faults


def merged(environ: Mapping[str, str], dotenv: Path) -> dict[str, str]:
    """What both say that is not empty, passwords as they are written; the environment wins."""
    both = {**read_dotenv(dotenv), **environ}
    return {name: value if name in _PASSWORDS else value.strip() for name, value in both.items() if value.strip()}


def read_dotenv(path: Path) -> dict[str, str]:
    """What the file says, by name; nothing when it is not there. Raises SettingsError naming its broken lines."""
    try:
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8") as stream:
            # No interpolation: a password may hold a dollar sign.
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path} cannot be read: {fault}") from None
    broken = [_line(binding) for binding in bindings if binding.error]
    if broken:
        takes = "it takes NAME=value, with any quote closed"
        raise SettingsError("; ".join(f"{path}:{line} is no setting: {takes}" for line in broken))
    return {binding.key: binding.value or "" for binding in bindings if binding.key is not None}


def _line(binding: Binding) -> int:
    """The number of its line; what dotenv gives is that of the empty lines before it."""
    text = binding.original.string
    return binding.original.line + text[: -len(text.lstrip())].count("\n")


def credential(values: Mapping[str, str], name: str) -> str | None:
    """A secret that systemd hands over as a file (systemd.exec, LoadCredential=)."""
    directory = values.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, name) if directory else None
    if path is None or not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"the credential {name} cannot be read: {fault}") from None
    if "\0" in text:
        raise SettingsError(f"the credential {name} holds a NUL character: it takes text in UTF-8")
    return text if text.strip() else None


def _conninfo(values: Mapping[str, str]) -> str | None:
    names = ("DATABASE_URL", *LIBPQ_VARIABLES, "DB_PASSWORD", "DB_HOST", "DB_PORT", "DB_USER", "DB_NAME")
    unreadable = [name for name in names if not _is_text(values.get(name, ""))]
    if unreadable:  # no value is told: it may be a password
        raise SettingsError(f"{', '.join(unreadable)}: it takes text in UTF-8, without a NUL")
    # PG* fills what the others leave open, the credential, too, as libpq itself does.
    filled = {parameter: values[name] for name, parameter in LIBPQ_VARIABLES.items() if name in values}
    url = values.get("DATABASE_URL") or (credential(values, "database_url") or "").strip()
    variables: dict[str, str | None] = {parameter: name for name, parameter in LIBPQ_VARIABLES.items()}
    if url:
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        except ProgrammingError:
            # libpq's own message quotes the string, and the password with it.
            raise SettingsError(f"DATABASE_URL is not a connection string: it takes {_A_URL}") from None
        variables |= dict.fromkeys(given)
    elif any(name in values for name in _NAMES_A_SERVER):
        given = {}
    elif password := values.get("DB_PASSWORD") or credential(values, "db_password"):
        given = {
            "host": values.get("DB_HOST", "localhost"),
            "port": values.get("DB_PORT", "5436"),
            "user": values.get("DB_USER", "postgres"),
            "dbname": values.get("DB_NAME", "omninode_bridge"),
            "password": password,
        }
        variables["port"] = "DB_PORT"
    else:
        return None
    parameters = {**filled, **given}
    faults = [
        # What is wrong in the URL may be a part of the password.
        f"DATABASE_URL has a wrong {parameter}: it takes {takes}; the whole is {_A_URL}"
        if (variable := variables[parameter]) is None
        else f"{variable} is {values[variable]!r}: it takes {takes}"
        for parameter, takes in connection_values.wrong(parameters).items()
    ]
    if faults:
        raise SettingsError("; ".join(faults))
    return make_conninfo(**parameters)


def _is_text(value: str) -> bool:
    """Whether libpq can take it: a byte of the environment that is no UTF-8 is half a surrogate in Python."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _home(values: Mapping[str, str]) -> Path:
    """HEP_HOME, else a system directory for root, else the XDG data directory."""
    if "HEP_HOME" in values:
        if "\0" in values["HEP_HOME"]:
            raise ValueError
        return Path(values["HEP_HOME"]).expanduser().absolute()
    if os.geteuid() == 0:
        # Not what an installation's units have: systemd makes all of that their account's, a database too.
        return Path("/var/lib/hook-event-processor-root")
    data = values.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local/share") / "hook-event-processor"
