-- name: since
INSERT INTO unlost.notifications (key, target, kind, facts, ended_at) VALUES ('since', '', '', '', clock_timestamp())
ON CONFLICT (key, target) DO NOTHING

-- name: enter
-- Of the last day, and of nothing before the first listener notified. At most 30 in an hour: then one says that there are more.
WITH since AS (
    SELECT greatest(at, clock_timestamp() - interval '1 day') AS at FROM unlost.notifications WHERE key = 'since' AND target = ''),
happened AS (
    (SELECT 'group:' || fingerprint AS key, 'letters.new_group' AS kind, json_build_object('fingerprint', fingerprint,
            'reason', min(reason), 'error_type', min(error_type), 'message', min(message))::text AS facts
        FROM unlost.letter_groups g
        WHERE NOT EXISTS (
            SELECT FROM unlost.letter_details d WHERE d.fingerprint = g.fingerprint AND d.shipped_at <= (SELECT at FROM since))
        GROUP BY fingerprint HAVING sum(open + failed + quarantined) > 0
        ORDER BY min(first_at) LIMIT 100)
    UNION ALL
    (SELECT 'healing:' || fingerprint || to_char(clock_timestamp() AT TIME ZONE 'UTC', ':YYYY-MM-DD'),
            'letters.healing_ended', json_build_object('fingerprint', fingerprint, 'reason', min(reason),
            'error_type', min(error_type), 'letters', count(*))::text
        FROM (
            SELECT fingerprint, letter_id, reason FROM unlost.letters
            WHERE status IN ('open', 'failed') AND heal_at IS NULL AND heals
                AND coalesce(state_at, last_at) > (SELECT at FROM since)
            ORDER BY last_at, letter_id LIMIT 10000) l
        JOIN unlost.letter_details d USING (letter_id, fingerprint)
        GROUP BY fingerprint LIMIT 100)
    UNION ALL
    (SELECT 'gap:' || gap_id, 'source.gap', json_build_object('source', source, 'how', how, 'missing', missing)::text
        FROM unlost.gaps WHERE declared_at > (SELECT at FROM since) ORDER BY declared_at LIMIT 100)
    UNION ALL
    (SELECT DISTINCT ON (result) 'audit:' || md5(result) || to_char(at, ':YYYY-MM-DD'),
            'audit.not_clean', json_build_object('result', result)::text
        FROM (SELECT * FROM unlost.trail ORDER BY number DESC LIMIT 200) t
        WHERE what = 'audit not clean' AND t.at > (SELECT at FROM since) LIMIT 100)),
new AS (
    SELECT h.key, t.target, h.kind, h.facts, row_number() OVER (PARTITION BY t.target ORDER BY h.key) AS number
    FROM happened h CROSS JOIN unnest($1::text[]) AS t (target)
    WHERE NOT EXISTS (SELECT FROM unlost.notifications n WHERE n.key = h.key AND n.target = t.target)
        -- A group that heals no longer is reported once a day: its key of yesterday stands for it until a day has passed.
        AND NOT (h.kind = 'letters.healing_ended' AND EXISTS (
            SELECT FROM unlost.notifications n
            WHERE n.target = t.target AND n.kind = h.kind AND n.at > clock_timestamp() - interval '1 day'
                AND split_part(n.key, ':', 2) = split_part(h.key, ':', 2)))),
room AS (
    SELECT t.target, 30 - (SELECT count(*) FROM unlost.notifications n
        WHERE n.target = t.target AND n.at > clock_timestamp() - interval '1 hour' AND n.outcome <> 'left out') AS places
    FROM unnest($1::text[]) AS t (target)),
many AS (
    INSERT INTO unlost.notifications (key, target, kind, facts)
    SELECT 'many:' || to_char(clock_timestamp(), 'YYYY-MM-DD HH24'), target, 'notifications.many', '{}'
    FROM new JOIN room USING (target) WHERE number > places GROUP BY target
    ON CONFLICT (key, target) DO NOTHING)
INSERT INTO unlost.notifications (key, target, kind, facts, ended_at, outcome)
SELECT key, target, kind, facts, CASE WHEN number > places THEN clock_timestamp() END,
    CASE WHEN number > places THEN 'left out' ELSE '' END
FROM new JOIN room USING (target)
ON CONFLICT (key, target) DO NOTHING

-- name: take
UPDATE unlost.notifications SET leased_until = clock_timestamp() + make_interval(secs => $3), attempts = attempts + 1
WHERE (key, target) IN (
    SELECT key, target FROM unlost.notifications
    WHERE ended_at IS NULL AND due_at <= clock_timestamp() AND leased_until <= clock_timestamp() AND target = ANY ($1::text[])
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING key, target, kind, facts, extract(epoch FROM at)::float8, attempts

-- name: ended
UPDATE unlost.notifications SET ended_at = clock_timestamp(), outcome = $3 WHERE key = $1 AND target = $2

-- name: again
UPDATE unlost.notifications SET due_at = clock_timestamp() + make_interval(secs => $3), leased_until = '-infinity'
WHERE key = $1 AND target = $2

-- name: prune
DELETE FROM unlost.notifications WHERE at < clock_timestamp() - interval '30 days' AND ended_at IS NOT NULL AND target <> ''
