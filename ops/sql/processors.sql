-- Which processors there are, when each last wrote its row, and how busy it is; silent ones have not for 30 seconds.
SELECT
    node,
    CASE
        WHEN state <> 'stopped' AND heartbeat_at < now() - interval '30 seconds' THEN 'silent'
        ELSE state
    END AS state,
    wake,
    busy,
    stuck,
    workers,
    version,
    date_trunc('second', now() - started_at) AS up,
    date_trunc('second', now() - heartbeat_at) AS last_heard
FROM hook_processors
ORDER BY heartbeat_at DESC
LIMIT 100;
