-- 0015: who changed what, and what single roles may do.
-- Safe while older processors run: they read none of it, and their statements fire nothing new.
CREATE TABLE IF NOT EXISTS hook_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    role text NOT NULL DEFAULT session_user,
    client text NOT NULL DEFAULT current_setting('application_name'),
    address inet DEFAULT inet_client_addr(),
    action text NOT NULL CHECK (action <> ''),
    kind text NOT NULL CHECK (kind <> ''),
    name text NOT NULL DEFAULT '',
    details jsonb NOT NULL DEFAULT '{}',
    reason text NOT NULL DEFAULT coalesce(current_setting('hook_events.reason', true), '')
);
CREATE INDEX IF NOT EXISTS hook_audit_name ON hook_audit (name, id);

CREATE TABLE IF NOT EXISTS hook_grants (
    role name NOT NULL,
    kind text NOT NULL CHECK (kind IN ('source', 'stack', 'host')),
    value text NOT NULL CHECK (value <> ''),
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (role, kind, value)
);

-- Nothing is ever changed, and nothing of the last thirty days removed.
-- Whoever owns the table can lift this; that is one more thing to do, and to be asked about.
CREATE OR REPLACE FUNCTION hook_audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'hook_audit is only added to: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege', HINT = 'What is older than thirty days may be deleted.';
END $$;
CREATE OR REPLACE TRIGGER hook_audit_kept BEFORE UPDATE OR TRUNCATE ON hook_audit
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_kept();
CREATE OR REPLACE TRIGGER hook_audit_recent BEFORE DELETE ON hook_audit
    FOR EACH ROW WHEN (OLD.at > now() - interval '30 days') EXECUTE FUNCTION hook_audit_kept();

