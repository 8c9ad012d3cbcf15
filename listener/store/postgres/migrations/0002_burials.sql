-- Who is a dead letter, kept beside the rows and as durably: a row and a burial exclude each other.
CREATE TABLE buried (
    group_name text NOT NULL,
    event_id text NOT NULL,
    digest bytea NOT NULL,
    letter_id text,
    buried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_name, event_id)
);

CREATE INDEX buried_buried_at ON buried USING brin (buried_at);

INSERT INTO buried (group_name, event_id, digest, buried_at)
SELECT group_name, event_id, digest, until FROM claims WHERE state = 'dead';

DELETE FROM claims WHERE state = 'dead';

ALTER TABLE claims
    DROP CONSTRAINT claims_state_check,
    ADD CONSTRAINT claims_state_check CHECK (state IN ('leased', 'released'));
