-- 0008: the newest events, for lists and for following along.
-- BRIN, not btree: every acknowledgement adds an entry to each index of the
-- table, and a btree on seq cost it 10 to 20% where this costs nothing measurable.
CREATE INDEX IF NOT EXISTS hook_events_newest ON hook_events USING brin (seq)
    WITH (pages_per_range = 32, autosummarize = on);

COMMENT ON INDEX hook_events_newest IS 'Lists: the newest events.';
