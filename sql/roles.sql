-- Roles with no more than each needs, for the schema that is first on the search_path.
-- Run it as a superuser, or as a role with CREATEROLE that owns the tables: hep db roles, or
--     PGOPTIONS='-c search_path=public' psql -1 -v ON_ERROR_STOP=1 -f roles.sql
-- after hep db migrate, and again after each one that applied something. What
-- these roles had on the product's tables before is taken back first, so that
-- this file says all. Nothing of the product depends on it.
--
-- They do not log in; those that do become members: GRANT hook_processor TO hep;

SET LOCAL client_min_messages = warning;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'hook_owner', 'hook_processor', 'hook_watcher', 'hook_publisher', 'hook_author', 'hook_proposer',
        'hook_reader', 'hook_retention']
    LOOP
        -- Roles are the whole server's: another database may have made them.
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;

-- hook_owner owns what the product made, and so may migrate it. Who owned it
-- before becomes a member, so that what works goes on working: to lower that
-- role, GRANT it another one of these and then REVOKE hook_owner FROM it, and
-- ALTER DATABASE ... OWNER TO hook_owner where it owns that, too.
DO $$
DECLARE
    home regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass);
    former regrole := (SELECT relowner FROM pg_class WHERE oid = 'hook_events'::regclass);
    superuser boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    thing record;
BEGIN
    -- A table may be given to a role only by one of its members, and to one that may create there.
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %s TO hook_owner', home);
    IF NOT superuser AND NOT pg_has_role('hook_owner', 'USAGE') THEN
        EXECUTE format('GRANT hook_owner TO %I', current_user);
    END IF;
    IF NOT pg_has_role(former, 'hook_owner', 'USAGE') THEN
        EXECUTE format('GRANT hook_owner TO %s', former);
    END IF;
    -- Also what migrations have added since, which belongs to whoever ran them. Not what anybody else has given
    -- such a name: a function that runs as its owner, a view or an index's expression would act for hook_owner.
    FOR thing IN
        SELECT c.oid::regclass::text AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind
        FROM pg_class c
        WHERE c.relnamespace = home AND c.relkind IN ('r', 'v', 'p') AND c.relowner <> 'hook_owner'::regrole
          AND (c.relname ~ '^hook_' OR c.relname IN (
              'hooks', 'events', 'event_hook_executions', 'event_types', 'hosts', 'watchers', 'watcher_registry'))
          AND pg_has_role(c.relowner, 'USAGE') AND pg_has_role(c.relowner, 'hook_owner', 'USAGE')
        UNION ALL
        SELECT p.oid::regprocedure::text, 'FUNCTION' FROM pg_proc p
        WHERE p.pronamespace = home AND p.proowner <> 'hook_owner'::regrole AND p.prokind = 'f'
          AND p.proname ~ '^(hook_|hooks_changed$|watchers_changed$)'
          AND pg_has_role(p.proowner, 'USAGE') AND pg_has_role(p.proowner, 'hook_owner', 'USAGE')
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO hook_owner', thing.kind, thing.name);
    END LOOP;
END $$;

-- What the others had, columns included; and nobody else makes objects beside
-- the product's, which functions that run as their owner would find.
DO $$
DECLARE
    home regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass);
    members text := 'hook_processor, hook_watcher, hook_publisher, hook_author, hook_proposer, hook_reader,'
                    ' hook_retention';
    ours record;
BEGIN
    FOR ours IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = home AND relowner = 'hook_owner'::regrole AND relkind IN ('r', 'v', 'p', 'S')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', ours.name, members);
    END LOOP;
    EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM PUBLIC, %s', home, members);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s', home, members);
END $$;

-- hook_publisher: writes events, and reads nothing. Whoever processes, watches or
-- writes hooks may, too: what they do is told by events.
GRANT INSERT (id, source, action, resource, resource_id, payload, metadata, created_at, priority, occurred_at,
              available_at)
    ON hook_events TO hook_publisher, hook_processor, hook_watcher, hook_author;

-- hook_processor: claims, runs and acknowledges. It changes the states of
-- events, and neither what they say nor the hooks that it runs.
GRANT SELECT ON hook_events, events, event_hook_executions, hooks, hook_versions, hook_libraries, hook_library_versions,
                hook_registry, hook_secrets, event_types, hook_migrations, hook_grants, watchers, watcher_registry
    TO hook_processor;
GRANT SELECT ON SEQUENCE hook_events_seq_seq TO hook_processor;
GRANT UPDATE (processed, processed_at, processing_errors, retry_count, available_at, needs_slot, lease_token,
              claimed_by, failed_at, dequeued)
    ON hook_events TO hook_processor;
