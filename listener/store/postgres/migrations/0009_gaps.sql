-- What a listener could not receive of a source, as far as it is known: a declared gap.
CREATE TABLE gaps (
    gap_id text PRIMARY KEY,
    source text NOT NULL,
    how text NOT NULL,
    instance text NOT NULL,
    after_cursor text,
    resumed_at text,
    missing bigint,
    backfilled bigint NOT NULL DEFAULT 0,
    began_at timestamptz NOT NULL,
    declared_at timestamptz NOT NULL
);
CREATE INDEX gaps_by_time ON gaps (declared_at);
