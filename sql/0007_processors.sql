-- 0007: the processors that are running, as they last said of themselves.
CREATE TABLE IF NOT EXISTS hook_processors (
    node text PRIMARY KEY,
    host text NOT NULL,
    instance text NOT NULL DEFAULT '',
    pid integer NOT NULL,
    version text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'draining', 'stopped')),
    wake text NOT NULL CHECK (wake IN ('listen', 'poll')),
    workers integer NOT NULL,
    busy integer NOT NULL DEFAULT 0,
    stuck integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    stats jsonb NOT NULL DEFAULT '{}'
);

COMMENT ON TABLE hook_processors IS 'Processors and how they are; a row is fresh while heartbeat_at is.';
COMMENT ON COLUMN hook_processors.node IS 'host:pid, with the instance where there is one; also in executions and leases.';
COMMENT ON COLUMN hook_processors.host IS 'Host name.';
COMMENT ON COLUMN hook_processors.instance IS 'Instance name of the unit, if any.';
COMMENT ON COLUMN hook_processors.pid IS 'Process id on that host.';
COMMENT ON COLUMN hook_processors.version IS 'Program version.';
COMMENT ON COLUMN hook_processors.state IS 'running, draining or stopped.';
COMMENT ON COLUMN hook_processors.wake IS 'listen: woken by NOTIFY; poll: looks every POLL_INTERVAL.';
COMMENT ON COLUMN hook_processors.workers IS 'Worker slots.';
COMMENT ON COLUMN hook_processors.busy IS 'Worker slots in use.';
COMMENT ON COLUMN hook_processors.stuck IS 'Threads given up because a run would not end.';
COMMENT ON COLUMN hook_processors.started_at IS 'When it started.';
COMMENT ON COLUMN hook_processors.heartbeat_at IS 'When it last wrote this row.';
COMMENT ON COLUMN hook_processors.stats IS 'Counters since its start, and rate and latency of the last minute.';
COMMENT ON CONSTRAINT hook_processors_state_check ON hook_processors IS 'running, draining or stopped.';
COMMENT ON CONSTRAINT hook_processors_wake_check ON hook_processors IS 'listen or poll.';
