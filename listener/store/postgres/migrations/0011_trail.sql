-- Who changed what: append-only, each entry with the hash of the one before. The owner alone could take the triggers away.
CREATE TABLE trail (
    number bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    who text NOT NULL,
    origin text NOT NULL,
    what text NOT NULL,
    about text NOT NULL,
    why text NOT NULL,
    result text NOT NULL,
    previous text NOT NULL,
    hash text NOT NULL
);

CREATE FUNCTION trail_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the trail is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trail
    FOR EACH STATEMENT EXECUTE FUNCTION trail_is_append_only();
