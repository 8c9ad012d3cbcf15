-- Listeners and routes that a person paused. Listeners read this each second, so it outlives their restarts.
CREATE TABLE pauses (
    kind text NOT NULL CHECK (kind IN ('listener', 'route')),
    name text NOT NULL,
    paused_by text NOT NULL,
    why text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name)
);
