-- 0004: the audit trail, one row for each run of a hook.
-- No foreign keys: one would cost a quarter of the throughput; retention
-- removes executions with their events.
CREATE TABLE IF NOT EXISTS event_hook_executions (
    id bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    hook_id bigint NOT NULL,
    hook_name text NOT NULL,
    success boolean NOT NULL,
    output text,
    error text,
    duration_ms double precision NOT NULL,
    executed_at timestamptz NOT NULL DEFAULT now(),
    attempt smallint NOT NULL DEFAULT 1,
    result text NOT NULL DEFAULT 'continue',
    version integer NOT NULL DEFAULT 1,
    node text NOT NULL DEFAULT '',
    -- Serves "the latest runs of this hook" without an index of its own.
    PRIMARY KEY (hook_id, id)
);

CREATE INDEX IF NOT EXISTS event_hook_executions_event ON event_hook_executions (event_id);
CREATE INDEX IF NOT EXISTS event_hook_executions_failed ON event_hook_executions (hook_id, id) WHERE NOT success;
CREATE INDEX IF NOT EXISTS event_hook_executions_time ON event_hook_executions USING brin (executed_at);

COMMENT ON TABLE event_hook_executions IS 'Every run of every hook: when, how long, with what outcome.';
COMMENT ON COLUMN event_hook_executions.id IS 'Grows with time.';
COMMENT ON COLUMN event_hook_executions.event_id IS 'The event.';
COMMENT ON COLUMN event_hook_executions.hook_id IS 'The hook; it may have been removed since.';
COMMENT ON COLUMN event_hook_executions.hook_name IS 'The hook''s name at the time.';
COMMENT ON COLUMN event_hook_executions.success IS 'Whether the run ended well.';
COMMENT ON COLUMN event_hook_executions.output IS 'What it logged and printed, and the message that it returned.';
COMMENT ON COLUMN event_hook_executions.error IS 'Why it failed, with the traceback.';
COMMENT ON COLUMN event_hook_executions.duration_ms IS 'Wall time of the run in milliseconds.';
COMMENT ON COLUMN event_hook_executions.executed_at IS 'When the run began.';
COMMENT ON COLUMN event_hook_executions.attempt IS 'Which attempt at the event it belongs to, from 1.';
COMMENT ON COLUMN event_hook_executions.result IS 'How it ended: continue, filtered, failed, timeout, memory, stuck, refused.';
COMMENT ON COLUMN event_hook_executions.version IS 'The hook''s version that ran.';
COMMENT ON COLUMN event_hook_executions.node IS 'The processor that ran it.';
COMMENT ON INDEX event_hook_executions_event IS 'The runs of an event.';
COMMENT ON INDEX event_hook_executions_failed IS 'The failed runs of a hook.';
COMMENT ON INDEX event_hook_executions_time IS 'The runs of a period.';
