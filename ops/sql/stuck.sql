-- What could have been claimed for a minute and was not: how many events, the oldest, and one to look at.
-- No row is the right answer; -v seconds=5 is stricter.
\if :{?seconds}
\else
    \set seconds 60
\endif
WITH late AS (
    SELECT 'fresh' AS kind, id, created_at AS since FROM hook_events
    WHERE NOT processed AND available_at IS NULL AND failed_at IS NULL AND priority = 5
      AND seq > (SELECT seq FROM hook_events_floor)
      AND created_at < now() - make_interval(secs => :seconds)
    UNION ALL
    SELECT 'fresh', id, created_at FROM hook_events
    WHERE NOT processed AND NOT dequeued AND available_at IS NULL AND failed_at IS NULL AND priority <> 5
      AND created_at < now() - make_interval(secs => :seconds)
    UNION ALL
    SELECT CASE WHEN lease_token IS NULL THEN 'due' ELSE 'lease ended' END, id, available_at FROM hook_events
    WHERE NOT processed AND NOT dequeued AND available_at IS NOT NULL AND failed_at IS NULL
      AND available_at < now() - make_interval(secs => :seconds)
)
SELECT
    kind,
    count(*) AS events,
    date_trunc('second', now() - min(since)) AS oldest,
    (array_agg(id ORDER BY since))[1] AS oldest_event
FROM late
GROUP BY kind
ORDER BY kind;
