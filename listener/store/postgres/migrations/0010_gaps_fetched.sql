-- The events of a gap may be fetched from elsewhere: how often that was tried, when it is tried next, and what came of it.
ALTER TABLE gaps
    ADD COLUMN outcome text,
    ADD COLUMN why text NOT NULL DEFAULT '',
    ADD COLUMN fetches integer NOT NULL DEFAULT 0,
    ADD COLUMN fetch_at timestamptz;
CREATE INDEX gaps_to_fetch ON gaps (source, declared_at) WHERE outcome IS NULL;
