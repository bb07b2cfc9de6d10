-- What waits to be processed, by type and state: how many events, and how old the oldest is.
-- It reads the indexes of unprocessed rows alone, however long the history is.
WITH waiting AS (
    SELECT source, action, created_at, available_at, lease_token, retry_count FROM hook_events
    WHERE NOT processed AND available_at IS NULL AND failed_at IS NULL AND priority = 5
      AND seq > (SELECT seq FROM hook_events_floor)
    UNION ALL
    SELECT source, action, created_at, available_at, lease_token, retry_count FROM hook_events
    WHERE NOT processed AND NOT dequeued AND available_at IS NULL AND failed_at IS NULL AND priority <> 5
    UNION ALL
    SELECT source, action, created_at, available_at, lease_token, retry_count FROM hook_events
    WHERE NOT processed AND NOT dequeued AND available_at IS NOT NULL AND failed_at IS NULL
)
SELECT
    source,
    action,
    count(*) AS events,
    count(*) FILTER (WHERE available_at IS NULL OR lease_token IS NULL AND available_at <= now()) AS claimable,
    count(*) FILTER (WHERE lease_token IS NULL AND available_at > now() AND NOT held AND retry_count = 0) AS scheduled,
    count(*) FILTER (WHERE lease_token IS NULL AND available_at > now() AND NOT held AND retry_count > 0) AS backing_off,
    count(*) FILTER (WHERE held) AS paused,
    count(*) FILTER (WHERE lease_token IS NOT NULL) AS leased,
    date_trunc('second', now() - min(created_at)) AS oldest
FROM (SELECT *, available_at IS NOT DISTINCT FROM 'infinity' AS held FROM waiting) AS each
GROUP BY source, action
ORDER BY events DESC, source, action;
