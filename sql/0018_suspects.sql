-- 0018: remember which events were running as a processor died: they run in processes of their own from then on.
-- Safe while older processors run: they never read this table, and run such events as any other.
CREATE TABLE IF NOT EXISTS hook_suspects (
    event_id uuid PRIMARY KEY,
    hook_id bigint NOT NULL,
    version integer NOT NULL,
    node text NOT NULL,
    suspected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deaths integer NOT NULL DEFAULT 0,
    died_at timestamptz,
    CONSTRAINT hook_suspects_deaths CHECK ((deaths > 0) = (died_at IS NOT NULL))
);

CREATE INDEX IF NOT EXISTS hook_suspects_deadly ON hook_suspects (died_at) WHERE died_at IS NOT NULL;

COMMENT ON TABLE hook_suspects IS
    'Events that were running as a processor died. They run in processes of their own until one run has ended.';
COMMENT ON COLUMN hook_suspects.event_id IS 'The event; it may have been deleted since.';
COMMENT ON COLUMN hook_suspects.hook_id IS 'The hook that was running for it.';
COMMENT ON COLUMN hook_suspects.version IS 'The hook''s version.';
COMMENT ON COLUMN hook_suspects.node IS 'The processor that died, or whose process for this event did.';
COMMENT ON COLUMN hook_suspects.suspected_at IS 'Since when it is a suspect.';
COMMENT ON COLUMN hook_suspects.deaths IS 'How many processes of its own it has ended: more than 0 is proof.';
COMMENT ON COLUMN hook_suspects.died_at IS 'When it ended the last of these.';
COMMENT ON CONSTRAINT hook_suspects_deaths ON hook_suspects IS 'A death has its time.';
COMMENT ON INDEX hook_suspects_deadly IS 'Which hooks have ended several processes lately.';
COMMENT ON COLUMN event_hook_executions.result IS
    'How it ended: continue, filtered, failed, timeout, memory, stuck, refused, died.';
