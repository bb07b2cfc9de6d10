-- 0024: a schedule whose times stay as they are keeps the one that is next: it may be due, or have been missed.
CREATE OR REPLACE TRIGGER hook_schedule_retimed
    AFTER UPDATE OF cron, every_seconds, timezone, enabled ON hook_schedules
    FOR EACH ROW
    WHEN ((OLD.cron, OLD.every_seconds, OLD.timezone, OLD.enabled)
          IS DISTINCT FROM (NEW.cron, NEW.every_seconds, NEW.timezone, NEW.enabled))
    EXECUTE FUNCTION hook_schedule_retimed();
COMMENT ON TRIGGER hook_schedule_retimed ON hook_schedules IS 'Another time: the next one is worked out anew.';

COMMENT ON COLUMN watchers.last_event IS 'When it last noticed something; written with that event.';
