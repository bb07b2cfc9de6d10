"""The database server: its version and clock, its connections, what stands between, and what we may do there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from hook_event_processor.doctor.finding import Area, DatabaseCheck, Finding, Kind, Level, Subject, administer, psql
from hook_event_processor.settings import Settings
from hook_event_processor.store import roles
from hook_event_processor.store.checkup import server, tables
from hook_event_processor.store.checkup.objects import schema_name

OLDEST_MAJOR, NEWEST_MAJOR = 14, 18
CLOCK_SECONDS = 1.0
# Of the connections that there may be, so many are worth a word.
_NEARLY_ALL = 0.9
# What a processor opens beside its lanes: lookout and its probe, leases, housekeeping, and at most eight sessions for
# hooks that keep state and two for those that read secrets.
_OTHER_SESSIONS = 4 + 8 + 2

VERSION = Kind(
    "server-version",
    Level.WARNING,
    f"The product is tested on PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR}. Others may do; nobody has tried.",
)
CLOCK = Kind(
    "clock-skew",
    Level.WARNING,
    "This host's clock and the database's differ. Leases and retries go by the database's clock and are right; times"
    " that hooks and watchers of this host write are not.",
)
CONNECTIONS = Kind(
    "connections",
    Level.PROBLEM,
    "There are not enough connections left for one more processor. One that starts, or reconnects after an outage,"
    " may be refused, and keeps trying.",
)
NEARLY = Kind(
    "connections-nearly-used",
    Level.WARNING,
    "Nearly all connections are in use. Whoever comes next, a publisher of events say, may be refused.",
)
SUPERUSER = Kind(
    "superuser",
    Level.NOTE,
    "The product is connected as a superuser, and needs no such rights: a role that owns its database is enough.",
)
PRIVILEGES = Kind(
    "privileges",
    Level.PROBLEM,
    "The role lacks privileges that a processor needs. What needs them fails: claiming, recording, or reading hooks.",
)
OTHER_PURPOSE = Kind(
    "not-for-processors",
    Level.NOTE,
    "The role is made for something else than to process events, and lacks what that takes. If processors use another"
    " one, all is well: whether that has what it needs, the doctor says where it is run with their settings.",
)

# What a processor's statements ask for, by table, as sql/roles.sql grants it to hook_processor.
NEEDED = {
    "hook_events": ("SELECT", "INSERT", "UPDATE"),
    "hook_events_floor": ("SELECT", "UPDATE"),
    "event_hook_executions": ("SELECT", "INSERT"),
    "hooks": ("SELECT", "INSERT", "UPDATE"),
    "hook_versions": ("SELECT",),
    "hook_registry": ("SELECT",),
    "hook_libraries": ("SELECT",),
    "hook_library_versions": ("SELECT",),
    "hook_processors": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hook_pauses": ("SELECT", "UPDATE", "DELETE"),
    "hook_paused_events": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hook_schedules": ("SELECT",),
    "hook_schedule_times": ("SELECT", "INSERT", "UPDATE"),
    "hook_suspects": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hook_state": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hook_state_locks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "hook_secrets": ("SELECT",),
    "hook_migrations": ("SELECT",),
    "event_types": ("SELECT",),
    "hosts": ("SELECT", "UPDATE"),
    "watchers": ("SELECT",),
}


def sessions_of_processor(settings: Settings) -> int:
    """How many connections one processor with these settings may have at a time."""
    return settings.lanes + _OTHER_SESSIONS


def _version(subject: Subject) -> Iterator[Finding]:
    major, minor = divmod(subject.connection.info.server_version, 10_000)
    if not OLDEST_MAJOR <= major <= NEWEST_MAJOR:
        move = 'pg_dump --format=custom --file=hep.dump "$DATABASE_URL"'
        mend = f"{move}  # and restore it on a server of {OLDEST_MAJOR} to {NEWEST_MAJOR}, with pg_restore"
        yield Finding(VERSION, f"the server is PostgreSQL {major}.{minor}", (mend,))


def now() -> float:
    """This host's clock: seconds since 1970."""
    return time.time()


def _clock(subject: Subject) -> Iterator[Finding]:
    ahead, uncertain = server.clock_ahead(subject.connection, now)
    if abs(ahead) - uncertain > CLOCK_SECONDS:
        direction = "ahead of" if ahead > 0 else "behind"
        what = f"the database's clock is {abs(ahead):.1f} s {direction} this host's"
        yield Finding(CLOCK, what, ("timedatectl set-ntp true  # on both hosts, as root",))


@dataclass(frozen=True, slots=True)
class _Limit:
    """A limit of connections, None for none; `statement` sets another when its number follows."""

    whose: str
    limit: int | None
    used: int
    statement: str
    more: tuple[str, ...] = ()


def _connections(subject: Subject) -> Iterator[Finding]:
    found = server.connections(subject.connection)
    budget = sessions_of_processor(subject.settings)
    everywhere = _Limit(
        "the server",
        found.all_limit,
        found.all_used,
        "ALTER SYSTEM SET max_connections =",
        ("systemctl restart postgresql  # takes it over",),
    )
    of_database = f'ALTER DATABASE "{found.database}" CONNECTION LIMIT'
    of_role = f'ALTER ROLE "{found.role}" CONNECTION LIMIT'
    limits = (
        everywhere,
        _Limit(f"the database {found.database}", found.database_limit, found.database_used, of_database),
        _Limit(f"the role {found.role}", found.role_limit, found.role_used, of_role),
    )
    for one in limits:
        if one.limit is None:
            continue
        what = f"{one.whose} has {one.used} of {one.limit} connections in use; a processor takes up to {budget}"
        statement = f"{one.statement} {max(one.limit * 2, one.used + 4 * budget)}"
        mend = (administer(statement, subject.connection), *one.more)
        if one.limit - one.used < budget:
            yield Finding(CONNECTIONS, what, mend)
        elif one.used > one.limit * _NEARLY_ALL:
            yield Finding(NEARLY, what, mend)


def _privileges(subject: Subject) -> Iterator[Finding]:
    if server.is_superuser(subject.connection):
        yield Finding(
            SUPERUSER,
            f"the role {subject.connection.info.user} is a superuser",
            (f"{psql('CREATE ROLE hep LOGIN')}  # and let it own the database: docs/operations.md",),
        )
        return
    role, lacking = subject.connection.info.user, tables.lacking(subject.connection, NEEDED)
    become_processor = administer(f'GRANT hook_processor TO "{role}"', subject.connection)
    purposes = {*roles.of_session(subject.connection)}
    if lacking and purposes and not purposes & {"hook_owner", "hook_processor"}:
        yield Finding(
            OTHER_PURPOSE,
            f"the role {role} belongs to {', '.join(sorted(purposes))}",
            (f"{become_processor}, if it is to process",),
        )
        return
    schema = schema_name(subject.connection)
    for table, privileges in lacking.items():
        words = ", ".join(privileges)
        mend = (
            administer(f'GRANT {words} ON {schema}.{table} TO "{role}"', subject.connection),
            f"hep db roles && {become_processor}: or all that is needed at once",
        )
        yield Finding(PRIVILEGES, f"the role {role} may not {words} on {table}", mend)


AREA = Area(
    "server",
    "the server's version and clock, its limits of connections, the role's privileges",
    (
        DatabaseCheck(_version, (VERSION,)),
        DatabaseCheck(_clock, (CLOCK,)),
        DatabaseCheck(_connections, (CONNECTIONS, NEARLY)),
        DatabaseCheck(_privileges, (SUPERUSER, PRIVILEGES, OTHER_PURPOSE)),
    ),
)
