-- What was run in each of the last 15 minutes: events, runs of hooks, failed runs.
-- -v minutes=60 asks for an hour.
\if :{?minutes}
\else
    \set minutes 15
\endif
SELECT
    minute,
    count(DISTINCT x.event_id) AS events,
    count(x.id) AS runs,
    count(x.id) FILTER (WHERE NOT x.success) AS failed_runs,
    round(count(x.id) / 60.0, 1) AS runs_per_second
FROM generate_series(
    date_trunc('minute', now()) - make_interval(mins => :minutes - 1), date_trunc('minute', now()), interval '1 minute'
) AS minute
LEFT JOIN (
    SELECT * FROM event_hook_executions
    WHERE executed_at >= date_trunc('minute', now()) - make_interval(mins => :minutes - 1)
) AS x ON date_trunc('minute', x.executed_at) = minute
GROUP BY minute
ORDER BY minute DESC;
