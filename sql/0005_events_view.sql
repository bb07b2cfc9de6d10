-- 0005: events as operators ask for them.
-- statement_timestamp(), not clock_timestamp(): a volatile function would keep
-- the planner from looking a single event up by its id in a join.
CREATE OR REPLACE VIEW events AS
SELECT
    e.id,
    CASE WHEN e.action = '' THEN e.source ELSE e.source || '.' || e.action END AS type,
    e.payload AS data,
    CASE
        WHEN e.processed THEN 'completed'
        WHEN e.failed_at IS NOT NULL THEN 'failed'
        WHEN e.lease_token IS NOT NULL AND e.available_at > statement_timestamp() THEN 'processing'
        ELSE 'pending'
    END AS status,
    e.processing_errors[array_length(e.processing_errors, 1)] AS error,
    coalesce(e.occurred_at, e.created_at) AS "timestamp",
    e.created_at,
    e.processed_at,
    CASE
        WHEN e.processed THEN 'completed'
        WHEN e.failed_at IS NOT NULL THEN 'failed'
        WHEN e.lease_token IS NOT NULL AND e.available_at > statement_timestamp() THEN 'processing'
        WHEN e.retry_count > 0 THEN 'retrying'
        WHEN e.available_at > statement_timestamp() THEN 'scheduled'
        ELSE 'pending'
    END AS state,
    e.source,
    e.action,
    e.resource,
    e.resource_id,
    coalesce(e.metadata ->> 'stack', e.payload ->> 'stack') AS stack,
    coalesce(e.metadata ->> 'agent_id', e.payload ->> 'agent_id') AS agent_id,
    coalesce(e.metadata ->> 'session_id', e.payload ->> 'session_id') AS session_id,
    e.metadata ->> 'correlation_id' AS correlation_id,
    e.priority,
    e.retry_count,
    e.available_at,
    e.failed_at,
    e.claimed_by,
    e.metadata,
    e.processing_errors,
    e.seq
FROM hook_events e;

COMMENT ON VIEW events IS 'Events with their type, status and last error. status is pending, processing, completed or failed; state also tells scheduled and retrying.';
COMMENT ON COLUMN events.id IS 'Identity of the event.';
COMMENT ON COLUMN events.type IS 'source.action, or the source alone.';
COMMENT ON COLUMN events.data IS 'The payload.';
COMMENT ON COLUMN events.status IS 'pending, processing, completed or failed.';
COMMENT ON COLUMN events.error IS 'Error of the last failed attempt.';
COMMENT ON COLUMN events."timestamp" IS 'When it happened.';
COMMENT ON COLUMN events.created_at IS 'When it was written.';
COMMENT ON COLUMN events.processed_at IS 'When it was acknowledged.';
COMMENT ON COLUMN events.state IS 'status, with pending told apart: pending, scheduled, retrying.';
COMMENT ON COLUMN events.source IS 'First part of the type.';
COMMENT ON COLUMN events.action IS 'Second part of the type.';
COMMENT ON COLUMN events.resource IS 'Kind of the thing it is about.';
COMMENT ON COLUMN events.resource_id IS 'Which thing it is about.';
COMMENT ON COLUMN events.stack IS 'metadata.stack, else payload.stack.';
COMMENT ON COLUMN events.agent_id IS 'metadata.agent_id, else payload.agent_id.';
COMMENT ON COLUMN events.session_id IS 'metadata.session_id, else payload.session_id.';
COMMENT ON COLUMN events.correlation_id IS 'metadata.correlation_id.';
COMMENT ON COLUMN events.priority IS '1 (first) to 10 (last).';
COMMENT ON COLUMN events.retry_count IS 'Failed attempts so far.';
COMMENT ON COLUMN events.available_at IS 'Not claimed before.';
COMMENT ON COLUMN events.failed_at IS 'When the attempts were used up.';
COMMENT ON COLUMN events.claimed_by IS 'The processor that holds or last held the lease.';
COMMENT ON COLUMN events.metadata IS 'Context of the event.';
COMMENT ON COLUMN events.processing_errors IS 'Errors of all failed attempts.';
COMMENT ON COLUMN events.seq IS 'Order of processing.';
