-- 0019: acknowledge events in place.
-- While an index depended on `processed`, every acknowledgement wrote a new
-- entry into each index of the table. Now none does: the new version of a row
-- finds room on its own page (a heap-only tuple), which halves what PostgreSQL
-- spends on an event. Claims pass what is done by a seq up to which nothing waits.
CREATE TABLE IF NOT EXISTS hook_events_floor (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    seq bigint NOT NULL,
    patrolled_at timestamptz
);
INSERT INTO hook_events_floor (seq)
SELECT coalesce(
    (SELECT seq - 1 FROM hook_events
     WHERE NOT processed AND available_at IS NULL AND failed_at IS NULL AND priority = 5 ORDER BY seq LIMIT 1),
    (SELECT max(seq) FROM hook_events), 0)
ON CONFLICT DO NOTHING;

ALTER TABLE hook_events ADD COLUMN IF NOT EXISTS dequeued boolean NOT NULL DEFAULT FALSE;
UPDATE hook_events SET dequeued = TRUE
WHERE processed AND NOT dequeued AND (priority <> 5 OR available_at IS NOT NULL OR failed_at IS NOT NULL);

-- A page is filled to not quite the half: the rest takes what its rows become,
-- each some bytes longer.
ALTER TABLE hook_events SET (fillfactor = 48);

DROP INDEX IF EXISTS hook_events_fresh, hook_events_prioritized, hook_events_due, hook_events_failed;
-- Fresh rows of the default priority, and those that are done: claims read on from the floor.
CREATE INDEX hook_events_fresh ON hook_events (seq)
    WHERE available_at IS NULL AND failed_at IS NULL AND priority = 5;
-- Fresh rows of any other priority: a claim looks at 1 to 4 first and at 6 to 10 last.
CREATE INDEX hook_events_prioritized ON hook_events (priority, seq)
    WHERE NOT dequeued AND available_at IS NULL AND failed_at IS NULL AND priority <> 5;
-- Scheduled, retried, reset and leased rows, by the time at which they may be claimed.
CREATE INDEX hook_events_due ON hook_events (needs_slot, available_at)
    WHERE NOT dequeued AND available_at IS NOT NULL AND failed_at IS NULL;
-- Dead letters, newest first.
CREATE INDEX hook_events_failed ON hook_events (failed_at)
    WHERE NOT dequeued AND failed_at IS NOT NULL;

-- What is done, or made pending again, by a statement of somebody's own is
-- where claims look for it. The hot UPDATE never meets the condition.
CREATE OR REPLACE FUNCTION hook_events_requeue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.dequeued := NEW.processed;
    IF NOT NEW.processed THEN
        NEW.lease_token := NULL;
        -- Its seq lies behind the floor; it is found by its time.
        IF NEW.available_at IS NULL THEN
            NEW.available_at := pg_catalog.clock_timestamp();
        END IF;
        IF pg_catalog.current_setting('hook_events.notify', true) IS DISTINCT FROM 'off' THEN
            PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'reset');
        END IF;
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER IF EXISTS hook_events_requeue ON hook_events;
CREATE TRIGGER hook_events_requeue BEFORE UPDATE OF processed, available_at, failed_at, priority, seq ON hook_events
    FOR EACH ROW WHEN (
        NEW.processed AND NOT NEW.dequeued
            AND (NEW.priority <> 5 OR NEW.available_at IS NOT NULL OR NEW.failed_at IS NOT NULL)
        OR OLD.processed AND NOT NEW.processed
        OR NOT NEW.processed AND NEW.available_at IS NULL AND NEW.failed_at IS NULL AND NEW.priority = 5
            AND (OLD.available_at IS NOT NULL OR OLD.failed_at IS NOT NULL OR OLD.priority <> 5 OR OLD.seq <> NEW.seq))
    EXECUTE FUNCTION hook_events_requeue();

-- Rows that come in as done, out of an archive for example.
CREATE OR REPLACE FUNCTION hook_events_dequeue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE pg_catalog.format('UPDATE %I.hook_events SET dequeued = TRUE WHERE id = $1', TG_TABLE_SCHEMA) USING NEW.id;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS hook_events_dequeue ON hook_events;
CREATE TRIGGER hook_events_dequeue AFTER INSERT ON hook_events
    FOR EACH ROW WHEN (
        NEW.processed AND NOT NEW.dequeued
        AND (NEW.priority <> 5 OR NEW.available_at IS NOT NULL OR NEW.failed_at IS NOT NULL))
    EXECUTE FUNCTION hook_events_dequeue();

-- An empty table may count its rows anew.
CREATE OR REPLACE FUNCTION hook_events_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE pg_catalog.format('UPDATE %I.hook_events_floor SET seq = 0', TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS hook_events_emptied ON hook_events;
CREATE TRIGGER hook_events_emptied AFTER TRUNCATE ON hook_events
    FOR EACH STATEMENT EXECUTE FUNCTION hook_events_emptied();

COMMENT ON TABLE hook_events_floor IS 'One row: where claims begin to read hook_events_fresh.';
COMMENT ON COLUMN hook_events_floor.only_row IS 'TRUE: there is one row.';
COMMENT ON COLUMN hook_events_floor.seq IS 'No row up to this seq is fresh and of the default priority.';
COMMENT ON COLUMN hook_events_floor.patrolled_at IS 'When the history up to the floor was last looked through for rows that should not be there.';
COMMENT ON CONSTRAINT hook_events_floor_only_row_check ON hook_events_floor IS 'There is one row.';
COMMENT ON COLUMN hook_events.dequeued IS 'TRUE once a row that is found by its priority or its time is done; others are passed by the floor.';
COMMENT ON INDEX hook_events_fresh IS 'Claims: fresh rows of the default priority, in order, from the floor on.';
COMMENT ON INDEX hook_events_prioritized IS 'Claims: fresh rows of every other priority.';
COMMENT ON INDEX hook_events_due IS 'Claims: scheduled, retried, reset and leased rows, by time.';
COMMENT ON INDEX hook_events_failed IS 'Dead letters.';
COMMENT ON FUNCTION hook_events_requeue() IS 'Keeps rows that were changed by hand where claims look for them.';
COMMENT ON FUNCTION hook_events_dequeue() IS 'Takes rows that come in as done out of the indexes of claims.';
COMMENT ON FUNCTION hook_events_emptied() IS 'Lets an emptied table count anew.';
COMMENT ON TRIGGER hook_events_requeue ON hook_events IS 'Keeps rows that were changed by hand where claims look for them.';
COMMENT ON TRIGGER hook_events_dequeue ON hook_events IS 'Takes rows that come in as done out of the indexes of claims.';
COMMENT ON TRIGGER hook_events_emptied ON hook_events IS 'Lets an emptied table count anew.';
