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

-- The condition of 0024, as a dump brings it back.
CREATE OR REPLACE TRIGGER hook_schedule_retimed
    AFTER UPDATE OF cron, every_seconds, timezone, enabled ON hook_schedules
    FOR EACH ROW
    WHEN (OLD.cron IS DISTINCT FROM NEW.cron OR OLD.every_seconds IS DISTINCT FROM NEW.every_seconds
          OR OLD.timezone IS DISTINCT FROM NEW.timezone OR OLD.enabled IS DISTINCT FROM NEW.enabled)
    EXECUTE FUNCTION hook_schedule_retimed();
COMMENT ON TRIGGER hook_schedule_retimed ON hook_schedules IS 'Another time: the next one is worked out anew.';
