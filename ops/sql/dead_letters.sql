-- Which events have used up their attempts, newest first, with their last error.
-- 'hep events retry ID' runs one again; -v limit=1000 asks for more than 50.
\if :{?limit}
\else
    \set limit 50
\endif
SELECT
    id,
    source,
    action,
    retry_count AS attempts,
    failed_at,
    left(split_part(processing_errors[array_length(processing_errors, 1)], E'\n', 1), 100) AS last_error
FROM hook_events
WHERE NOT processed
  AND NOT dequeued
  AND failed_at IS NOT NULL
ORDER BY failed_at DESC
LIMIT :limit;
