-- 0021: a plain INSERT and hook_publish take less of PostgreSQL.
-- Safe while older processors run: what is inserted, and who is woken by it, stays the same.

-- As in 0001; functions are pg_catalog's, whatever a caller's search_path has.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE OR REPLACE FUNCTION hook_uuidv7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            AS 'SELECT pg_catalog.uuidv7()';
    ELSE
        CREATE OR REPLACE FUNCTION hook_uuidv7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $f$
            SELECT pg_catalog.encode(
                pg_catalog.set_bit(pg_catalog.set_bit(
                    overlay(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
                            PLACING substring(pg_catalog.int8send(
                                (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint) FROM 3)
                            FROM 1 FOR 6),
                    52, 1), 53, 1),
                'hex')::pg_catalog.uuid
        $f$;
    END IF;
END $$;

-- As in 0006, with less to do for each call. The schema is named, since SET
-- search_path costs each call.
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

-- As in 0002. An assignment costs less than PERFORM, which runs a query, and
-- what is needed only while somebody sleeps is not even looked up otherwise.
CREATE OR REPLACE FUNCTION hook_events_wake() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Before any row takes its seq the transaction has its number: a claim
    -- can then tell when every smaller seq has been committed or rolled back.
    number pg_catalog.xid8 := pg_catalog.pg_current_xact_id();
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.hashtext(TG_TABLE_SCHEMA || '.hook_events'), 2) THEN
        -- PREPARE TRANSACTION refuses a transaction that notified: "off" leaves the event to the poll.
        IF pg_catalog.current_setting('hook_events.notify', true) IS DISTINCT FROM 'off' THEN
            PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'insert');
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- As in 0019. PostgreSQL reads the condition of a trigger anew for each
-- statement: a short one asks for the rows that are done, and the function for the rest.
CREATE OR REPLACE FUNCTION hook_events_dequeue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT NEW.dequeued AND (NEW.priority <> 5 OR NEW.available_at IS NOT NULL OR NEW.failed_at IS NOT NULL) THEN
        EXECUTE pg_catalog.format('UPDATE %I.hook_events SET dequeued = TRUE WHERE id = $1', TG_TABLE_SCHEMA)
            USING NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER hook_events_dequeue AFTER INSERT ON hook_events
    FOR EACH ROW WHEN (NEW.processed) EXECUTE FUNCTION hook_events_dequeue();
