-- How long events of the last hour took from being due to being acknowledged, in milliseconds, by source.
-- It looks at the newest 100,000 events; -v minutes=5 -v events=1000000 asks for others.
\if :{?minutes}
\else
    \set minutes 60
\endif
\if :{?events}
\else
    \set events 100000
\endif
WITH recent AS (
    SELECT
        source,
        1000 * extract(epoch FROM processed_at - CASE
            -- A schedule or a backoff that was waited for; a lease ends later than its event.
            WHEN available_at > created_at AND available_at <= processed_at THEN available_at
            ELSE created_at
        END) AS ms
    FROM hook_events
    WHERE seq > (SELECT pg_sequence_last_value(pg_get_serial_sequence('hook_events', 'seq')::regclass)) - :events
      AND processed
      AND processed_at > now() - make_interval(mins => :minutes)
)
SELECT
    CASE WHEN grouping(source) = 1 THEN '(all)' ELSE source END AS source,
    count(*) AS events,
    round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1) AS median_ms,
    round(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)::numeric, 1) AS p95_ms,
    round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 1) AS p99_ms,
    round(max(ms), 1) AS max_ms
FROM recent
GROUP BY ROLLUP (source)
ORDER BY grouping(source) DESC, p95_ms DESC, source;