GRANT SELECT, UPDATE (seq, patrolled_at) ON hook_events_floor TO hook_processor;
GRANT INSERT ON event_hook_executions TO hook_processor;
-- Python handlers, which processors register themselves, and counters. The
-- trigger hook_own_handlers keeps it from changing what Lua hooks run for.
GRANT INSERT (name, kind, event_types, description), UPDATE (event_types, description, run_count, last_run)
    ON hooks TO hook_processor;
GRANT SELECT, INSERT, UPDATE, DELETE ON hook_processors, hook_state, hook_state_locks, hook_suspects
    TO hook_processor;
-- Pauses that end, and the events that waited for it.
GRANT SELECT, UPDATE (resumed_at), DELETE ON hook_pauses TO hook_processor;
GRANT SELECT, INSERT, UPDATE (seq), DELETE ON hook_paused_events TO hook_processor; -- UPDATE to lock rows
-- Which proposals wait, for hep doctor.
GRANT SELECT (id, hook_name, state, proposed_at, proposed_by) ON hook_proposals TO hook_processor;
-- Schedules that are due.
GRANT SELECT ON hook_schedules TO hook_processor;
GRANT SELECT, INSERT (schedule_id, next_at, error), UPDATE (next_at, last_at, error) ON hook_schedule_times
    TO hook_processor;
-- That a host is silent, or of another version.
GRANT SELECT, UPDATE (status, mismatches) ON hosts TO hook_processor;

-- hook_watcher: what a host's daemon reads, and says of its host and its watchers.
GRANT SELECT ON watchers, watcher_registry, hosts, hook_migrations, hook_grants TO hook_watcher;
GRANT INSERT (name, address, tags, version, system_info, health),
      UPDATE (address, tags, version, system_info, health, status, last_seen, mismatches) ON hosts TO hook_watcher;
GRANT UPDATE (last_check, last_event, last_error) ON watchers TO hook_watcher;

-- hook_author: adds and changes hooks, and sees how they ran.
GRANT SELECT ON hooks, hook_versions, hook_libraries, hook_library_versions, hook_registry, event_hook_executions,
                event_types, hook_migrations, hook_grants, hook_suspects
    TO hook_author;
-- Which hooks are paused, and until when.
GRANT SELECT (scope, name, ends_at, resumed_at) ON hook_pauses TO hook_author;
-- Of events, that they are and of what type: to name those that its hooks ran for.
GRANT SELECT (id, type) ON events TO hook_author;
GRANT SELECT (id) ON hook_events TO hook_author;
GRANT INSERT (name, description, event_types, stack, priority, timeout_seconds, retry, enabled, version, file_path,
              modules, params, param_defaults, libraries, overrides, source),
      UPDATE (description, event_types, stack, priority, timeout_seconds, retry, enabled, version, file_path, modules,
              params, param_defaults, libraries, overrides, source, updated_at),
      DELETE
    ON hooks TO hook_author;
GRANT INSERT ON hook_versions TO hook_author;
GRANT SELECT, INSERT, UPDATE, DELETE ON hook_state TO hook_author;

-- hook_proposer: sees hooks, and may propose what an author or the owner then approves. It changes none.
GRANT SELECT ON hooks, hook_versions, hook_libraries, hook_library_versions, hook_registry, event_types, hook_migrations,
                hook_grants, hook_suspects
    TO hook_proposer;
GRANT SELECT (scope, name, ends_at, resumed_at) ON hook_pauses TO hook_proposer;
GRANT SELECT, INSERT (hook_name, stack, event_types, base_hook, base_version, source_text, file_path, said, reason),
      UPDATE (state, answer)
    ON hook_proposals TO hook_proposer, hook_author;

-- hook_reader: everything but secrets, and what hooks remember, where tokens may lie.
GRANT SELECT ON hook_events, events, event_hook_executions, hooks, hook_versions, hook_libraries, hook_library_versions,
                hook_registry, hook_processors, hook_migrations, event_types, hosts, watchers, watcher_registry,
                hook_audit, hook_grants, hook_suspects, hook_pauses, hook_paused_events, hook_schedules,
                hook_schedule_times, hook_events_floor, hook_archived_events, hook_archived_executions,
                hook_proposals
    TO hook_reader;
GRANT SELECT (name, key_id, created_at, updated_at) ON hook_secrets TO hook_reader;
GRANT SELECT (stack, scope, name, key, expires_at, updated_at) ON hook_state TO hook_reader;
GRANT SELECT ON SEQUENCE hook_events_seq_seq TO hook_reader;

-- hook_retention: removes what is old. For the account that runs hook-retention.timer.
-- claimed_by: a row can be locked by those alone who may update something of it. Archives and rules by
-- stack or for versions take more (docs/retention.md).
GRANT SELECT (ctid, id, seq, source, action, processed, priority, created_at, available_at, processed_at, failed_at),
      UPDATE (claimed_by), DELETE ON hook_events TO hook_retention;
