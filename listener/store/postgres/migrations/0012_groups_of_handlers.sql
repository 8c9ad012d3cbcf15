-- Letters of two handlers heal apart: a group is a fingerprint and a handler, without its version; empty for none.
-- Everything here may be there already: for a time 0008 contained it (see `EDITED` in migrations.py).
ALTER TABLE letters ADD COLUMN IF NOT EXISTS
    handler_name text NOT NULL GENERATED ALWAYS AS (split_part(coalesce(handler, ''), '@', 1)) STORED;

-- What needs a human; what heals, the longest untried first.
DROP INDEX IF EXISTS letters_heal_at;
DROP INDEX letters_healing;
CREATE INDEX letters_healing ON letters (fingerprint, handler_name, heal_at) WHERE heal_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS letters_needing_human ON letters (last_at, letter_id)
    WHERE status IN ('open', 'failed') AND heal_at IS NULL;

-- Each group is divided by handler. Its probes go to all parts, since heal_base of its letters counts from them.
ALTER TABLE letter_groups DROP CONSTRAINT letter_groups_pkey;
ALTER TABLE letter_groups ADD COLUMN IF NOT EXISTS handler_name text;
INSERT INTO letter_groups (
    fingerprint, handler_name, reason, error_class, stage, error_type, message, first_at, last_at,
    open, failed, resolved, archived, quarantined, healing, probes, failures, heal_at)
SELECT l.fingerprint, l.handler_name, min(l.reason), min(l.error_class), min(l.stage), min(l.error_type), min(l.message),
    min(l.first_at), max(l.last_at), count(*) FILTER (WHERE l.status = 'open'),
    count(*) FILTER (WHERE l.status = 'failed'), count(*) FILTER (WHERE l.status = 'resolved'),
    count(*) FILTER (WHERE l.status = 'archived'), count(*) FILTER (WHERE l.status = 'quarantined'), count(l.heal_at),
    min(g.probes), min(g.failures), min(g.heal_at)
FROM letters l JOIN letter_groups g ON g.fingerprint = l.fingerprint AND g.handler_name IS NULL
GROUP BY l.fingerprint, l.handler_name;
DELETE FROM letter_groups WHERE handler_name IS NULL;
ALTER TABLE letter_groups ALTER COLUMN handler_name SET NOT NULL, ADD PRIMARY KEY (fingerprint, handler_name);

CREATE OR REPLACE FUNCTION count_letters() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO letter_groups AS g (
            fingerprint, handler_name, reason, error_class, stage, error_type, message, first_at, last_at,
            open, failed, resolved, archived, quarantined, healing)
        SELECT fingerprint, handler_name, min(reason), min(error_class), min(stage), min(error_type), min(message), min(first_at),
            max(last_at), count(*) FILTER (WHERE status = 'open'), count(*) FILTER (WHERE status = 'failed'),
            count(*) FILTER (WHERE status = 'resolved'), count(*) FILTER (WHERE status = 'archived'),
            count(*) FILTER (WHERE status = 'quarantined'), count(heal_at)
        FROM added GROUP BY fingerprint, handler_name ORDER BY fingerprint, handler_name
        ON CONFLICT (fingerprint, handler_name) DO UPDATE SET
            first_at = least(g.first_at, excluded.first_at), last_at = greatest(g.last_at, excluded.last_at),
            open = g.open + excluded.open, failed = g.failed + excluded.failed,
            resolved = g.resolved + excluded.resolved, archived = g.archived + excluded.archived,
            quarantined = g.quarantined + excluded.quarantined, healing = g.healing + excluded.healing;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
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
        SELECT fingerprint, handler_name, sum(n) FILTER (WHERE status = 'open') AS open,
            sum(n) FILTER (WHERE status = 'failed') AS failed, sum(n) FILTER (WHERE status = 'resolved') AS resolved,
            sum(n) FILTER (WHERE status = 'archived') AS archived,
            sum(n) FILTER (WHERE status = 'quarantined') AS quarantined, sum(n) FILTER (WHERE heals) AS healing
        FROM (
            SELECT fingerprint, handler_name, status, heal_at IS NOT NULL AS heals, 1 AS n FROM added
            UNION ALL SELECT fingerprint, handler_name, status, heal_at IS NOT NULL, -1 FROM gone
            -- so that each sum has something to add up
            UNION ALL SELECT a.fingerprint, a.handler_name, s, true, 0
            FROM (SELECT DISTINCT fingerprint, handler_name FROM added) a
                CROSS JOIN unnest(array['open', 'failed', 'resolved', 'archived', 'quarantined']) s) changed
        GROUP BY fingerprint, handler_name) d
    WHERE g.fingerprint = d.fingerprint AND g.handler_name = d.handler_name;
    RETURN NULL;
END $$;

-- heals: how many of a group listeners retry. None, if other listeners live and none of them has its handler; but what
-- no handler has seen yet is for any.
CREATE OR REPLACE VIEW letter_prospects AS
WITH live AS MATERIALIZED (
    SELECT DISTINCT split_part(coalesce(handler, ''), '@', 1) AS handler_name FROM listeners
    WHERE listens AND agreed AND seen_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp() + interval '10 s')
SELECT g.*, CASE
    WHEN g.handler_name = '' OR g.handler_name IN (SELECT handler_name FROM live) OR NOT EXISTS (SELECT FROM live)
        OR (g.reason IN ('overflow', 'stopped') AND EXISTS (SELECT FROM live WHERE handler_name <> '')) THEN healing
    ELSE 0 END AS heals
FROM letter_groups g;
