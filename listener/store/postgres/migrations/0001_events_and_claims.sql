CREATE TABLE events (
    event_id text PRIMARY KEY,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    type text,
    payload jsonb NOT NULL,
    other jsonb,
    payload_sha256 bytea NOT NULL,
    instance_id text NOT NULL,
    claim_token text NOT NULL,
    epoch integer NOT NULL,
    attempts integer NOT NULL,
    received_at timestamptz NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- pages of /api/events, newest first
CREATE UNIQUE INDEX events_seq ON events (seq);
-- retention: rows come in the order of time, so a few pages of index cover them all
CREATE INDEX events_processed_at ON events USING brin (processed_at);

CREATE TABLE cursors (
    source text NOT NULL,
    group_name text NOT NULL,
    cursor text NOT NULL,
    ordinal numeric,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, group_name)
);

CREATE TABLE listeners (
    group_name text NOT NULL,
    token text NOT NULL,
    instance_id text NOT NULL,
    places text[] NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_name, token)
);

-- Unlogged: cheap, and empty after a crash or a failover. claims_place is emptied at the same moment,
-- so a new id in it tells that claims were forgotten.
CREATE UNLOGGED TABLE claims (
    group_name text NOT NULL,
    event_id text NOT NULL,
    digest bytea NOT NULL,
    token text NOT NULL,
    epoch integer NOT NULL,
    takeovers integer NOT NULL,
    state text NOT NULL CHECK (state IN ('leased', 'released', 'dead')),
    until timestamptz NOT NULL,
    PRIMARY KEY (group_name, event_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

CREATE UNLOGGED TABLE claims_place (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
