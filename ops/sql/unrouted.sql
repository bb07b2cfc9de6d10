-- Which types no hook and no handler matched in the last day: how often, and for which event last.
-- -v minutes=60 asks for an hour.
\if :{?minutes}
\else
    \set minutes 1440
\endif
SELECT
    e.source,
    e.action,
    count(*) AS events,
    max(x.executed_at) AS last_seen,
    (array_agg(e.id ORDER BY x.executed_at DESC, x.id DESC))[1] AS last_event
FROM event_hook_executions x
JOIN hook_events e ON e.id = x.event_id
WHERE x.hook_id = (SELECT id FROM hooks WHERE name = 'handle_unknown_event')
  AND x.executed_at > now() - make_interval(mins => :minutes)
GROUP BY e.source, e.action
ORDER BY events DESC, e.source, e.action
LIMIT 100;
