-- OFFSET 0: look up each event by itself, in an index. Without it, PostgreSQL may choose to scan a whole table for a
-- batch. The table of claims has few rows, and under load thousands that were settled since the last vacuum: a scan reads
-- them all. ``= ANY (ARRAY(SELECT …))`` is looked up in the index too, since the length of the array is not known before.

-- name: claim
-- Won and renewed claims are written. All others are read as they were when the statement began. A row that appeared in
-- between is in neither part: the caller asks for it again.
WITH requested AS MATERIALIZED (
    SELECT event_id, digest FROM unnest($2::text[], $3::bytea[]) AS a (event_id, digest)),
stored AS MATERIALIZED (
    SELECT event_id, e.payload_sha256 = digest AS same
    FROM requested a CROSS JOIN LATERAL (SELECT payload_sha256 FROM unlost.events WHERE event_id = a.event_id OFFSET 0) e),
dead AS MATERIALIZED (
    SELECT event_id, b.digest = a.digest AS same
    FROM requested a
    CROSS JOIN LATERAL (SELECT digest FROM unlost.buried WHERE event_id = a.event_id OFFSET 0) b
    WHERE NOT $7 AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)),
won AS (
    INSERT INTO unlost.claims AS c (event_id, digest, token, epoch, takeovers, alone, company, state, span, until)
    SELECT event_id, digest, $1, 1, 0, 0, greatest(0, $6), 'leased',
        make_interval(secs => $4), clock_timestamp() + make_interval(secs => $4)
    FROM requested
    WHERE NOT EXISTS (SELECT FROM stored s WHERE s.event_id = requested.event_id)
        AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = requested.event_id)
        AND EXISTS (SELECT FROM unlost.claims_place WHERE id = $5)
    ORDER BY event_id
    ON CONFLICT (event_id) DO UPDATE SET
        digest = excluded.digest,
        token = excluded.token,
        state = 'leased',
        span = excluded.span,
        until = clock_timestamp() + make_interval(secs => $4),
        epoch = CASE
            WHEN c.state = 'leased' AND c.token = excluded.token THEN c.epoch
            ELSE c.epoch + 1 END,
        takeovers = CASE
            WHEN c.state = 'leased' AND c.token <> excluded.token THEN c.takeovers + 1
            ELSE c.takeovers END,
        alone = CASE
            WHEN c.state = 'leased' AND c.token <> excluded.token AND c.company = 1 THEN c.alone + 1
            ELSE c.alone END,
        company = excluded.company
    WHERE CASE -- the rules of claim_held in claim.lua
        WHEN c.state = 'leased' AND c.token = excluded.token THEN c.takeovers = 0 OR $6 <> 0
        WHEN c.state = 'leased' AND c.until > clock_timestamp() THEN false
        WHEN c.state = 'released' AND c.takeovers = 0 OR $6 = -1 THEN true
        ELSE $6 > 0 AND (c.company = 0 OR $6 <= greatest(1, c.company / 2)) END
    RETURNING event_id, epoch, takeovers, alone)
SELECT event_id, 'won' AS answer, epoch, takeovers, alone,
    0 AS company, 0::float8 AS seconds_left, 0::float8 AS span, true AS same FROM won
UNION ALL
SELECT event_id, 'done', 0, 0, 0, 0, 0, 0, same FROM stored
UNION ALL
SELECT event_id, 'dead', 0, 0, 0, 0, 0, 0, same FROM dead
UNION ALL
SELECT a.event_id, CASE WHEN c.state = 'leased' AND c.token <> $1 THEN 'leased' ELSE 'free' END, 0, 0, 0, c.company,
    extract(epoch FROM c.until - clock_timestamp())::float8, extract(epoch FROM c.span)::float8, c.digest = a.digest
FROM requested a
CROSS JOIN LATERAL (SELECT * FROM unlost.claims WHERE event_id = a.event_id OFFSET 0) c
WHERE EXISTS (SELECT FROM unlost.claims_place WHERE id = $5)
    AND NOT EXISTS (SELECT FROM won w WHERE w.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)
    AND NOT EXISTS (SELECT FROM dead d WHERE d.event_id = a.event_id)

