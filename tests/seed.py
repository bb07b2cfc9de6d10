"""The statements that operators of the original service know, word for word.

They run on hook_events unchanged; nothing here may be edited to make a test pass.
"""

TABLE = """\
CREATE TABLE hook_events (
    id UUID PRIMARY KEY,
    source VARCHAR(255) NOT NULL,
    action VARCHAR(255) NOT NULL,
    resource VARCHAR(255) NOT NULL,
    resource_id VARCHAR(255) NOT NULL,
    payload JSONB NOT NULL DEFAULT '{}',
    metadata JSONB NOT NULL DEFAULT '{}',
    processed BOOLEAN NOT NULL DEFAULT FALSE,
    processing_errors TEXT[],
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0 AND retry_count <= 10),
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    processed_at TIMESTAMPTZ,
    CONSTRAINT processing_time_valid CHECK (processed_at IS NULL OR processed_at >= created_at),
    CONSTRAINT retry_count_limit CHECK (retry_count <= 10)
);

-- Indexes for performance
CREATE INDEX idx_hook_events_processed ON hook_events (processed, created_at DESC) WHERE NOT processed;
CREATE INDEX idx_hook_events_source_action ON hook_events (source, action);
CREATE INDEX idx_hook_events_retry ON hook_events (retry_count, created_at) WHERE retry_count > 0;
"""

COUNT_ALL = "SELECT COUNT(*) FROM hook_events"

STATISTICS = """\
-- Processing statistics
SELECT
    COUNT(*) FILTER (WHERE processed = TRUE) as processed_count,
    COUNT(*) FILTER (WHERE processed = FALSE) as pending_count,
    COUNT(*) FILTER (WHERE retry_count > 0) as retry_count,
    AVG(EXTRACT(EPOCH FROM (processed_at - created_at))) as avg_processing_time_sec
FROM hook_events
WHERE created_at > NOW() - INTERVAL '1 hour';
"""

ERROR_ANALYSIS = """\
-- Error analysis
SELECT
    source,
    action,
    COUNT(*) as error_count,
    array_agg(DISTINCT processing_errors[array_length(processing_errors, 1)]) as recent_errors
FROM hook_events
WHERE retry_count > 0
GROUP BY source, action
ORDER BY error_count DESC;
"""

OVER_TARGET = """\
SELECT
    id,
    source,
    action,
    EXTRACT(EPOCH FROM (processed_at - created_at)) as processing_time_sec
FROM hook_events
WHERE processed = TRUE
  AND processed_at > NOW() - INTERVAL '1 hour'
  AND EXTRACT(EPOCH FROM (processed_at - created_at)) > 5
ORDER BY processing_time_sec DESC;
"""

ERROR_RATE = """\
SELECT
    COUNT(*) FILTER (WHERE retry_count = 0) as successful,
    COUNT(*) FILTER (WHERE retry_count > 0) as failed,
    ROUND(100.0 * COUNT(*) FILTER (WHERE retry_count > 0) / COUNT(*), 2) as error_rate_pct
FROM hook_events
WHERE processed = TRUE
  AND processed_at > NOW() - INTERVAL '1 hour';
"""

COUNT_UNPROCESSED = "SELECT COUNT(*) FROM hook_events WHERE processed = FALSE;"

RETRY_COUNTS = """\
SELECT id, source, action, retry_count, processing_errors
FROM hook_events
WHERE retry_count >= 3
ORDER BY created_at DESC
LIMIT 10;
"""

LOCKS = """\
-- Check for locks
SELECT * FROM pg_locks WHERE relation = 'hook_events'::regclass;
"""

TRANSACTIONS = """\
-- Check for long-running transactions
SELECT pid, state, query_start, query
FROM pg_stat_activity
WHERE datname = 'omninode_bridge'
  AND state != 'idle'
ORDER BY query_start;
"""

ARCHIVE = """\
-- Archive to backup table
CREATE TABLE hook_events_archive AS
SELECT * FROM hook_events
WHERE processed = TRUE
  AND processed_at < NOW() - INTERVAL '30 days';
"""

DELETE_ARCHIVED = """\
-- Delete archived events
DELETE FROM hook_events
WHERE processed = TRUE
  AND processed_at < NOW() - INTERVAL '30 days';
"""

RESET = """\
-- Reset retry count for specific events
UPDATE hook_events
SET retry_count = 0,
    processing_errors = NULL
WHERE retry_count >= 3
  AND source = 'PreToolUse'
  AND created_at > NOW() - INTERVAL '1 day';
"""

COUNT_PROCESSED = """\
SELECT COUNT(*) FROM hook_events WHERE processed = TRUE;
-- Expected: >= 419
"""

WITHIN_FIVE_SECONDS = """\
SELECT
    AVG(EXTRACT(EPOCH FROM (processed_at - created_at))) as avg_sec,
    MAX(EXTRACT(EPOCH FROM (processed_at - created_at))) as max_sec
FROM hook_events
WHERE processed_at > NOW() - INTERVAL '1 hour';
-- Expected: avg_sec < 5, max_sec < 10
"""

SUCCESS_ERROR_RATE = """\
SELECT
    ROUND(100.0 * COUNT(*) FILTER (WHERE retry_count > 0) / NULLIF(COUNT(*), 0), 2) as error_rate_pct
FROM hook_events
WHERE processed_at > NOW() - INTERVAL '1 hour';
-- Expected: < 1.0
"""