-- A value as the audit may show it: long ones by their hash.
CREATE OR REPLACE FUNCTION hook_audit_value(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN octet_length(value::text) <= 300 THEN value
                ELSE jsonb_build_object('sha256', encode(sha256(convert_to(value #>> '{}', 'UTF8')), 'hex')) END
$$;

-- Trigger arguments: the kind; the columns that name the row, the first that is
-- not empty does; the columns of which nothing but a change is shown.
CREATE OR REPLACE FUNCTION hook_audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    before jsonb := coalesce(to_jsonb(OLD), '{}');
    after jsonb := coalesce(to_jsonb(NEW), '{}');
    this jsonb := CASE TG_OP WHEN 'DELETE' THEN before ELSE after END;
    hidden text[] := string_to_array(TG_ARGV[2], ',');
    uninteresting text[] := '{id,only_row,created_at,updated_at,granted_at,run_count,last_run,last_check,last_event,last_error}';
    fields jsonb;
BEGIN
    SELECT jsonb_object_agg(key, CASE
        WHEN key = ANY (hidden) THEN '"hidden"'
        WHEN TG_OP = 'UPDATE' THEN jsonb_build_array(hook_audit_value(before -> key), hook_audit_value(after -> key))
        ELSE hook_audit_value(this -> key) END)
    INTO fields
    FROM jsonb_object_keys(this) AS key
    WHERE key <> ALL (uninteresting)
      AND CASE TG_OP WHEN 'UPDATE' THEN before -> key IS DISTINCT FROM after -> key
                     ELSE this -> key NOT IN ('null', '""', '{}', '[]') END;
    IF fields IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO hook_audit (action, kind, name, details) VALUES (
        CASE WHEN TG_OP = 'INSERT' THEN 'added' WHEN TG_OP = 'DELETE' THEN 'removed'
             WHEN fields = '{"enabled": [false, true]}' THEN 'enabled'
             WHEN fields = '{"enabled": [true, false]}' THEN 'disabled' ELSE 'changed' END,
        CASE WHEN this ->> 'kind' = 'python' THEN 'handler' ELSE TG_ARGV[0] END,
        (SELECT coalesce(min(this ->> key) FILTER (WHERE place = first), '')
         FROM (SELECT key, place, min(place) FILTER (WHERE this ->> key <> '') OVER () AS first
               FROM unnest(string_to_array(TG_ARGV[1], ',')) WITH ORDINALITY AS named (key, place)) AS names),
        fields);
    RETURN NULL;
END $$;

-- A text that runs: its hash, under the name of its hook or library.
CREATE OR REPLACE FUNCTION hook_audit_text() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    this jsonb := coalesce(to_jsonb(NEW), to_jsonb(OLD));
    owner text;
BEGIN
    EXECUTE format('SELECT name FROM %I WHERE id = $1', TG_ARGV[1]) INTO owner USING (this ->> TG_ARGV[2])::bigint;
    INSERT INTO hook_audit (action, kind, name, details) VALUES (
        CASE TG_OP WHEN 'INSERT' THEN 'new version' WHEN 'UPDATE' THEN 'version changed' ELSE 'version removed' END,
        TG_ARGV[0], coalesce(owner, ''),
        jsonb_strip_nulls(jsonb_build_object(
            'version', this -> 'version',
            'sha256', encode(sha256(convert_to(this ->> 'source_text', 'UTF8')), 'hex'),
            'sha256_before', CASE WHEN TG_OP = 'UPDATE'
                             THEN encode(sha256(convert_to(to_jsonb(OLD) ->> 'source_text', 'UTF8')), 'hex') END,
            'file_path', nullif(this ->> 'file_path', ''))));
    RETURN NULL;
END $$;

-- Whole statements of which single rows are not looked at. Arguments: the action and the kind.
CREATE OR REPLACE FUNCTION hook_audit_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO hook_audit (action, kind) VALUES (TG_ARGV[0], TG_ARGV[1]);
    RETURN NULL;
END $$;

-- Events that were removed: how many, and which ones; retention removes in steps, and each is one line.
CREATE OR REPLACE FUNCTION hook_audit_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO hook_audit (action, kind, name, details)
    SELECT 'removed', 'event', CASE WHEN count(*) = 1 THEN min(gone.id::text) ELSE '' END,
           jsonb_build_object('count', count(*), 'unfinished', count(*) FILTER (WHERE NOT gone.processed),
                              'created', jsonb_build_array(min(gone.created_at), max(gone.created_at)))
    FROM gone HAVING count(*) > 0;
    RETURN NULL;
END $$;

-- What approves, replays and the like, and is no change of a row that a trigger sees.
CREATE OR REPLACE FUNCTION hook_audit_note(action text, kind text, name text, details jsonb DEFAULT '{}')
RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO hook_audit (action, kind, name, details) VALUES ($1, $2, $3, $4)
$$;

-- As in 0002, and each event that is brought back is noted.
CREATE OR REPLACE FUNCTION hook_events_reset() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.failed_at := NULL;
    NEW.available_at := pg_catalog.clock_timestamp();
    NEW.lease_token := NULL;
    IF pg_catalog.current_setting('hook_events.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'reset');
    END IF;
    INSERT INTO hook_audit (action, kind, name, details) VALUES (
        'retried', 'event', NEW.id::text,
        jsonb_build_object('type', concat_ws('.', NEW.source, nullif(NEW.action, '')), 'attempts', OLD.retry_count));
    RETURN NEW;
END $$;

-- As in 0003, for whoever may change hooks: the registry's row is nobody's to write.
CREATE OR REPLACE FUNCTION hooks_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE hook_registry SET revision = revision + 1;
    PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.hook_events', 'hooks');
    RETURN NULL;
END $$;

-- A role with grants of the kind source publishes events of these alone. The
-- trigger is there only while somebody is so limited, and names them: for
-- everybody else it is not even queued. session_user: SET ROLE is no way around it.
CREATE OR REPLACE FUNCTION hook_events_limited() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM hook_grants WHERE role = session_user AND kind = 'source' AND value = NEW.source) THEN
        RAISE EXCEPTION 'the role % may not publish events of the source %',
                quote_ident(session_user), quote_literal(NEW.source)
            USING ERRCODE = 'insufficient_privilege', HINT = 'hep db grant ROLE --source SOURCE allows it.';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION hook_grants_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    limited name[] := (SELECT array_agg(DISTINCT role) FROM hook_grants WHERE kind = 'source');
BEGIN
    IF limited IS NOT NULL THEN
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER hook_events_limited AFTER INSERT ON hook_events FOR EACH ROW'
            ' WHEN (session_user = ANY (%L::name[])) EXECUTE FUNCTION hook_events_limited()', limited);
        COMMENT ON TRIGGER hook_events_limited ON hook_events IS 'Refuses what single roles may not publish.';
    ELSIF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'hook_events'::regclass AND tgname = 'hook_events_limited') THEN
        DROP TRIGGER hook_events_limited ON hook_events;
    END IF;
    RETURN NULL;
END $$;

-- What the current role may change, by grants to itself or to a role that it belongs to.
CREATE OR REPLACE FUNCTION hook_granted(kind text) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(g.value) FROM hook_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE g.kind = $1 AND pg_has_role(r.oid, 'USAGE')
$$;

-- Functions that run as their owner find nothing but what is the product's, and nobody else makes triggers of them.
DO $$
DECLARE
    home text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'hook_events'::regclass);
    routine text;
BEGIN
    FOREACH routine IN ARRAY ARRAY[
        'hook_audit_row()', 'hook_audit_text()', 'hook_audit_statement()', 'hook_audit_removed()',
        'hook_audit_note(text,text,text,jsonb)', 'hook_events_reset()', 'hooks_changed()', 'hook_events_limited()',
        'hook_grants_changed()', 'hook_granted(text)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %s, pg_temp', routine, home);
        IF routine <> 'hook_granted(text)' THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
        END IF;
    END LOOP;
END $$;

-- Not what changes every few seconds and changes nothing that runs: counters, and when watchers looked.
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR DELETE OR UPDATE OF name, kind, description, event_types, stack,
        priority, timeout_seconds, retry, enabled, version, file_path, modules, params, param_defaults, libraries,
        overrides, source ON hooks
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('hook', 'name', 'params,param_defaults');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_libraries
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('library', 'name', '');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_secrets
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('secret', 'name', 'ciphertext');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON event_types
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('event type', 'type', '');
CREATE OR REPLACE TRIGGER hook_audit
    AFTER INSERT OR DELETE OR UPDATE OF id, type, config, enabled, host, name, stack ON watchers
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('watcher', 'name,id', '');
CREATE OR REPLACE TRIGGER hook_audit AFTER DELETE ON hosts
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('host', 'name', '');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_grants
    FOR EACH ROW EXECUTE FUNCTION hook_audit_row('grant', 'role', '');
-- State is the hooks' own; what people do to it is another matter.
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_state
    FOR EACH ROW WHEN (current_setting('application_name')
                       NOT IN ('hook-event-processor state', 'hook-event-processor housekeeping'))
    EXECUTE FUNCTION hook_audit_row('state', 'key', 'value');

-- Not the versions that go with their hook.
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_versions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION hook_audit_text('hook', 'hooks', 'hook_id');
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_library_versions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION hook_audit_text('library', 'hook_libraries', 'library_id');

-- None of these is fired by a claim or an acknowledgement.
CREATE OR REPLACE TRIGGER hook_audit_removed AFTER DELETE ON hook_events REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_removed();
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_events
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'event');
CREATE OR REPLACE TRIGGER hook_audit_rewritten
    AFTER UPDATE OF id, seq, source, action, resource, resource_id, payload, metadata, created_at ON hook_events
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('rewritten', 'event');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hooks
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'hook');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'secret');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON watchers
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'watcher');
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON event_hook_executions
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'execution');

