-- 0023: proposals of hooks, which somebody else approves than made them.
-- Safe while older processors run: they read none of it, and an approved hook is added as any other.
CREATE TABLE IF NOT EXISTS hook_proposals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hook_name text NOT NULL CHECK (char_length(hook_name) BETWEEN 1 AND 200),
    stack text CHECK (char_length(stack) BETWEEN 1 AND 1000),
    event_types text[] NOT NULL
        CHECK (cardinality(event_types) > 0 AND array_ndims(event_types) = 1
               AND array_position(event_types, NULL) IS NULL AND octet_length(event_types::text) <= 65536),
    base_hook bigint,
    base_version integer,
    base_settings jsonb,
    source_text text NOT NULL CHECK (octet_length(source_text) <= 262144 AND strpos(source_text, E'\r') = 0),
    sha256 text NOT NULL,
    file_path text NOT NULL DEFAULT '' CHECK (octet_length(file_path) <= 8192),
    said jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(said) = 'object' AND octet_length(said::text) <= 131072),
    reason text NOT NULL DEFAULT '' CHECK (char_length(reason) <= 2000),
    proposed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    proposed_by text NOT NULL DEFAULT session_user,
    client text NOT NULL DEFAULT current_setting('application_name'),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'rejected')),
    decided_at timestamptz,
    decided_by text,
    answer text NOT NULL DEFAULT '' CHECK (char_length(answer) <= 2000),
    version integer,
    CONSTRAINT hook_proposals_base
        CHECK ((base_hook IS NULL) = (base_version IS NULL) AND (base_hook IS NULL) = (base_settings IS NULL)),
    CONSTRAINT hook_proposals_decided
        CHECK ((state <> 'open') = (decided_at IS NOT NULL) AND (state <> 'open') = (decided_by IS NOT NULL)),
    CONSTRAINT hook_proposals_approved CHECK ((state = 'approved') = (version IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS hook_proposals_open ON hook_proposals (proposed_at) WHERE state = 'open';

-- What a hook has beside its versions: it may change without a new one.
CREATE OR REPLACE FUNCTION hook_settings(hook bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('description', description, 'event_types', event_types, 'stack', stack,
                              'priority', priority, 'timeout_seconds', timeout_seconds, 'retry', retry)
    FROM hooks WHERE id = $1
$$;

-- Whose it is, and what it is, say neither the one who proposes nor the one who
-- decides. session_user: SET ROLE makes nobody somebody else. Owners and
-- superusers are bound by it, too, unless they lift it.
CREATE OR REPLACE FUNCTION hook_proposal_kept() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    decided hook_proposals := OLD;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- A program in a loop would leave nobody the time to read what is open, nor the server its disk. The lock:
        -- its other sessions' rows may not be seen yet.
        PERFORM pg_advisory_xact_lock(hashtext('hook_proposals of ' || TG_TABLE_SCHEMA), hashtext(session_user));
        IF (SELECT count(*) FROM hook_proposals
            WHERE proposed_by = session_user AND (state = 'open' OR proposed_at > now() - interval '1 day')) >= 100 THEN
            RAISE EXCEPTION 'the role % has 100 proposals that are open or not a day old', quote_ident(session_user)
                USING ERRCODE = 'configuration_limit_exceeded', HINT = 'Others approve or reject what is open.';
        END IF;
        NEW.base_settings := (SELECT hook_settings(id) FROM hooks
                              WHERE id = NEW.base_hook AND name = NEW.hook_name AND version = NEW.base_version);
        NEW.sha256 := encode(sha256(convert_to(NEW.source_text, 'UTF8')), 'hex');
        NEW.proposed_at := clock_timestamp();
        NEW.proposed_by := session_user;
        NEW.client := current_setting('application_name');
        NEW.state := 'open';
        NEW.decided_at := NULL;
        NEW.decided_by := NULL;
        NEW.answer := '';
        NEW.version := NULL;
        RETURN NEW;
    ELSIF OLD.state <> 'open' AND TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'proposal % was % by %', OLD.id, OLD.state, quote_ident(OLD.decided_by)
            USING ERRCODE = 'insufficient_privilege', HINT = 'What is decided stays so: propose again.';
    ELSIF TG_OP = 'DELETE' THEN
        IF OLD.state = 'open' THEN
            RAISE EXCEPTION 'proposal % is open', OLD.id
                USING ERRCODE = 'insufficient_privilege', HINT = 'hep hook reject decides it.';
        END IF;
        RETURN OLD;
    END IF;
    decided.state := NEW.state;
    decided.answer := NEW.answer;
    IF NEW IS DISTINCT FROM decided OR NEW.state = 'open' THEN
        RAISE EXCEPTION 'proposal % can only be approved or rejected', OLD.id
            USING ERRCODE = 'insufficient_privilege', HINT = 'state and answer are what an UPDATE may set.';
    END IF;
    IF NEW.state = 'approved' THEN
        IF OLD.proposed_by = session_user THEN
            RAISE EXCEPTION 'the role % has made proposal % itself', quote_ident(session_user), OLD.id
                USING ERRCODE = 'insufficient_privilege', HINT = 'Somebody else approves it; hep hook reject withdraws it.';
        END IF;
        NEW.version := (SELECT h.version FROM hooks h JOIN hook_versions v ON v.hook_id = h.id AND v.version = h.version
                        WHERE h.name = OLD.hook_name AND v.source_text = OLD.source_text
                          AND h.stack IS NOT DISTINCT FROM OLD.stack AND h.event_types = OLD.event_types);
        IF NEW.version IS NULL THEN
            RAISE EXCEPTION 'the text of proposal % is not what the hook % has', OLD.id, quote_literal(OLD.hook_name)
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'hep hook approve adds it, and marks it as approved.';
        END IF;
    END IF;
    NEW.decided_at := clock_timestamp();
    NEW.decided_by := session_user;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION hook_proposal_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    this hook_proposals := coalesce(NEW, OLD);
BEGIN
    INSERT INTO hook_audit (action, kind, name, details, reason) VALUES (
        CASE TG_OP WHEN 'INSERT' THEN 'proposed' WHEN 'UPDATE' THEN this.state ELSE 'proposal removed' END,
        'hook', this.hook_name,
        jsonb_strip_nulls(jsonb_build_object(
            'proposal', this.id, 'sha256', this.sha256, 'base_version', this.base_version, 'version', this.version,
            'proposed_by', this.proposed_by)),
        CASE TG_OP WHEN 'INSERT' THEN this.reason WHEN 'UPDATE' THEN this.answer
                   ELSE coalesce(current_setting('hook_events.reason', true), '') END);
    RETURN NULL;
END $$;

-- As in 0015: functions that run as their owner find nothing but what is the product's.
DO $$
DECLARE
    home text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'hook_events'::regclass);
    routine text;
BEGIN
    FOREACH routine IN ARRAY ARRAY['hook_proposal_kept()', 'hook_proposal_audit()', 'hook_settings(bigint)']
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %s, pg_temp', routine, home);
        IF routine <> 'hook_settings(bigint)' THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE TRIGGER hook_proposal_kept BEFORE INSERT OR UPDATE OR DELETE ON hook_proposals
    FOR EACH ROW EXECUTE FUNCTION hook_proposal_kept();
CREATE OR REPLACE TRIGGER hook_audit AFTER INSERT OR UPDATE OR DELETE ON hook_proposals
    FOR EACH ROW EXECUTE FUNCTION hook_proposal_audit();
CREATE OR REPLACE TRIGGER hook_audit_emptied AFTER TRUNCATE ON hook_proposals
    FOR EACH STATEMENT EXECUTE FUNCTION hook_audit_statement('emptied', 'proposal');

COMMENT ON TABLE hook_proposals IS 'Hooks as somebody has proposed them; somebody else approves or rejects each.';
COMMENT ON COLUMN hook_proposals.id IS 'Its number.';
COMMENT ON COLUMN hook_proposals.hook_name IS 'The hook that it makes or changes.';
COMMENT ON COLUMN hook_proposals.stack IS 'Its stack; NULL: it runs for all.';
COMMENT ON COLUMN hook_proposals.event_types IS 'What it runs for.';
COMMENT ON COLUMN hook_proposals.base_hook IS 'The id of the hook that it changes; NULL: it makes a new one.';
COMMENT ON COLUMN hook_proposals.base_version IS 'The version that it changes: with another one, it cannot be approved.';
COMMENT ON COLUMN hook_proposals.base_settings IS 'What that hook had beside its version then: with others, it cannot be approved.';
COMMENT ON COLUMN hook_proposals.source_text IS 'The Lua text.';
COMMENT ON COLUMN hook_proposals.sha256 IS 'The hash of the text.';
COMMENT ON COLUMN hook_proposals.file_path IS 'The file that it was read from, on the host of who proposed it.';
COMMENT ON COLUMN hook_proposals.said IS 'What options said over the text: overrides, params, disabled.';
COMMENT ON COLUMN hook_proposals.reason IS 'Why, as who proposed it says.';
COMMENT ON COLUMN hook_proposals.proposed_at IS 'When.';
COMMENT ON COLUMN hook_proposals.proposed_by IS 'The role that was logged in; it cannot approve this.';
COMMENT ON COLUMN hook_proposals.client IS 'Its application_name.';
COMMENT ON COLUMN hook_proposals.state IS 'open, approved or rejected.';
COMMENT ON COLUMN hook_proposals.decided_at IS 'When it was approved or rejected.';
COMMENT ON COLUMN hook_proposals.decided_by IS 'The role that was logged in and did so.';
COMMENT ON COLUMN hook_proposals.answer IS 'Why it was approved or rejected.';
COMMENT ON COLUMN hook_proposals.version IS 'Approved: the version of the hook that has its text.';
COMMENT ON CONSTRAINT hook_proposals_hook_name_check ON hook_proposals IS 'A name has 1 to 200 characters.';
COMMENT ON CONSTRAINT hook_proposals_stack_check ON hook_proposals IS 'A stack has 1 to 1,000 characters.';
COMMENT ON CONSTRAINT hook_proposals_event_types_check ON hook_proposals IS 'A list of patterns, at most 64 KiB.';
COMMENT ON CONSTRAINT hook_proposals_source_text_check ON hook_proposals IS 'A text has at most 256 KiB; its lines end with line feeds alone.';
COMMENT ON CONSTRAINT hook_proposals_file_path_check ON hook_proposals IS 'A path has at most 8 KiB.';
COMMENT ON CONSTRAINT hook_proposals_said_check ON hook_proposals IS 'A JSON object of at most 128 KiB.';
COMMENT ON CONSTRAINT hook_proposals_reason_check ON hook_proposals IS 'At most 2,000 characters.';
COMMENT ON CONSTRAINT hook_proposals_answer_check ON hook_proposals IS 'At most 2,000 characters.';
COMMENT ON CONSTRAINT hook_proposals_state_check ON hook_proposals IS 'open, approved or rejected.';
COMMENT ON CONSTRAINT hook_proposals_base ON hook_proposals IS 'What it changes is a hook that is there, of that name and version.';
COMMENT ON CONSTRAINT hook_proposals_decided ON hook_proposals IS 'What is decided has its time, and who did it.';
COMMENT ON CONSTRAINT hook_proposals_approved ON hook_proposals IS 'What is approved became a version.';
COMMENT ON INDEX hook_proposals_open IS 'What waits for somebody to decide.';
COMMENT ON FUNCTION hook_settings(bigint) IS 'What a hook has beside its versions, but for whether it is enabled.';
COMMENT ON FUNCTION hook_proposal_kept() IS 'Sets who proposes and decides, and refuses whatever else.';
COMMENT ON FUNCTION hook_proposal_audit() IS 'Notes what became of a proposal.';
COMMENT ON TRIGGER hook_proposal_kept ON hook_proposals IS 'A proposal is decided once, approved by somebody else, and never changed.';
COMMENT ON TRIGGER hook_audit ON hook_proposals IS 'Keeps in hook_audit who did it.';
COMMENT ON TRIGGER hook_audit_emptied ON hook_proposals IS 'Keeps in hook_audit who did it.';
