-- 0006: publishing from SQL: triggers, other languages, psql.
CREATE OR REPLACE FUNCTION hook_publish(
    type text,
    payload jsonb DEFAULT '{}',
    resource text DEFAULT '',
    resource_id text DEFAULT '',
    stack text DEFAULT NULL,
    priority integer DEFAULT 5,
    delay interval DEFAULT NULL,
    id uuid DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    occurred_at timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- "source/action" and "source.action" are the same event; a slash, where there is one, decides.
    split_at integer := position(CASE WHEN position('/' IN $1) > 0 THEN '/' ELSE '.' END IN $1);
    event_id uuid := coalesce($8, hook_uuidv7());
BEGIN
    IF coalesce($1, '') = '' OR split_at = 1 THEN
        RAISE EXCEPTION 'an event type such as task.failed is needed, not %', coalesce(quote_literal($1), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO hook_events
        (id, source, action, resource, resource_id, payload, metadata, priority, available_at, occurred_at)
    VALUES (
        event_id,
        CASE WHEN split_at = 0 THEN $1 ELSE left($1, split_at - 1) END,
        CASE WHEN split_at = 0 THEN '' ELSE substr($1, split_at + 1) END,
        coalesce($3, ''), coalesce($4, ''), coalesce($2, '{}'),
        CASE WHEN $5 IS NULL THEN coalesce($9, '{}') ELSE coalesce($9, '{}') || jsonb_build_object('stack', $5) END,
        coalesce($6, 5),
        CASE WHEN $7 > interval '0' THEN clock_timestamp() + $7 END,
        $10)
    -- Neither (id) nor RETURNING: both would ask for the privilege to read.
    ON CONFLICT DO NOTHING;
    RETURN event_id;
END $$;

-- Callers, triggers among them, need not have the schema on their search_path.
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION hook_publish SET search_path = %s, pg_temp',
        (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'hook_events'::regclass));
END $$;

COMMENT ON FUNCTION hook_publish IS
    'Publishes an event and returns its id. With an id that exists it changes nothing: publishing again is safe.';