CREATE OR REPLACE TRIGGER hook_grants_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON hook_grants
    FOR EACH STATEMENT EXECUTE FUNCTION hook_grants_changed();

DO $$
DECLARE
    audited record;
BEGIN
    FOR audited IN SELECT tgname, tgrelid::regclass AS rel FROM pg_trigger
        WHERE tgname IN ('hook_audit', 'hook_audit_removed', 'hook_audit_emptied', 'hook_audit_rewritten')
          AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace =
                          (SELECT relnamespace FROM pg_class WHERE oid = 'hook_events'::regclass))
    LOOP
        EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', audited.tgname, audited.rel, 'Keeps in hook_audit who did it.');
    END LOOP;
END $$;
COMMENT ON TABLE hook_audit IS 'Who added, changed, removed or retried what: only ever added to. hep audit shows it.';
COMMENT ON COLUMN hook_audit.id IS 'Grows with time.';
COMMENT ON COLUMN hook_audit.at IS 'When.';
COMMENT ON COLUMN hook_audit.role IS 'The role that was logged in.';
COMMENT ON COLUMN hook_audit.client IS 'Its application_name; hep says in it which user of which host runs the command.';
COMMENT ON COLUMN hook_audit.address IS 'Where it connected from; NULL: a socket of the server''s host.';
COMMENT ON COLUMN hook_audit.action IS 'added, changed, enabled, disabled, removed, new version, retried, rewritten, emptied, ...';
COMMENT ON COLUMN hook_audit.kind IS 'hook, handler, library, secret, event type, watcher, host, grant, state, event, ...';
COMMENT ON COLUMN hook_audit.name IS 'Which one; empty where a statement met several.';
COMMENT ON COLUMN hook_audit.details IS 'Fields, or what they were and are; never a secret value.';
COMMENT ON COLUMN hook_audit.reason IS 'Why, where somebody said it (hook_events.reason).';
COMMENT ON CONSTRAINT hook_audit_action_check ON hook_audit IS 'Something was done.';
COMMENT ON CONSTRAINT hook_audit_kind_check ON hook_audit IS 'It was done to something.';
COMMENT ON INDEX hook_audit_name IS 'What was done to one thing.';
COMMENT ON TRIGGER hook_audit_kept ON hook_audit IS 'Nothing is changed.';
COMMENT ON TRIGGER hook_audit_recent ON hook_audit IS 'Nothing of the last thirty days is removed.';
COMMENT ON TABLE hook_grants IS 'What single roles may do: sources that a publisher is limited to, stacks of an author, hosts of a watcher.';
COMMENT ON COLUMN hook_grants.role IS 'A role. For sources it is the one that logs in.';
COMMENT ON COLUMN hook_grants.kind IS 'source, stack or host.';
COMMENT ON COLUMN hook_grants.value IS 'Which one.';
COMMENT ON COLUMN hook_grants.granted_at IS 'Since when.';
COMMENT ON CONSTRAINT hook_grants_kind_check ON hook_grants IS 'source, stack or host.';
COMMENT ON CONSTRAINT hook_grants_value_check ON hook_grants IS 'A value has at least one character.';
COMMENT ON TRIGGER hook_grants_changed ON hook_grants IS 'Puts the limits of publishers into effect.';
COMMENT ON FUNCTION hook_audit_kept() IS 'Refuses to change the audit.';
COMMENT ON FUNCTION hook_audit_value(jsonb) IS 'A value as the audit may show it.';
COMMENT ON FUNCTION hook_audit_row() IS 'Notes the change of a row.';
COMMENT ON FUNCTION hook_audit_text() IS 'Notes a text that runs.';
COMMENT ON FUNCTION hook_audit_statement() IS 'Notes a statement.';
COMMENT ON FUNCTION hook_audit_removed() IS 'Notes how many events a statement removed.';
COMMENT ON FUNCTION hook_audit_note(text, text, text, jsonb) IS 'Notes what no trigger sees.';
COMMENT ON FUNCTION hook_events_limited() IS 'Refuses events of sources that the role was not granted.';
COMMENT ON FUNCTION hook_grants_changed() IS 'Makes the trigger that limits publishers, or drops it.';
COMMENT ON FUNCTION hook_granted(text) IS 'What the current role was granted of a kind; NULL: nothing.';
