-- How big the tables are, how many dead rows they carry, and when autovacuum last came by.
SELECT
    s.relname AS "table",
    s.n_live_tup AS live_rows,
    s.n_dead_tup AS dead_rows,
    round(100.0 * s.n_dead_tup / nullif(s.n_live_tup + s.n_dead_tup, 0), 1) AS dead_pct,
    pg_size_pretty(pg_table_size(s.relid)) AS table_size,
    pg_size_pretty(pg_indexes_size(s.relid)) AS index_size,
    s.autovacuum_count AS autovacuums,
    s.last_autovacuum,
    s.last_autoanalyze,
    age(c.relfrozenxid) AS transactions_since_freeze
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass)
  AND s.relname ~ '^(hook_|hooks$|event_hook_executions$)'
ORDER BY pg_total_relation_size(s.relid) DESC, s.relname;
