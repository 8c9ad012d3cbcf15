-- Until when a listener fetches a gap: of one source, a group fetches one gap at a time.
ALTER TABLE gaps ADD COLUMN leased_until timestamptz;
CREATE INDEX gaps_leased ON gaps (source, leased_until) WHERE leased_until IS NOT NULL;

-- When each listener last heard of a source, and was connected to it, and the last numbers that it counted: see
-- listener/source/contact_keeper.py. A listener that starts finds there what nobody received meanwhile.
CREATE TABLE contacts (
    source text NOT NULL,
    listener text NOT NULL,
    heard_at timestamptz NOT NULL,
    connected_at timestamptz NOT NULL,
    numbers text,
    PRIMARY KEY (source, listener)
);
