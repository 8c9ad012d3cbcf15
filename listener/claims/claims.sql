-- OFFSET 0: each event is looked up by itself, in an index. Left to choose, PostgreSQL may read a whole table for a batch.

-- name: claim
-- What is won or mine is written; what is not is read as it stood when the statement began. A row that came
-- to be in between is in neither part: the caller asks for it again.
WITH asked AS MATERIALIZED (
    SELECT event_id, digest FROM unnest($2::text[], $3::bytea[]) AS a (event_id, digest)),
stored AS MATERIALIZED (
    SELECT event_id, e.payload_sha256 = digest AS same
    FROM asked a CROSS JOIN LATERAL (SELECT payload_sha256 FROM unlost.events WHERE event_id = a.event_id OFFSET 0) e),
dead AS MATERIALIZED (
    SELECT event_id, b.digest = a.digest AS same
    FROM asked a
    CROSS JOIN LATERAL (SELECT digest FROM unlost.buried WHERE event_id = a.event_id OFFSET 0) b
    WHERE NOT $7 AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)),
won AS (
    INSERT INTO unlost.claims AS c (event_id, digest, token, epoch, takeovers, state, until)
    SELECT event_id, digest, $1, 1, 0, 'leased', clock_timestamp() + make_interval(secs => $4)
    FROM asked
    WHERE NOT EXISTS (SELECT FROM stored s WHERE s.event_id = asked.event_id)
        AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = asked.event_id)
        AND EXISTS (SELECT FROM unlost.claims_place WHERE id = $5)
    ORDER BY event_id
    ON CONFLICT (event_id) DO UPDATE SET
        digest = excluded.digest,
        token = excluded.token,
        state = 'leased',
        until = clock_timestamp() + make_interval(secs => $4),
        epoch = CASE
            WHEN c.state = 'leased' AND c.token = excluded.token THEN c.epoch
            ELSE c.epoch + 1 END,
        takeovers = CASE
            WHEN c.state = 'leased' AND c.token <> excluded.token THEN c.takeovers + 1
            ELSE c.takeovers END
    WHERE c.state = 'released'
        OR c.state = 'leased' AND (c.token = excluded.token OR $6 AND c.until <= clock_timestamp())
    RETURNING event_id, epoch, takeovers)
SELECT event_id, 'won' AS answer, epoch, takeovers, 0::float8 AS seconds_left, true AS same FROM won
UNION ALL
SELECT event_id, 'done', 0, 0, 0, same FROM stored
UNION ALL
SELECT event_id, 'dead', 0, 0, 0, same FROM dead
UNION ALL
SELECT a.event_id, c.state, 0, 0, extract(epoch FROM c.until - clock_timestamp())::float8, c.digest = a.digest
FROM asked a
CROSS JOIN LATERAL (SELECT * FROM unlost.claims WHERE event_id = a.event_id OFFSET 0) c
WHERE EXISTS (SELECT FROM unlost.claims_place WHERE id = $5)
    AND NOT EXISTS (SELECT FROM won w WHERE w.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = a.event_id)

-- name: keep
-- $8: also take what nobody is running (cover), rather than only extend what is mine or missing (renew).
-- What is buried is nobody's, but for a replay that has dug it out.
INSERT INTO unlost.claims AS c (event_id, digest, token, epoch, takeovers, state, until)
SELECT event_id, digest, $1, epoch, takeovers, 'leased', clock_timestamp() + make_interval(secs => $6)
FROM unnest($2::text[], $3::bytea[], $4::int[], $5::int[]) AS a (event_id, digest, epoch, takeovers)
WHERE EXISTS (SELECT FROM unlost.claims_place WHERE id = $7)
    AND NOT ($8 AND EXISTS (SELECT FROM unlost.events e WHERE e.event_id = a.event_id OFFSET 0))
    AND (NOT EXISTS (SELECT FROM unlost.buried b WHERE b.event_id = a.event_id OFFSET 0)
        OR EXISTS (
            SELECT FROM unlost.claims mine
            WHERE mine.event_id = a.event_id AND mine.token = $1 AND mine.state = 'leased'
            OFFSET 0))
ORDER BY event_id
ON CONFLICT (event_id) DO UPDATE SET
    digest = excluded.digest,
    token = excluded.token,
    state = 'leased',
    until = clock_timestamp() + make_interval(secs => $6),
    epoch = greatest(c.epoch, excluded.epoch),
    takeovers = greatest(c.takeovers, excluded.takeovers)
WHERE c.state = 'leased' AND c.token = excluded.token
    OR $8 AND (c.state = 'released' OR c.state = 'leased' AND c.until <= clock_timestamp())
RETURNING event_id

-- name: settle_done
-- The row in events says "done" from here on. Returns what another holds.
WITH locked AS MATERIALIZED (
    SELECT event_id, state = 'leased' AND token <> $1 AND until > clock_timestamp() AS foreign_lease
    FROM unlost.claims WHERE event_id = ANY ($2::text[]) ORDER BY event_id FOR UPDATE),
gone AS (
    DELETE FROM unlost.claims c USING locked l
    WHERE c.event_id = l.event_id AND NOT l.foreign_lease)
SELECT event_id FROM locked WHERE foreign_lease

-- name: settle_dead
-- The row in buried says "dead" from here on. Returns what could be settled: no row, and nobody else's running lease.
WITH locked AS MATERIALIZED (
    SELECT event_id, state = 'leased' AND token <> $1 AND until > clock_timestamp() AS foreign_lease
    FROM unlost.claims WHERE event_id = ANY ($2::text[]) ORDER BY event_id FOR UPDATE),
dead AS (
    INSERT INTO unlost.buried AS b (event_id, digest)
    SELECT event_id, digest FROM unnest($2::text[], $3::bytea[]) AS a (event_id, digest)
    WHERE EXISTS (SELECT FROM unlost.claims_place WHERE id = $4)
        AND NOT EXISTS (SELECT FROM unlost.events e WHERE e.event_id = a.event_id OFFSET 0)
        AND NOT EXISTS (SELECT FROM locked l WHERE l.event_id = a.event_id AND l.foreign_lease)
    ORDER BY event_id
    ON CONFLICT (event_id) DO UPDATE SET buried_at = clock_timestamp()
    RETURNING event_id),
gone AS (
    DELETE FROM unlost.claims c USING dead d WHERE c.event_id = d.event_id)
SELECT event_id FROM dead

-- name: release
UPDATE unlost.claims c SET state = 'released', until = clock_timestamp()
FROM (
    SELECT event_id FROM unlost.claims
    WHERE event_id = ANY ($2::text[]) AND token = $1 AND state = 'leased'
    ORDER BY event_id FOR UPDATE) mine
WHERE c.event_id = mine.event_id

-- name: prune
WITH old_claims AS (
    DELETE FROM unlost.claims WHERE event_id IN (
        SELECT event_id FROM unlost.claims
        WHERE until < clock_timestamp() - make_interval(secs => $1)
        LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1),
old_burials AS (
    DELETE FROM unlost.buried WHERE event_id IN (
        SELECT event_id FROM unlost.buried
        WHERE buried_at < clock_timestamp() - make_interval(secs => $1)
        LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1)
SELECT greatest((SELECT count(*) FROM old_claims), (SELECT count(*) FROM old_burials))
