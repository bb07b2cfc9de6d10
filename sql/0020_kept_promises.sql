-- 0020: what the roles of roles.sql must not do, and what the audit is to see, whatever way is taken.
-- Safe while older processors run: they change no hooks but their handlers.

-- A processor counts the runs of all hooks, and registers its handlers. What
-- says what a hook runs for is for those alone who may also disable it.
CREATE OR REPLACE FUNCTION hook_own_handlers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the role % may change handlers alone, and % is a Lua hook',
            quote_ident(current_user), quote_literal(OLD.name)
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE OR REPLACE TRIGGER hook_own_handlers BEFORE UPDATE OF event_types, description ON hooks
    FOR EACH ROW
    WHEN (OLD.kind <> 'python' AND NOT has_column_privilege(current_user, 'hooks'::regclass, 'enabled', 'UPDATE'))
    EXECUTE FUNCTION hook_own_handlers();

-- Texts that a trigger of somebody's own adds, too; but not the versions that go with their hook.
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE ON hook_versions
    FOR EACH ROW EXECUTE FUNCTION hook_audit_text('hook', 'hooks', 'hook_id');
CREATE OR REPLACE TRIGGER hook_audit_removed AFTER DELETE ON hook_versions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION hook_audit_text('hook', 'hooks', 'hook_id');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE ON hook_library_versions
    FOR EACH ROW EXECUTE FUNCTION hook_audit_text('library', 'hook_libraries', 'library_id');
CREATE OR REPLACE TRIGGER hook_audit_removed AFTER DELETE ON hook_library_versions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION hook_audit_text('library', 'hook_libraries', 'library_id');

-- State is the hooks' own where a processor writes it. Anybody may call a session
-- as it does; a role that is a processor's can write the row that each has of itself.
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_state
    FOR EACH ROW WHEN (NOT (
        current_setting('application_name') IN ('hook-event-processor state', 'hook-event-processor housekeeping')
        AND has_table_privilege(session_user, 'hook_processors'::regclass, 'INSERT')))
    EXECUTE FUNCTION hook_audit_row('state', 'key', 'value');

-- As in 0015, one after the other: whoever waits here sees then what the one before has granted.
CREATE OR REPLACE FUNCTION hook_grants_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    limited name[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(TG_TABLE_SCHEMA || '.hook_grants'), 0);
    limited := (SELECT array_agg(DISTINCT role) FROM hook_grants WHERE kind = 'source');
    IF limited IS NOT NULL THEN
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER hook_events_limited AFTER INSERT ON hook_events FOR EACH ROW'
            ' WHEN (session_user = ANY (%L::name[])) EXECUTE FUNCTION hook_events_limited()', limited);
        COMMENT ON TRIGGER hook_events_limited ON hook_events IS 'Refuses what single roles may not publish.';
    ELSIF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'hook_events'::regclass AND tgname = 'hook_events_limited') THEN
        DROP TRIGGER hook_events_limited ON hook_events;
    END IF;
    RETURN NULL;
END $$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION hook_grants_changed() SET search_path = pg_catalog, %s, pg_temp',
                   (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'hook_events'::regclass));
END $$;

COMMENT ON FUNCTION hook_own_handlers() IS 'Refuses that a processor changes what hooks run for.';
COMMENT ON TRIGGER hook_own_handlers ON hooks IS 'Processors change the rows of their handlers, and of others only counters.';
COMMENT ON TRIGGER hook_audit_removed ON hook_versions IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_removed ON hook_library_versions IS 'Keeps in hook_audit who did it.';

-- The limits of grants that were made at once. At the end: where there are any, it locks hook_events.
UPDATE hook_grants SET value = value WHERE FALSE;
