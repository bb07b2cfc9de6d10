-- 0026: hook_publish takes JSON's null as it takes NULL, and refuses metadata that is no object: its stack was lost in it.
-- Safe while older processors run: they do not call it.

-- As in 0021.
DO $do$
BEGIN
    EXECUTE format($create$
CREATE OR REPLACE FUNCTION %1$s.hook_publish(
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
DECLARE
    -- "source/action" and "source.action" are the same event; a slash, where there is one, decides.
    source pg_catalog.text := pg_catalog.split_part(
        type, CASE WHEN pg_catalog.strpos(type, '/') > 0 THEN '/' ELSE '.' END, 1);
BEGIN
    IF coalesce(source, '') = '' THEN
        RAISE EXCEPTION 'an event type such as task.failed is needed, not %%',
                coalesce(pg_catalog.quote_literal(type), 'NULL')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF pg_catalog.jsonb_typeof(metadata) <> 'object' THEN
        IF pg_catalog.jsonb_typeof(metadata) <> 'null' THEN
            RAISE EXCEPTION 'metadata is an object such as {"agent_id": "a1"}, and not of JSON''s type %%',
                    pg_catalog.jsonb_typeof(metadata)
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        metadata := NULL;
    END IF;
    IF pg_catalog.jsonb_typeof(payload) = 'null' THEN
        payload := NULL;
    END IF;
    IF stack IS NOT NULL THEN
        metadata := coalesce(metadata, '{}') || pg_catalog.jsonb_build_object('stack', stack);
    END IF;
    IF id IS NULL AND delay IS NULL THEN
        -- Most calls. An id that is made here is nobody's yet, and ON CONFLICT costs an insert a record of WAL.
        id := %1$s.hook_uuidv7();
        INSERT INTO %1$s.hook_events
            (id, source, action, resource, resource_id, payload, metadata, priority, occurred_at)
        VALUES (
            id, source, pg_catalog.substr(type, pg_catalog.length(source) + 2), coalesce(resource, ''),
            coalesce(resource_id, ''), coalesce(payload, '{}'), coalesce(metadata, '{}'), coalesce(priority, 5),
            occurred_at);
    ELSE
        id := coalesce(id, %1$s.hook_uuidv7());
        INSERT INTO %1$s.hook_events
            (id, source, action, resource, resource_id, payload, metadata, priority, available_at, occurred_at)
        VALUES (
            id, source, pg_catalog.substr(type, pg_catalog.length(source) + 2), coalesce(resource, ''),
            coalesce(resource_id, ''), coalesce(payload, '{}'), coalesce(metadata, '{}'), coalesce(priority, 5),
            CASE WHEN delay > interval '0' THEN pg_catalog.clock_timestamp() + delay END, occurred_at)
        -- Neither (id) nor RETURNING: both would ask for the privilege to read.
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN id;
END $$
$create$, (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'hook_events'::regclass));
END $do$;
