-- How big each index is and how often it is used; those of claims (hook_events_fresh and the like) stay small.
SELECT
    s.relname AS "table",
    s.indexrelname AS index,
    pg_size_pretty(pg_relation_size(s.indexrelid)) AS size,
    c.reltuples::bigint AS entries,
    s.idx_scan AS scans,
    i.indisvalid AS valid
FROM pg_stat_user_indexes s
JOIN pg_class c ON c.oid = s.indexrelid
JOIN pg_index i ON i.indexrelid = s.indexrelid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass)
  AND s.relname ~ '^(hook_|hooks$|event_hook_executions$)'
ORDER BY pg_relation_size(s.indexrelid) DESC, s.indexrelname;
