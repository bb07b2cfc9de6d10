"""Roles with no more than each needs, and what single ones of them may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection, errors
from psycopg.rows import class_row

from hook_event_processor.errors import HookEventProcessorError, NotFound
from hook_event_processor.store import migrate

_FILE = "roles.sql"
NAMES = (
    *("hook_owner", "hook_processor", "hook_watcher", "hook_publisher"),
    *("hook_author", "hook_proposer", "hook_reader", "hook_retention"),
)


@dataclass(frozen=True, slots=True)
class Role:
    """One of the roles, and the names of those that belong to it."""

    name: str
    members: list[str]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do: `kind` is source, stack or host."""

    role: str
    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many grants a role had, and the kinds that it is not limited in any more.

    Each with the statement that takes its memberships with that right, None where there are none.
    """

    count: int
    unlimited: Mapping[str, str | None]


def of_session(connection: Connection) -> list[str]:
    """Which of the roles the session's own belongs to."""
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND pg_has_role(oid, 'USAGE') ORDER BY 1", (list(NAMES),)
    )
    return [name for (name,) in found]


def script(schema: str = "") -> str:
    """What `apply` runs, as text for psql: it ends at the first error."""
    path = f'SET LOCAL search_path TO "{schema}";\n' if schema else ""
    return f"\\set ON_ERROR_STOP on\nBEGIN;\n{path}{migrate.BEGUN}{migrate.text_of(_FILE)}COMMIT;\n"


def apply(connection: Connection) -> list[Role]:
    """Make the roles that the server lacks, and grant each what it needs in this schema; returns them.

    Raises SchemaError when the schema is not this program's, and
    HookEventProcessorError when the connection's role may not do it.
    """
    migrate.check(connection)

    def run() -> None:
        with connection.transaction():
            connection.execute((migrate.BEGUN + migrate.text_of(_FILE)).encode())

    try:
        migrate.patiently("'hep db roles'", run)
    except errors.InsufficientPrivilege as refusal:
        raise HookEventProcessorError(
            f"the role {connection.info.user!r} may not do that ({refusal.diag.message_primary}):"
            " as a superuser, run what 'hep db roles --print' prints"
        ) from None
    with connection.cursor(row_factory=class_row(Role)) as cursor:
        return cursor.execute(_ROLES, (list(NAMES),)).fetchall()


_ROLES = """
SELECT wanted.name, ARRAY(
    SELECT m.member::regrole::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
    WHERE r.rolname = wanted.name GROUP BY m.member ORDER BY 1) AS members
FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place) ORDER BY place
"""


def grant(connection: Connection, grants: Sequence[Grant]) -> int:
    """Allow what is not allowed yet; returns how much that was.

    Raises NotFound for a role that there is not, and HookEventProcessorError for sources of one that does not log in.
    """
    for role in {wanted.role for wanted in grants}:
        found = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        if found is None:
            raise NotFound(f"the database server has no role {role!r}")
        # The trigger goes by session_user: SET ROLE is no way around it, and membership is none into it.
        if not found[0] and any(wanted.role == role and wanted.kind == "source" for wanted in grants):
            raise HookEventProcessorError(
                f"the role {role!r} does not log in, and a source limits nobody but the role that has logged in:"
                " grant it to the members that do"
            )
    # In one statement: each makes the trigger anew that limits publishers.
    return connection.execute(
        "INSERT INTO hook_grants (role, kind, value) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])"
        " ON CONFLICT DO NOTHING",
        _columns(grants),
    ).rowcount


def revoke(connection: Connection, role: str, grants: Sequence[Grant] = ()) -> Revoked:
    """Take back these grants of a role, or all."""
    with connection.transaction():
        if grants:
            found = connection.execute(
                "DELETE FROM hook_grants WHERE (role, kind, value) IN"
                " (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])) RETURNING kind",
                _columns(grants),
            )
        else:
            found = connection.execute("DELETE FROM hook_grants WHERE role = %s RETURNING kind", (role,))
        kinds = [kind for (kind,) in found]
        unlimited = connection.execute(_UNLIMITED, {"role": role, "kinds": kinds}).fetchall()
    return Revoked(len(kinds), dict(unlimited))


# As the trigger on hook_events and the policies on watchers and hosts have it: without a grant there is no limit. One
# without a stack has no hooks at all. Rights that come with a membership can be used with SET ROLE where they are not
# inherited.
_UNLIMITED = """
SELECT kind, 'REVOKE ' || through || ' FROM ' || quote_ident(own.rolname)
FROM (VALUES ('source', 'hook_events', 'INSERT'), ('host', 'watchers', 'UPDATE')) AS limits (kind, relation, privilege)
JOIN pg_roles AS own ON own.rolname = %(role)s AND (kind <> 'source' OR own.rolcanlogin)
CROSS JOIN LATERAL (
    SELECT string_agg(DISTINCT quote_ident(r.rolname), ', ') FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
    WHERE m.member = own.oid AND has_any_column_privilege(r.oid, relation, privilege)) AS _ (through)
WHERE kind = ANY (%(kinds)s) AND (has_any_column_privilege(own.oid, relation, privilege) OR through IS NOT NULL)
  AND NOT EXISTS (
    SELECT FROM hook_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE g.kind = limits.kind AND CASE g.kind WHEN 'source' THEN r.oid = own.oid
                                               ELSE pg_has_role(own.oid, r.oid, 'USAGE') END)
ORDER BY kind
"""


def _columns(grants: Sequence[Grant]) -> tuple[list[str], list[str], list[str]]:
    return [g.role for g in grants], [g.kind for g in grants], [g.value for g in grants]


def granted(connection: Connection) -> list[Grant]:
    """All grants, by role."""
    with connection.cursor(row_factory=class_row(Grant)) as cursor:
        return cursor.execute(
            "SELECT role::text AS role, kind, value FROM hook_grants ORDER BY role, kind, value"
        ).fetchall()
