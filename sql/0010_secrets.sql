-- 0010: secrets, encrypted before they come here.
-- The database holds no key: whoever reads it, or a dump of it, reads names only.
CREATE TABLE IF NOT EXISTS hook_secrets (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
    key_id text COLLATE "C" NOT NULL,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE hook_secrets IS 'Secrets that hooks may be granted, each encrypted with AES-256-GCM.';
COMMENT ON COLUMN hook_secrets.name IS 'The name that hooks ask for.';
COMMENT ON COLUMN hook_secrets.key_id IS 'Which key it is encrypted with: the first 16 hexadecimal digits of the key''s SHA-256.';
COMMENT ON COLUMN hook_secrets.ciphertext IS 'Nonce (12 bytes), ciphertext, tag (16 bytes); bound to the schema and the name, so that rows cannot be exchanged.';
COMMENT ON COLUMN hook_secrets.created_at IS 'When a secret of this name was first set.';
COMMENT ON COLUMN hook_secrets.updated_at IS 'When its value was last set.';
COMMENT ON CONSTRAINT hook_secrets_name_check ON hook_secrets IS 'Letters, digits, _, . and -, at most 128: also the name of a file.';
