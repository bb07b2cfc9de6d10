-- 0013: hosts, the watchers of each, and the number that tells their daemons to reload.
CREATE TABLE IF NOT EXISTS hosts (
    name text PRIMARY KEY CHECK (name <> ''),
    address text NOT NULL DEFAULT '',
    tags text[] NOT NULL DEFAULT '{}',
    version text NOT NULL DEFAULT '',
    system_info jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'connected' CHECK (status IN ('connected', 'stopped', 'late', 'disconnected')),
    registered_at timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    mismatches text[] NOT NULL DEFAULT '{}'
);

-- No reference to hosts: a watcher may be there before its host.
CREATE TABLE IF NOT EXISTS watchers (
    id text PRIMARY KEY CHECK (id <> ''),
    type text NOT NULL CHECK (type <> ''),
    config jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
    enabled boolean NOT NULL DEFAULT TRUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_check timestamptz,
    last_event timestamptz,
    host text NOT NULL CHECK (host <> ''),
    name text NOT NULL DEFAULT '',
    stack text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE INDEX IF NOT EXISTS watchers_host ON watchers (host);
CREATE INDEX IF NOT EXISTS watchers_type ON watchers (type);
CREATE UNIQUE INDEX IF NOT EXISTS watchers_name ON watchers (host, name) WHERE name <> '';

-- One row: every change of what is watched adds one to it, in the same transaction.
CREATE TABLE IF NOT EXISTS watcher_registry (
    only_row boolean PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    revision bigint NOT NULL DEFAULT 1
);
INSERT INTO watcher_registry DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION watchers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE pg_catalog.format('UPDATE %I.watcher_registry SET revision = revision + 1', TG_TABLE_SCHEMA);
    PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '.watchers', '');
    RETURN NULL;
END $$;

-- Not last_check, last_event and last_error: they change every few seconds and change nothing that is watched.
CREATE OR REPLACE TRIGGER watchers_changed
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, type, config, enabled, host, name, stack ON watchers
    FOR EACH STATEMENT EXECUTE FUNCTION watchers_changed();

COMMENT ON TABLE hosts IS 'Hosts whose watcher daemons have registered; events call them agents.';
COMMENT ON COLUMN hosts.name IS 'Name (HOST_NAME), unique.';
COMMENT ON COLUMN hosts.address IS 'The address that it reaches the database from.';
COMMENT ON COLUMN hosts.tags IS 'Labels (HOST_TAGS).';
COMMENT ON COLUMN hosts.version IS 'Version of its daemon''s program.';
COMMENT ON COLUMN hosts.system_info IS 'os, arch, cpu_cores, memory_gb.';
COMMENT ON COLUMN hosts.status IS
    'connected; stopped: its daemon has ended in order; late: heartbeats are missing; disconnected: for long.';
COMMENT ON COLUMN hosts.registered_at IS 'When it was first heard of.';
COMMENT ON COLUMN hosts.last_seen IS 'Its last heartbeat.';
COMMENT ON COLUMN hosts.mismatches IS 'Versions of processors that it was reported to differ from.';
COMMENT ON TABLE watchers IS 'What hosts watch.';
COMMENT ON COLUMN watchers.id IS 'watcher- and a number.';
COMMENT ON COLUMN watchers.type IS 'Type: file, cpu, process, ...';
COMMENT ON COLUMN watchers.config IS 'conditions (a list), options (texts by name) and interval (seconds; none: the type''s).';
COMMENT ON COLUMN watchers.enabled IS 'FALSE: kept, but not watched.';
COMMENT ON COLUMN watchers.created_at IS 'When it was created.';
COMMENT ON COLUMN watchers.last_check IS 'When it last looked; flushed every few seconds.';
COMMENT ON COLUMN watchers.last_event IS 'When it last noticed something; flushed every few seconds.';
COMMENT ON COLUMN watchers.host IS 'The host that watches.';
COMMENT ON COLUMN watchers.name IS 'Name, unique on its host where there is one.';
COMMENT ON COLUMN watchers.stack IS 'Stack of its events.';
COMMENT ON COLUMN watchers.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN watchers.last_error IS 'Why it cannot look; NULL: it can.';
COMMENT ON INDEX watchers_host IS 'The watchers of a host.';
COMMENT ON INDEX watchers_type IS 'The watchers of a type.';
COMMENT ON INDEX watchers_name IS 'One watcher a name on each host.';
COMMENT ON TABLE watcher_registry IS 'One row whose revision tells daemons that watchers changed.';
COMMENT ON COLUMN watcher_registry.only_row IS 'Always TRUE: there is one row.';
COMMENT ON COLUMN watcher_registry.revision IS 'Grows with every change of what is watched.';
COMMENT ON FUNCTION watchers_changed() IS 'Adds one to the revision and notifies daemons.';
COMMENT ON TRIGGER watchers_changed ON watchers IS 'Tells daemons to reload.';
COMMENT ON CONSTRAINT hosts_name_check ON hosts IS 'A name has at least one character.';
COMMENT ON CONSTRAINT hosts_status_check ON hosts IS 'connected, stopped, late or disconnected.';
COMMENT ON CONSTRAINT watchers_id_check ON watchers IS 'An id has at least one character.';
COMMENT ON CONSTRAINT watchers_type_check ON watchers IS 'A type has at least one character.';
COMMENT ON CONSTRAINT watchers_config_check ON watchers IS 'A configuration is a JSON object.';
COMMENT ON CONSTRAINT watchers_host_check ON watchers IS 'A watcher has a host.';
COMMENT ON CONSTRAINT watcher_registry_only_row_check ON watcher_registry IS 'Together with the key: one row.';
