-- 0027: what may be written past the commands is bounded as they bound it, and the audit says itself who it was.
-- Safe while older processors run: they write nothing of it, and no row is read for a constraint. Those that are there
-- keep what they have; processors leave out a hook with more.

-- To PostgreSQL NaN and infinity are longer than nothing. A hook with such a timeout never ended.
DO $$
BEGIN
    IF EXISTS (SELECT FROM hooks WHERE timeout_seconds NOT BETWEEN 0.01 AND 3600) THEN
        UPDATE hooks SET timeout_seconds = least(greatest(timeout_seconds, 0.01), 3600)
        WHERE timeout_seconds NOT BETWEEN 0.01 AND 3600;
    END IF;
END $$;

ALTER TABLE hooks
    DROP CONSTRAINT IF EXISTS hooks_timeout_limits,
    DROP CONSTRAINT IF EXISTS hooks_name_length,
    DROP CONSTRAINT IF EXISTS hooks_stack_length,
    DROP CONSTRAINT IF EXISTS hooks_event_types_length,
    ADD CONSTRAINT hooks_timeout_limits CHECK (timeout_seconds BETWEEN 0.01 AND 3600) NOT VALID,
    ADD CONSTRAINT hooks_name_length CHECK (kind <> 'lua' OR char_length(name) <= 200) NOT VALID,
    ADD CONSTRAINT hooks_stack_length CHECK (char_length(stack) <= 1000) NOT VALID,
    ADD CONSTRAINT hooks_event_types_length CHECK (octet_length(event_types::text) <= 262144) NOT VALID;
ALTER TABLE hook_versions
    DROP CONSTRAINT IF EXISTS hook_versions_text_length,
    ADD CONSTRAINT hook_versions_text_length CHECK (octet_length(source_text) <= 262144) NOT VALID;
ALTER TABLE hook_libraries
    DROP CONSTRAINT IF EXISTS hook_libraries_name_length,
    ADD CONSTRAINT hook_libraries_name_length CHECK (char_length(name) <= 100) NOT VALID;
ALTER TABLE hook_library_versions
    DROP CONSTRAINT IF EXISTS hook_library_versions_text_length,
    ADD CONSTRAINT hook_library_versions_text_length CHECK (octet_length(source_text) <= 262144) NOT VALID;
-- No 64 KiB of JSON take more. Their text is not made for it: hooks write often.
ALTER TABLE hook_state
    DROP CONSTRAINT IF EXISTS hook_state_value_size,
    ADD CONSTRAINT hook_state_value_size CHECK (pg_column_size(value) <= 1048576) NOT VALID;

-- What is counted, or read, under a lock must be what the one before has left, and not an older snapshot.
CREATE OR REPLACE FUNCTION hook_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION '% is changed in transactions of the isolation level READ COMMITTED alone', TG_TABLE_NAME
            USING ERRCODE = 'invalid_transaction_state', HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED begins one.';
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER hook_in_turn BEFORE INSERT ON hook_proposals
    FOR EACH STATEMENT EXECUTE FUNCTION hook_in_turn();
CREATE OR REPLACE TRIGGER hook_in_turn BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON hook_grants
    FOR EACH STATEMENT EXECUTE FUNCTION hook_in_turn();

CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_grants
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'grant');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_libraries
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'library');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_library_versions
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('versions emptied', 'library');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_versions
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('versions emptied', 'hook');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON event_types
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'event type');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hosts
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'host');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_state
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'state');

-- Who and when, whatever an INSERT says: the owner may make one.
CREATE OR REPLACE FUNCTION hook_audit_signed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.at := pg_catalog.clock_timestamp();
    NEW.role := session_user;
    NEW.client := pg_catalog.current_setting('application_name');
    NEW.address := pg_catalog.inet_client_addr();
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER hook_audit_signed BEFORE INSERT ON hook_audit
    FOR EACH ROW EXECUTE FUNCTION hook_audit_signed();

COMMENT ON CONSTRAINT hooks_timeout_limits ON hooks IS 'From a hundredth of a second to an hour.';
COMMENT ON CONSTRAINT hooks_name_length ON hooks IS 'At most 200 characters; a Python handler has its function''s name.';
COMMENT ON CONSTRAINT hooks_stack_length ON hooks IS 'At most 1,000 characters.';
COMMENT ON CONSTRAINT hooks_event_types_length ON hooks IS 'All patterns together have at most 256 KiB.';
COMMENT ON CONSTRAINT hook_versions_text_length ON hook_versions IS 'A text has at most 256 KiB.';
COMMENT ON CONSTRAINT hook_libraries_name_length ON hook_libraries IS 'At most 100 characters.';
COMMENT ON CONSTRAINT hook_library_versions_text_length ON hook_library_versions IS 'A text has at most 256 KiB.';
COMMENT ON CONSTRAINT hook_state_value_size ON hook_state IS 'More than 64 KiB of JSON ever take.';
COMMENT ON FUNCTION hook_in_turn() IS 'Refuses transactions that do not see what others have just committed.';
COMMENT ON FUNCTION hook_audit_signed() IS 'Says who it was, and when.';
COMMENT ON TRIGGER hook_in_turn ON hook_proposals IS 'Of two transactions at once, the second counts what the first has added.';
COMMENT ON TRIGGER hook_in_turn ON hook_grants IS 'Of two transactions at once, the second sees what the first has granted.';
COMMENT ON TRIGGER hook_audit_signed ON hook_audit IS 'Nobody writes in another''s name.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_grants IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_libraries IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_library_versions IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_versions IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON event_types IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hosts IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_state IS 'Keeps in hook_audit who did it.';
