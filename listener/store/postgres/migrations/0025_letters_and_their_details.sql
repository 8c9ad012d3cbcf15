-- A new state is a new version of the row in letters, with an entry in every index that contains it. So what a letter
-- says, and the indexes of all letters, stand in a table of their own, whose rows never change. Indexes of letters contain
-- what waits, what heals or what is over: a letter that is resolved enters few of them.
-- A listener that ships letters meanwhile waits: its letters would have no details.
LOCK TABLE letters IN ACCESS EXCLUSIVE MODE;
CREATE TABLE letter_details (
    letter_id text COLLATE "C" PRIMARY KEY,
    event_id text,
    type text,
    route text,
    error_type text NOT NULL,
    message text NOT NULL,
    fingerprint text NOT NULL,
    last_at timestamptz NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO letter_details
SELECT letter_id, event_id, type, route, error_type, message, fingerprint, last_at, shipped_at FROM letters;

-- The pages of lists, newest first; groups; one event.
CREATE INDEX letter_details_last_at ON letter_details (last_at, letter_id);
CREATE INDEX letter_details_fingerprint ON letter_details (fingerprint text_pattern_ops, last_at, letter_id);
CREATE INDEX letter_details_event_begins ON letter_details (event_id text_pattern_ops);

-- What a replay of a group takes, oldest first.
CREATE INDEX letters_waiting_alike ON letters (fingerprint text_pattern_ops, last_at, letter_id)
    WHERE status IN ('open', 'failed');
DROP INDEX letters_last_at, letters_fingerprint, letters_event_begins;

-- Until it is replaced, a listener of an earlier version gets an error for these, as during a restore, and ships later.
ALTER TABLE letters
    DROP COLUMN type, DROP COLUMN route, DROP COLUMN error_type, DROP COLUMN message, DROP COLUMN shipped_at;
ANALYZE letter_details;

CREATE OR REPLACE FUNCTION count_letters() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO letter_groups AS g (
            fingerprint, handler_name, reason, error_class, stage, error_type, message, first_at, last_at,
            open, failed, resolved, archived, quarantined, healing)
        SELECT a.fingerprint, a.handler_name, min(a.reason), min(a.error_class), min(a.stage),
            coalesce(min(d.error_type), ''), coalesce(min(d.message), ''), min(a.first_at),
            max(a.last_at), count(*) FILTER (WHERE a.status = 'open'), count(*) FILTER (WHERE a.status = 'failed'),
            count(*) FILTER (WHERE a.status = 'resolved'), count(*) FILTER (WHERE a.status = 'archived'),
            count(*) FILTER (WHERE a.status = 'quarantined'), count(a.heal_at)
        FROM added a LEFT JOIN letter_details d ON d.letter_id = a.letter_id
        GROUP BY a.fingerprint, a.handler_name ORDER BY a.fingerprint, a.handler_name
        ON CONFLICT (fingerprint, handler_name) DO UPDATE SET
            first_at = least(g.first_at, excluded.first_at), last_at = greatest(g.last_at, excluded.last_at),
            open = g.open + excluded.open, failed = g.failed + excluded.failed,
            resolved = g.resolved + excluded.resolved, archived = g.archived + excluded.archived,
            quarantined = g.quarantined + excluded.quarantined, healing = g.healing + excluded.healing;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        DELETE FROM letter_details WHERE letter_id IN (SELECT letter_id FROM gone);
        PERFORM FROM letter_groups WHERE (fingerprint, handler_name) IN (SELECT fingerprint, handler_name FROM gone)
            ORDER BY fingerprint, handler_name FOR UPDATE;
        UPDATE letter_groups g SET open = g.open - d.open, failed = g.failed - d.failed,
            resolved = g.resolved - d.resolved, archived = g.archived - d.archived,
            quarantined = g.quarantined - d.quarantined, healing = g.healing - d.healing
        FROM (
            SELECT fingerprint, handler_name, count(*) FILTER (WHERE status = 'open') AS open,
                count(*) FILTER (WHERE status = 'failed') AS failed,
                count(*) FILTER (WHERE status = 'resolved') AS resolved,
                count(*) FILTER (WHERE status = 'archived') AS archived,
                count(*) FILTER (WHERE status = 'quarantined') AS quarantined, count(heal_at) AS healing
            FROM gone GROUP BY fingerprint, handler_name) d
        WHERE g.fingerprint = d.fingerprint AND g.handler_name = d.handler_name;
        RETURN NULL;
    END IF;
    -- In one order, so that two transactions cannot wait for each other.
    PERFORM FROM letter_groups WHERE (fingerprint, handler_name) IN (SELECT fingerprint, handler_name FROM added)
        ORDER BY fingerprint, handler_name FOR UPDATE;
    UPDATE letter_groups g SET open = g.open + d.open, failed = g.failed + d.failed,
        resolved = g.resolved + d.resolved, archived = g.archived + d.archived,
        quarantined = g.quarantined + d.quarantined, healing = g.healing + d.healing
    FROM (
        SELECT fingerprint, handler_name, coalesce(sum(n) FILTER (WHERE status = 'open'), 0) AS open,
            coalesce(sum(n) FILTER (WHERE status = 'failed'), 0) AS failed,
            coalesce(sum(n) FILTER (WHERE status = 'resolved'), 0) AS resolved,
            coalesce(sum(n) FILTER (WHERE status = 'archived'), 0) AS archived,
            coalesce(sum(n) FILTER (WHERE status = 'quarantined'), 0) AS quarantined,
            coalesce(sum(n) FILTER (WHERE heals), 0) AS healing
        FROM (
            SELECT fingerprint, handler_name, status, heal_at IS NOT NULL AS heals, count(*) AS n
            FROM added GROUP BY 1, 2, 3, 4
            UNION ALL SELECT fingerprint, handler_name, status, heal_at IS NOT NULL, -count(*)
            FROM gone GROUP BY 1, 2, 3, 4) changed
        GROUP BY fingerprint, handler_name) d
    WHERE g.fingerprint = d.fingerprint AND g.handler_name = d.handler_name;
    RETURN NULL;
END $$;