-- name: shorten
-- A lease that ends later than one granted now shows that the clock went back. It counts from now on.
UPDATE unlost.claims c SET until = clock_timestamp() + c.span
FROM (
    SELECT event_id FROM unlost.claims
    WHERE event_id = ANY ($2::text[]) AND token <> $1 AND state = 'leased' AND until > clock_timestamp() + span
    ORDER BY event_id FOR UPDATE) late
WHERE c.event_id = late.event_id
RETURNING c.event_id

-- name: extend
-- $10: also take what nobody is running (replicate), not only extend mine or missing ones (renew). Nobody holds a buried
-- event, except a replay that has revived it.
INSERT INTO unlost.claims AS c (event_id, digest, token, epoch, takeovers, alone, company, state, span, until)
SELECT event_id, digest, $1, epoch, takeovers, alone, company, 'leased',
    make_interval(secs => $8), clock_timestamp() + make_interval(secs => $8)
FROM unnest($2::text[], $3::bytea[], $4::int[], $5::int[], $6::int[], $7::int[])
    AS a (event_id, digest, epoch, takeovers, alone, company)
WHERE EXISTS (SELECT FROM unlost.claims_place WHERE id = $9)
    AND NOT ($10 AND EXISTS (SELECT FROM unlost.events e WHERE e.event_id = a.event_id OFFSET 0))
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
    span = excluded.span,
    until = clock_timestamp() + make_interval(secs => $8),
    epoch = greatest(c.epoch, excluded.epoch),
    takeovers = greatest(c.takeovers, excluded.takeovers),
    alone = greatest(c.alone, excluded.alone),
    company = excluded.company
WHERE c.state = 'leased' AND c.token = excluded.token
    OR $10 AND (c.state = 'released' OR c.state = 'leased' AND c.until <= clock_timestamp())
RETURNING event_id

-- name: settle_done
-- From now on the row in events says "done". Returns the events that another holds.
WITH locked AS MATERIALIZED (
    SELECT c.event_id, c.foreign_lease
    FROM (SELECT unnest($2::text[]) AS event_id ORDER BY 1) a
    CROSS JOIN LATERAL (
        SELECT event_id, state = 'leased' AND token <> $1 AND until > clock_timestamp() AS foreign_lease
        FROM unlost.claims WHERE event_id = a.event_id OFFSET 0 FOR UPDATE) c),
gone AS (
    DELETE FROM unlost.claims WHERE event_id = ANY (ARRAY(SELECT event_id FROM locked WHERE NOT foreign_lease)))
SELECT event_id FROM locked WHERE foreign_lease

-- name: settle_dead
-- From now on the row in buried says "dead". Returns the events that could be settled: no row, and no other's running
-- lease.
WITH locked AS MATERIALIZED (
    SELECT c.event_id, c.foreign_lease
    FROM (SELECT unnest($2::text[]) AS event_id ORDER BY 1) a
    CROSS JOIN LATERAL (
        SELECT event_id, state = 'leased' AND token <> $1 AND until > clock_timestamp() AS foreign_lease
        FROM unlost.claims WHERE event_id = a.event_id OFFSET 0 FOR UPDATE) c),
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
    DELETE FROM unlost.claims WHERE event_id = ANY (ARRAY(SELECT event_id FROM dead)))
SELECT event_id FROM dead

-- name: release
WITH mine AS MATERIALIZED (
    SELECT c.event_id
    FROM (SELECT unnest($2::text[]) AS event_id ORDER BY 1) a
    CROSS JOIN LATERAL (
        SELECT event_id FROM unlost.claims
        WHERE event_id = a.event_id AND token = $1 AND state = 'leased' OFFSET 0 FOR UPDATE) c)
UPDATE unlost.claims SET state = 'released', until = clock_timestamp()
WHERE event_id = ANY (ARRAY(SELECT event_id FROM mine))

-- name: prune
WITH old_claims AS (
    DELETE FROM unlost.claims WHERE event_id IN (
        SELECT event_id FROM unlost.claims
        WHERE NOT until BETWEEN clock_timestamp() - make_interval(secs => $1)
            AND clock_timestamp() + span + make_interval(secs => $1) -- later than that: the clock went back
        LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1),
old_burials AS (
    DELETE FROM unlost.buried WHERE event_id IN (
        SELECT event_id FROM unlost.buried
        WHERE buried_at < clock_timestamp() - make_interval(secs => $1) AND order_key IS NULL
        LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1)
SELECT greatest((SELECT count(*) FROM old_claims), (SELECT count(*) FROM old_burials))
