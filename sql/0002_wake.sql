-- 0002: wake a sleeping processor, and let failed events be reset.
-- Advisory key (hashtext('<schema>.hook_events'), 2) is held by a processor
-- that is about to sleep: only then does an insert pay for a NOTIFY, which
-- makes commits wait for each other.
CREATE OR REPLACE FUNCTION hook_events_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.hashtext(TG_TABLE_SCHEMA || '.hook_events'), 2)
       -- PREPARE TRANSACTION refuses a transaction that notified: "off" leaves the event to the poll.
       AND pg_catalog.current_setting('hook_events.notify', true) IS DISTINCT FROM 'off'
    THEN
        PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'insert');
    END IF;
    -- Before any row takes its seq the transaction has its number: a claim
    -- can then tell when every smaller seq has been committed or rolled back.
    PERFORM pg_catalog.pg_current_xact_id();
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS hook_events_wake ON hook_events;
CREATE TRIGGER hook_events_wake BEFORE INSERT ON hook_events
    FOR EACH STATEMENT EXECUTE FUNCTION hook_events_wake();

-- Setting retry_count to 0 brings a failed event back by itself. The hot
-- UPDATE never names retry_count, so it never pays for this trigger.
CREATE OR REPLACE FUNCTION hook_events_reset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.failed_at := NULL;
    NEW.available_at := pg_catalog.clock_timestamp();
    NEW.lease_token := NULL;
    IF pg_catalog.current_setting('hook_events.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'reset');
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER IF EXISTS hook_events_reset ON hook_events;
CREATE TRIGGER hook_events_reset BEFORE UPDATE OF retry_count ON hook_events
    FOR EACH ROW WHEN (OLD.failed_at IS NOT NULL AND NEW.retry_count = 0 AND NOT NEW.processed)
    EXECUTE FUNCTION hook_events_reset();

COMMENT ON FUNCTION hook_events_wake() IS 'Notifies a sleeping processor of an insert; costs nothing while none sleeps.';
COMMENT ON FUNCTION hook_events_reset() IS 'Makes a failed event pending again when its retry_count is set to 0.';
COMMENT ON TRIGGER hook_events_wake ON hook_events IS 'Wakes a sleeping processor.';
COMMENT ON TRIGGER hook_events_reset ON hook_events IS 'Brings back a failed event whose retry_count is set to 0.';
