-- 0017: where `hep events cleanup` moves events to when it is told to archive to a table.
-- The columns are those of the tables they come from, without their defaults
-- and checks: an archive refuses nothing. It has another name than the archive
-- that the original service's documentation makes by hand.
CREATE TABLE IF NOT EXISTS hook_archived_events (
    LIKE hook_events INCLUDING COMMENTS,
    archived_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS hook_archived_executions (
    LIKE event_hook_executions INCLUDING COMMENTS,
    archived_at timestamptz NOT NULL DEFAULT now()
);
-- The events get it with 0019.
ALTER TABLE hook_archived_events ADD COLUMN IF NOT EXISTS dequeued boolean NOT NULL DEFAULT FALSE;
CREATE INDEX IF NOT EXISTS hook_archived_events_id ON hook_archived_events (id);
CREATE INDEX IF NOT EXISTS hook_archived_events_time ON hook_archived_events USING brin (archived_at);
CREATE INDEX IF NOT EXISTS hook_archived_executions_event ON hook_archived_executions (event_id);

COMMENT ON TABLE hook_archived_events IS 'Events that `hep events cleanup` has moved here: the columns of hook_events.';
COMMENT ON TABLE hook_archived_executions IS 'Their executions: the columns of event_hook_executions.';
COMMENT ON COLUMN hook_archived_events.dequeued IS 'As it was in hook_events.';
COMMENT ON COLUMN hook_archived_events.archived_at IS 'When it was moved here.';
COMMENT ON COLUMN hook_archived_executions.archived_at IS 'When it was moved here.';
COMMENT ON INDEX hook_archived_events_id IS 'Looking an archived event up.';
COMMENT ON INDEX hook_archived_events_time IS 'What was archived in a period.';
COMMENT ON INDEX hook_archived_executions_event IS 'The runs of an archived event.';
