-- 0009: what hooks remember between runs, and the locks that they hold.
-- Safe while older processors run: they read neither table.
CREATE TABLE IF NOT EXISTS hook_state (
    stack text COLLATE "C" NOT NULL DEFAULT '',
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('hook', 'shared')),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    key text COLLATE "C" NOT NULL CHECK (octet_length(key) <= 255),
    value jsonb NOT NULL,
    expires_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stack, scope, name, key)
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS hook_state_expired ON hook_state (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS hook_state_locks (
    stack text COLLATE "C" NOT NULL DEFAULT '',
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('hook', 'shared')),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    lock text COLLATE "C" NOT NULL CHECK (octet_length(lock) <= 255),
    owner uuid NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (stack, scope, name, lock)
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS hook_state_locks_expired ON hook_state_locks (expires_at);

COMMENT ON TABLE hook_state IS 'What hooks remember: one row a key. A key that has expired is as good as gone, and is removed by and by.';
COMMENT ON COLUMN hook_state.stack IS 'The hook''s stack; empty for hooks of no stack.';
COMMENT ON COLUMN hook_state.scope IS 'hook: one hook''s own keys; shared: keys of all hooks of the stack.';
COMMENT ON COLUMN hook_state.name IS 'The hook''s name, or the shared namespace''s.';
COMMENT ON COLUMN hook_state.key IS 'The key, of at most 255 bytes.';
COMMENT ON COLUMN hook_state.value IS 'The value, with its type.';
COMMENT ON COLUMN hook_state.expires_at IS 'From then on the key does not exist. NULL: it stays.';
COMMENT ON COLUMN hook_state.updated_at IS 'When it was last set.';
COMMENT ON CONSTRAINT hook_state_scope_check ON hook_state IS 'hook or shared.';
COMMENT ON CONSTRAINT hook_state_name_check ON hook_state IS 'A name has at least one character.';
COMMENT ON CONSTRAINT hook_state_key_check ON hook_state IS 'At most 255 bytes.';
COMMENT ON INDEX hook_state_expired IS 'Removing what has expired.';
COMMENT ON TABLE hook_state_locks IS 'Locks that runs of hooks hold, each until it expires at the latest.';
COMMENT ON COLUMN hook_state_locks.stack IS 'As in hook_state.';
COMMENT ON COLUMN hook_state_locks.scope IS 'As in hook_state.';
COMMENT ON COLUMN hook_state_locks.name IS 'As in hook_state.';
COMMENT ON COLUMN hook_state_locks.lock IS 'The lock''s name, of at most 255 bytes.';
COMMENT ON COLUMN hook_state_locks.owner IS 'The run that holds it: only that one can release it.';
COMMENT ON COLUMN hook_state_locks.taken_at IS 'When it was taken.';
COMMENT ON COLUMN hook_state_locks.expires_at IS 'From then on anyone may take it.';
COMMENT ON CONSTRAINT hook_state_locks_scope_check ON hook_state_locks IS 'hook or shared.';
COMMENT ON CONSTRAINT hook_state_locks_name_check ON hook_state_locks IS 'A name has at least one character.';
COMMENT ON CONSTRAINT hook_state_locks_lock_check ON hook_state_locks IS 'At most 255 bytes.';
COMMENT ON INDEX hook_state_locks_expired IS 'Removing what has expired.';
