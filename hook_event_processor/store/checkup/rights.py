"""What roles may do with the product's tables, as the catalog has it: grants, row security, owners, memberships."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import class_row

EVERYBODY = "PUBLIC"
# A subquery's columns carry the name of their table, or not.
_QUALIFIER = re.compile(r"\b[a-z_]+\.(?=[a-z_\"])")
_HOME = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('hook_events'))"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """A privilege that a role was granted: `on` a table, view or sequence, '' for the schema; `column` '' for all."""

    role: str
    on: str
    privilege: str
    column: str = ""


_RIGHTS = f"""
WITH things AS (
    SELECT relname::text AS name, '' AS column, relowner AS owner, relacl AS acl
    FROM pg_class WHERE relnamespace = {_HOME} AND relkind IN ('r', 'p', 'v', 'S')
    UNION ALL
    SELECT relname, attname, relowner, attacl
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = {_HOME} AND attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT '', '', nspowner, nspacl FROM pg_namespace WHERE oid = {_HOME}
)
SELECT DISTINCT coalesce(r.rolname, '{EVERYBODY}') AS role, things.name AS on,
       granted.privilege_type || CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS privilege,
       things.column
FROM things, aclexplode(things.acl) AS granted LEFT JOIN pg_roles r ON r.oid = granted.grantee
WHERE (granted.grantee <> things.owner OR things.name = '') AND (granted.grantee = 0 OR r.rolname = ANY(%s))
ORDER BY 1, 2, 3, 4
"""


def rights(connection: Connection, roles: Sequence[str]) -> list[Right]:
    """What these roles, and everybody, were granted in the schema of hook_events; not what owners have of their own."""
    with connection.cursor(row_factory=class_row(Right)) as cursor:
        return cursor.execute(_RIGHTS, (list(roles),)).fetchall()


@dataclass(frozen=True, slots=True, order=True)
class Guard:
    """Row security of a table (`policy` ''), or one of its policies; `text` is what would make it."""

    table: str
    policy: str
    text: str

    @property
    def meaning(self) -> str:
        """The text with what PostgreSQL's versions print differently taken out."""
        return " ".join(_QUALIFIER.sub("", self.text).split())


_GUARDS = f"""
SELECT relname::text AS table, '' AS policy, 'ENABLE ROW LEVEL SECURITY' AS text
FROM pg_class WHERE relnamespace = {_HOME} AND relrowsecurity
UNION ALL
SELECT relname, polname,
       CASE WHEN polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END
       || CASE polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT' WHEN 'w' THEN ' FOR UPDATE'
                      WHEN 'd' THEN ' FOR DELETE' ELSE '' END
       || ' TO ' || (SELECT string_agg(coalesce(rolname, '{EVERYBODY}'), ', ' ORDER BY rolname)
                     FROM unnest(polroles) AS given (id) LEFT JOIN pg_roles ON oid = given.id)
       || coalesce(' USING (' || pg_get_expr(polqual, polrelid) || ')', '')
       || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid WHERE relnamespace = {_HOME}
ORDER BY 1, 2
"""


def guards(connection: Connection) -> list[Guard]:
    """Row security in the schema of hook_events."""
    with connection.cursor(row_factory=class_row(Guard)) as cursor:
        return cursor.execute(_GUARDS).fetchall()


_OWNERS = f"""
SELECT relname::text AS name, pg_get_userbyid(relowner)::text AS owner
FROM pg_class WHERE relnamespace = {_HOME} AND relkind IN ('r', 'p', 'v', 'S')
UNION ALL
SELECT proname::text || '(' || pg_get_function_identity_arguments(oid) || ')', pg_get_userbyid(proowner)
FROM pg_proc WHERE pronamespace = {_HOME} AND prokind = 'f'
"""


def owners(connection: Connection) -> dict[str, str]:
    """Who owns the relations and functions (these with their arguments) beside hook_events, by name."""
    return dict(connection.execute(_OWNERS).fetchall())


_MEMBERS = """
SELECT DISTINCT r.rolname::text AS role, m.rolname::text AS member
FROM pg_auth_members JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member
WHERE r.rolname = ANY(%(roles)s) AND m.rolname = ANY(%(roles)s) ORDER BY 1, 2
"""


def memberships(connection: Connection, roles: Sequence[str]) -> list[tuple[str, str]]:
    """Which of these roles have members among themselves: the role, and the member."""
    return [(row[0], row[1]) for row in connection.execute(_MEMBERS, {"roles": list(roles)}).fetchall()]


_NARROWED = """
SELECT login.rolname::text, narrowing.rolname::text
FROM pg_roles AS login
JOIN pg_roles AS processor ON processor.rolname = 'hook_processor' AND pg_has_role(login.oid, processor.oid, 'USAGE')
JOIN pg_roles AS narrowing
    ON narrowing.rolname IN ('hook_author', 'hook_proposer') AND pg_has_role(login.oid, narrowing.oid, 'USAGE')
WHERE login.rolcanlogin AND NOT login.rolsuper AND NOT login.rolbypassrls AND NOT EXISTS (
    SELECT FROM pg_roles AS owner WHERE owner.rolname = 'hook_owner' AND pg_has_role(login.oid, owner.oid, 'USAGE'))
ORDER BY 1, 2
"""


def narrowed_processors(connection: Connection) -> list[tuple[str, str]]:
    """Logins of processors whom another role's row security hides hooks from: the login, and that role."""
    return [(row[0], row[1]) for row in connection.execute(_NARROWED).fetchall()]
