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
    metadata jsonb DEFAULT '{}'
) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    -- "source/action" and "source.action" are the same event; the first sign decides.
    split_at integer := position(CASE WHEN position('/' IN $1) > 0 THEN '/' ELSE '.' END IN $1);
    new_id uuid;
BEGIN
    IF coalesce($1, '') = '' OR split_at = 1 THEN
        RAISE EXCEPTION 'an event type such as task.failed is needed, not %', coalesce(quote_literal($1), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO hook_events (id, source, action, resource, resource_id, payload, metadata, priority, available_at)
    VALUES (
        coalesce($8, hook_uuidv7()),
        CASE WHEN split_at = 0 THEN $1 ELSE left($1, split_at - 1) END,
        CASE WHEN split_at = 0 THEN '' ELSE substr($1, split_at + 1) END,
        $3, $4, coalesce($2, '{}'),
        CASE WHEN $5 IS NULL THEN coalesce($9, '{}') ELSE coalesce($9, '{}') || jsonb_build_object('stack', $5) END,
        $6,
        CASE WHEN $7 > interval '0' THEN clock_timestamp() + $7 END)
    ON CONFLICT (id) DO NOTHING
    RETURNING hook_events.id INTO new_id;
    -- NULL: the id was there already, and so was the event.
    RETURN coalesce(new_id, $8);
END $$;

COMMENT ON FUNCTION hook_publish(text, jsonb, text, text, text, integer, interval, uuid, jsonb) IS
    'Publishes an event and returns its id. With an id that exists it changes nothing: publishing again is safe.';
