-- 0012: the event types that people add to the catalog.
-- Events refer to them by nothing but their name: any type may be published,
-- and only a strict publisher asks here.
CREATE TABLE IF NOT EXISTS event_types (
    type text PRIMARY KEY CHECK (type <> ''),
    description text NOT NULL DEFAULT '',
    schema jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(schema) IN ('object', 'boolean')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE event_types IS 'Event types that were added to the catalog, beside those that the program knows.';
COMMENT ON COLUMN event_types.type IS 'The type as hooks see it: source.action, or the source alone.';
COMMENT ON COLUMN event_types.description IS 'What such an event tells.';
COMMENT ON COLUMN event_types.schema IS 'JSON Schema (Draft 2020-12) of the payload; {} allows any.';
COMMENT ON COLUMN event_types.created_at IS 'When it was added.';
COMMENT ON COLUMN event_types.updated_at IS 'When it was last changed.';
COMMENT ON CONSTRAINT event_types_type_check ON event_types IS 'A type has at least one character.';
COMMENT ON CONSTRAINT event_types_schema_check ON event_types IS 'A JSON Schema is an object, or true or false.';
