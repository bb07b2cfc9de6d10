-- Which events are leased: to which processor, since how long they exist, when the lease ends, and is the holder alive.
SELECT
    e.id,
    e.source,
    e.action,
    e.retry_count + 1 AS attempt,
    e.claimed_by,
    date_trunc('second', now() - e.created_at) AS age,
    date_trunc('second', e.available_at - now()) AS ends_in,
    CASE
        WHEN p.node IS NULL THEN 'unknown'
        WHEN p.heartbeat_at < now() - interval '30 seconds' THEN 'silent'
        ELSE p.state
    END AS processor
FROM hook_events e
LEFT JOIN hook_processors p ON p.node = e.claimed_by
WHERE NOT e.processed
  AND NOT e.dequeued
  AND e.available_at IS NOT NULL
  AND e.failed_at IS NULL
  AND e.lease_token IS NOT NULL
ORDER BY e.available_at
LIMIT 100;
