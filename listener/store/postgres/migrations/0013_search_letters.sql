-- Letters are found by the beginning of an id and by fields of the payload, and name the route of their event.
ALTER TABLE letters ADD COLUMN route text;
CREATE INDEX letters_event_begins ON letters (event_id text_pattern_ops);

-- Null for a frame, for a payload that jsonb refuses, and for a line above 256 KiB, whose index would cost too much.
CREATE FUNCTION letter_payload(line bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length(line) > 262144 THEN
        RETURN NULL;
    END IF;
    RETURN (convert_from(line, 'UTF8')::json #> '{event,payload}')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Generated, so that older listeners fill it too. Beside the line, which never changes: a new state costs no index.
ALTER TABLE letter_lines ADD COLUMN payload jsonb GENERATED ALWAYS AS (letter_payload(line)) STORED;
CREATE INDEX letter_lines_payload ON letter_lines USING gin (payload jsonb_path_ops);
