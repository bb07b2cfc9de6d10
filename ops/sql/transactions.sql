-- Whose transactions have been open longest (they keep vacuum from cleaning up), and who waits for whom.
SELECT
    pid,
    usename AS "user",
    application_name AS application,
    state,
    date_trunc('second', clock_timestamp() - xact_start) AS open_for,
    greatest(age(backend_xmin), age(backend_xid)) AS transactions_held_back,
    wait_event_type || ': ' || wait_event AS waits_for,
    pg_blocking_pids(pid) AS blocked_by,
    left(regexp_replace(query, '\s+', ' ', 'g'), 80) AS query
FROM pg_stat_activity
WHERE datname = current_database()
  AND xact_start IS NOT NULL
  AND pid <> pg_backend_pid()
ORDER BY xact_start
LIMIT 20;
