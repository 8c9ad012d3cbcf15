-- OFFSET 0: each event is looked up by itself, in an index. Left to choose, PostgreSQL may read a whole table for a batch.

-- name: claim
-- What is won or mine is written; what is not is read as it stood when the statement began. A row that came
-- to be in between is in neither part: the caller asks for it again.
WITH asked AS MATERIALIZED (
    SELECT event_id, digest FROM unnest($3::text[], $4::bytea[]) AS a (event_id, digest)),
stored AS MATERIALIZED (
    SELECT event_id, e.payload_sha256 = digest AS same
    FROM asked a CROSS JOIN LATERAL (SELECT payload_sha256 FROM events WHERE event_id = a.event_id OFFSET 0) e),
dead AS MATERIALIZED (
    SELECT event_id, b.digest = a.digest AS same
    FROM asked a
    CROSS JOIN LATERAL (SELECT digest FROM buried WHERE group_name = $1 AND event_id = a.event_id OFFSET 0) b
    WHERE NOT $8 AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)),
won AS (
    INSERT INTO claims AS c (group_name, event_id, digest, token, epoch, takeovers, state, until)
    SELECT $1, event_id, digest, $2, 1, 0, 'leased', clock_timestamp() + make_interval(secs => $5)
    FROM asked
    WHERE NOT EXISTS (SELECT FROM stored s WHERE s.event_id = asked.event_id)
        AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = asked.event_id)
        AND EXISTS (SELECT FROM claims_place WHERE id = $6)
    ORDER BY event_id
    ON CONFLICT (group_name, event_id) DO UPDATE SET
        digest = excluded.digest,
        token = excluded.token,
        state = 'leased',
        until = clock_timestamp() + make_interval(secs => $5),
        epoch = CASE
            WHEN c.state = 'leased' AND c.token = excluded.token THEN c.epoch
            ELSE c.epoch + 1 END,
        takeovers = CASE
            WHEN c.state = 'leased' AND c.token <> excluded.token THEN c.takeovers + 1
            ELSE c.takeovers END
    WHERE c.state = 'released'
        OR c.state = 'leased' AND (c.token = excluded.token OR $7 AND c.until <= clock_timestamp())
    RETURNING event_id, epoch, takeovers)
SELECT event_id, 'won' AS answer, epoch, takeovers, 0::float8 AS seconds_left, true AS same FROM won
UNION ALL
SELECT event_id, 'done', 0, 0, 0, same FROM stored
UNION ALL
SELECT event_id, 'dead', 0, 0, 0, same FROM dead
UNION ALL
SELECT a.event_id, c.state, 0, 0, extract(epoch FROM c.until - clock_timestamp())::float8, c.digest = a.digest
FROM asked a
CROSS JOIN LATERAL (SELECT * FROM claims WHERE group_name = $1 AND event_id = a.event_id OFFSET 0) c
WHERE EXISTS (SELECT FROM claims_place WHERE id = $6)
    AND NOT EXISTS (SELECT FROM won w WHERE w.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = a.event_id)

-- name: keep
-- $9: also take what nobody is running (cover), rather than only extend what is mine or missing (renew).
-- What is buried is nobody's, but for a replay that has dug it out.
INSERT INTO claims AS c (group_name, event_id, digest, token, epoch, takeovers, state, until)
SELECT $1, event_id, digest, $2, epoch, takeovers, 'leased', clock_timestamp() + make_interval(secs => $7)
FROM unnest($3::text[], $4::bytea[], $5::int[], $6::int[]) AS a (event_id, digest, epoch, takeovers)
WHERE EXISTS (SELECT FROM claims_place WHERE id = $8)
    AND NOT ($9 AND EXISTS (SELECT FROM events e WHERE e.event_id = a.event_id OFFSET 0))
    AND (NOT EXISTS (SELECT FROM buried b WHERE b.group_name = $1 AND b.event_id = a.event_id OFFSET 0)
        OR EXISTS (
            SELECT FROM claims mine
            WHERE mine.group_name = $1 AND mine.event_id = a.event_id AND mine.token = $2 AND mine.state = 'leased'
            OFFSET 0))
ORDER BY event_id
ON CONFLICT (group_name, event_id) DO UPDATE SET
    digest = excluded.digest,
    token = excluded.token,
    state = 'leased',
    until = clock_timestamp() + make_interval(secs => $7),
    epoch = greatest(c.epoch, excluded.epoch),
    takeovers = greatest(c.takeovers, excluded.takeovers)
WHERE c.state = 'leased' AND c.token = excluded.token
    OR $9 AND (c.state = 'released' OR c.state = 'leased' AND c.until <= clock_timestamp())
RETURNING event_id

-- name: settle_done
-- The row in events says "done" from here on. Returns what another holds.
WITH locked AS MATERIALIZED (
    SELECT event_id, state = 'leased' AND token <> $2 AND until > clock_timestamp() AS foreign_lease
    FROM claims WHERE group_name = $1 AND event_id = ANY ($3::text[]) ORDER BY event_id FOR UPDATE),
gone AS (
    DELETE FROM claims c USING locked l
    WHERE c.group_name = $1 AND c.event_id = l.event_id AND NOT l.foreign_lease)
SELECT event_id FROM locked WHERE foreign_lease

-- name: settle_dead
-- The row in buried says "dead" from here on. Returns what could be settled: no row, and nobody else's running lease.
WITH locked AS MATERIALIZED (
    SELECT event_id, state = 'leased' AND token <> $2 AND until > clock_timestamp() AS foreign_lease
    FROM claims WHERE group_name = $1 AND event_id = ANY ($3::text[]) ORDER BY event_id FOR UPDATE),
dead AS (
    INSERT INTO buried AS b (group_name, event_id, digest)
    SELECT $1, event_id, digest FROM unnest($3::text[], $4::bytea[]) AS a (event_id, digest)
    WHERE EXISTS (SELECT FROM claims_place WHERE id = $5)
        AND NOT EXISTS (SELECT FROM events e WHERE e.event_id = a.event_id OFFSET 0)
        AND NOT EXISTS (SELECT FROM locked l WHERE l.event_id = a.event_id AND l.foreign_lease)
    ORDER BY event_id
    ON CONFLICT (group_name, event_id) DO UPDATE SET buried_at = clock_timestamp()
    RETURNING event_id),
gone AS (
    DELETE FROM claims c USING dead d WHERE c.group_name = $1 AND c.event_id = d.event_id)
SELECT event_id FROM dead

-- name: release
UPDATE claims c SET state = 'released', until = clock_timestamp()
FROM (
    SELECT event_id FROM claims
    WHERE group_name = $1 AND event_id = ANY ($3::text[]) AND token = $2 AND state = 'leased'
    ORDER BY event_id FOR UPDATE) mine
WHERE c.group_name = $1 AND c.event_id = mine.event_id

-- name: prune
WITH old_claims AS (
    DELETE FROM claims WHERE (group_name, event_id) IN (
        SELECT group_name, event_id FROM claims
        WHERE group_name = $1 AND until < clock_timestamp() - make_interval(secs => $2)
        LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING 1),
old_burials AS (
    DELETE FROM buried WHERE (group_name, event_id) IN (
        SELECT group_name, event_id FROM buried
        WHERE group_name = $1 AND buried_at < clock_timestamp() - make_interval(secs => $2)
        LIMIT $3 FOR UPDATE SKIP LOCKED)
    RETURNING 1)
SELECT greatest((SELECT count(*) FROM old_claims), (SELECT count(*) FROM old_burials))