GRANT SELECT ON hook_events_floor TO hook_retention;
GRANT SELECT (ctid, id, event_id, hook_id, hook_name, executed_at), DELETE ON event_hook_executions TO hook_retention;
GRANT SELECT (id, at), DELETE ON hook_audit TO hook_retention;
GRANT SELECT (id, state, decided_at), DELETE ON hook_proposals TO hook_retention;

-- Authors see and change the hooks of their stacks only, and so the versions,
-- executions, keys and proposals of those; proposers see them alike; watchers with grants of the kind host, those
-- hosts only. A restrictive policy binds the role that it names; everybody else
-- has what the grants above say: TRUE costs a statement nothing. The owner is
-- not asked at all.
ALTER TABLE hooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE hook_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_hook_executions ENABLE ROW LEVEL SECURITY;
ALTER TABLE hook_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE hook_proposals ENABLE ROW LEVEL SECURITY;
ALTER TABLE watchers ENABLE ROW LEVEL SECURITY;
ALTER TABLE hosts ENABLE ROW LEVEL SECURITY;

DROP POLICY IF EXISTS as_granted ON hooks;
DROP POLICY IF EXISTS as_granted ON hook_versions;
DROP POLICY IF EXISTS as_granted ON event_hook_executions;
DROP POLICY IF EXISTS as_granted ON hook_state;
DROP POLICY IF EXISTS as_granted ON hook_proposals;
DROP POLICY IF EXISTS as_granted ON watchers;
DROP POLICY IF EXISTS as_granted ON hosts;
CREATE POLICY as_granted ON hooks USING (TRUE);
CREATE POLICY as_granted ON hook_versions USING (TRUE);
CREATE POLICY as_granted ON event_hook_executions USING (TRUE);
CREATE POLICY as_granted ON hook_state USING (TRUE);
CREATE POLICY as_granted ON hook_proposals USING (TRUE);
CREATE POLICY as_granted ON watchers USING (TRUE);
CREATE POLICY as_granted ON hosts USING (TRUE);

DROP POLICY IF EXISTS own_stacks ON hooks;
DROP POLICY IF EXISTS own_stacks ON hook_versions;
DROP POLICY IF EXISTS own_stacks ON event_hook_executions;
DROP POLICY IF EXISTS own_stacks ON hook_state;
CREATE POLICY own_stacks ON hooks AS RESTRICTIVE TO hook_author, hook_proposer
    USING (stack = ANY ((SELECT hook_granted('stack'))::text[]));
-- Through hooks, whose own policy shows an author no others.
CREATE POLICY own_stacks ON hook_versions AS RESTRICTIVE TO hook_author, hook_proposer
    USING (hook_id IN (SELECT id FROM hooks));
CREATE POLICY own_stacks ON event_hook_executions AS RESTRICTIVE TO hook_author
    USING (hook_id IN (SELECT id FROM hooks));
CREATE POLICY own_stacks ON hook_state AS RESTRICTIVE TO hook_author
    USING (stack = ANY ((SELECT hook_granted('stack'))::text[]));

-- Proposals are made for one's own stacks, and of hooks that one sees. Who made one sees and withdraws it
-- whatever was granted since; a proposer that is no author, too, decides no others.
DROP POLICY IF EXISTS own_stacks ON hook_proposals;
DROP POLICY IF EXISTS proposed_stacks ON hook_proposals;
DROP POLICY IF EXISTS decided_by_authors ON hook_proposals;
CREATE POLICY own_stacks ON hook_proposals AS RESTRICTIVE TO hook_author, hook_proposer
    USING (proposed_by = session_user OR stack = ANY ((SELECT hook_granted('stack'))::text[]));
CREATE POLICY proposed_stacks ON hook_proposals AS RESTRICTIVE FOR INSERT TO hook_author, hook_proposer
    WITH CHECK (stack = ANY ((SELECT hook_granted('stack'))::text[])
                AND (base_hook IS NULL OR base_hook IN (SELECT id FROM hooks)));
CREATE POLICY decided_by_authors ON hook_proposals AS RESTRICTIVE FOR UPDATE TO hook_proposer
    USING (proposed_by = session_user OR pg_has_role('hook_author', 'USAGE'));

-- A processor adds no hooks but its own handlers.
DROP POLICY IF EXISTS own_handlers ON hooks;
CREATE POLICY own_handlers ON hooks AS RESTRICTIVE FOR INSERT TO hook_processor WITH CHECK (kind = 'python');

DROP POLICY IF EXISTS own_hosts ON watchers;
DROP POLICY IF EXISTS own_hosts ON hosts;
CREATE POLICY own_hosts ON watchers AS RESTRICTIVE TO hook_watcher
    USING ((SELECT hook_granted('host')) IS NULL OR host = ANY ((SELECT hook_granted('host'))::text[]));
CREATE POLICY own_hosts ON hosts AS RESTRICTIVE TO hook_watcher
    USING ((SELECT hook_granted('host')) IS NULL OR name = ANY ((SELECT hook_granted('host'))::text[]));
