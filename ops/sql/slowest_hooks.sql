-- Which hooks took the most time in the last hour: runs, how long one took, and all of them together.
-- -v minutes=1440 asks for a day.
\if :{?minutes}
\else
    \set minutes 60
\endif
SELECT
    hook_name AS hook,
    count(*) AS runs,
    round(avg(duration_ms)::numeric, 2) AS mean_ms,
    round(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)::numeric, 2) AS p95_ms,
    round(max(duration_ms)::numeric, 2) AS max_ms,
    round((sum(duration_ms) / 1000)::numeric, 1) AS total_seconds,
    count(*) FILTER (WHERE result = 'timeout') AS timeouts
FROM event_hook_executions
WHERE executed_at > now() - make_interval(mins => :minutes)
GROUP BY hook_name
ORDER BY p95_ms DESC, hook
LIMIT 50;
