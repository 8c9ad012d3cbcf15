-- OFFSET 0: look up each event by itself, see rows.sql.

-- name: enter
-- Not if a row exists, nor while another's lease runs: its owner may be about to store the row. Letters of one key get
-- places in the order in which they are given. A letter whose event is a row blocks its key no more,
-- nor does one that was archived so that its followers go.
WITH asked AS MATERIALIZED (
    SELECT event_id, digest, letter_id, claimed, number, stops,
        CASE WHEN order_key IS NOT NULL AND NOT EXISTS (
            SELECT FROM unlost.letter_records r WHERE r.letter_id = a.letter_id AND r.followers = 'go' OFFSET 0)
        THEN order_key END AS order_key
    FROM unnest($2::text[], $3::bytea[], $4::text[], $5::bool[], $6::text[], $7::bool[]) WITH ORDINALITY
        AS a (event_id, digest, letter_id, claimed, order_key, stops, number)),
stored AS MATERIALIZED (
    SELECT event_id, e.payload_sha256 = digest OR coalesce(e.original_sha256 = digest, false) AS same
    FROM asked a CROSS JOIN LATERAL (
        SELECT payload_sha256, original_sha256 FROM unlost.events WHERE event_id = a.event_id OFFSET 0) e),
entered AS (
    INSERT INTO unlost.buried AS b (event_id, digest, letter_id, order_key, stops)
    SELECT event_id, digest, letter_id, order_key, stops FROM asked a
    WHERE claimed
        AND NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)
        AND NOT EXISTS (
            SELECT FROM unlost.claims c
            WHERE c.event_id = a.event_id
                AND c.state = 'leased' AND c.token <> $1 AND c.until > clock_timestamp()
            OFFSET 0)
    ORDER BY CASE WHEN order_key IS NULL THEN event_id END, number
    ON CONFLICT (event_id) DO UPDATE SET letter_id = coalesce(b.letter_id, excluded.letter_id)
    RETURNING event_id, digest, letter_id),
opened AS (
    UPDATE unlost.buried SET order_key = NULL
    WHERE order_key IS NOT NULL AND event_id = ANY (ARRAY(SELECT event_id FROM stored)))
SELECT event_id, CASE WHEN same THEN 'stored' ELSE 'taken' END AS what, NULL::bytea AS digest, NULL::text AS letter_id
FROM stored
UNION ALL
SELECT event_id, 'buried', digest, letter_id FROM entered

-- name: lost_since
-- The latest loss, and since when rows may be lost through the losses that came after the loss $1.
SELECT (SELECT id FROM unlost.losses ORDER BY number DESC LIMIT 1) AS id, extract(epoch FROM min(since))::float8 AS since
FROM unlost.losses WHERE number > coalesce((SELECT number FROM unlost.losses WHERE id = $1), 0)

-- name: gone
-- Returns the resolved letters whose events are neither a row nor under another letter.
SELECT letter_id
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS a (event_id, claim_id, digest, letter_id)
WHERE NOT EXISTS (SELECT FROM unlost.events WHERE event_id = a.event_id OFFSET 0)
    AND NOT EXISTS (
        SELECT FROM unlost.buried
        WHERE event_id = a.claim_id AND digest = a.digest AND letter_id <> a.letter_id
        OFFSET 0)
