-- Which hooks failed in the last hour, with which error, how often, and for which event last.
-- -v minutes=1440 asks for a day.
\if :{?minutes}
\else
    \set minutes 60
\endif
SELECT
    hook_name AS hook,
    result,
    left(split_part(error, E'\n', 1), 100) AS error,
    count(*) AS failures,
    max(executed_at) AS last_failure,
    (array_agg(event_id ORDER BY executed_at DESC, id DESC))[1] AS last_event
FROM event_hook_executions
WHERE NOT success
  AND executed_at > now() - make_interval(mins => :minutes)
GROUP BY 1, 2, 3
ORDER BY failures DESC, hook, error
LIMIT 50;
