-- 0014: remember which processors were told to be silent, so that their return is told, too.
ALTER TABLE hook_processors ADD COLUMN IF NOT EXISTS lost_at timestamptz;
COMMENT ON COLUMN hook_processors.lost_at IS
    'When health.check_failed told that it is silent; infinity once another has taken its place.';
