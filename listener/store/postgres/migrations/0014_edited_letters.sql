-- A person may edit a letter's event. Each version is a record; the newest stands beside the line, as replays take it.
ALTER TABLE letter_records
    ADD COLUMN version integer,
    ADD COLUMN base integer,
    ADD COLUMN how text,
    ADD COLUMN event bytea;
ALTER TABLE letter_lines ADD COLUMN edited bytea;

-- assigned: the cause that a person named.
ALTER TABLE letters
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN edited_at timestamptz,
    ADD COLUMN assigned text NOT NULL DEFAULT '',
    ADD COLUMN assigned_at timestamptz;

-- The version from which a row was stored, if its letter was edited; and the digest of what the publisher sent, of which
-- a copy may still come.
ALTER TABLE events
    ADD COLUMN letter_version integer,
    ADD COLUMN original_sha256 bytea;
