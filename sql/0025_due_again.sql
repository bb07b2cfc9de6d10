-- 0025: an event that was put off, or had failed, and that a statement of somebody's own lets come at once, is due by its
-- time whatever its priority: of what is fresh no claim asks which hooks have succeeded.
DROP TRIGGER IF EXISTS hook_events_requeue ON hook_events;
CREATE TRIGGER hook_events_requeue BEFORE UPDATE OF processed, available_at, failed_at, priority, seq ON hook_events
    FOR EACH ROW WHEN (
        NEW.processed AND NOT NEW.dequeued
            AND (NEW.priority <> 5 OR NEW.available_at IS NOT NULL OR NEW.failed_at IS NOT NULL)
        OR OLD.processed AND NOT NEW.processed
        OR NOT NEW.processed AND NEW.available_at IS NULL AND NEW.failed_at IS NULL
            AND (OLD.available_at IS NOT NULL OR OLD.failed_at IS NOT NULL
                 OR NEW.priority = 5 AND (OLD.priority <> 5 OR OLD.seq <> NEW.seq)))
    EXECUTE FUNCTION hook_events_requeue();
COMMENT ON TRIGGER hook_events_requeue ON hook_events IS 'Keeps rows that were changed by hand where claims look for them.';
