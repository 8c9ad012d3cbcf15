-- name: insert
INSERT INTO events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
SELECT event_id, type, payload::jsonb, other::jsonb, digest, $1, $2, epoch, attempts, to_timestamp(received_at)
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::int[], $9::int[], $10::float8[])
    AS a (event_id, type, payload, other, digest, epoch, attempts, received_at)
ORDER BY event_id
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id

-- name: insert_one
INSERT INTO events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
VALUES ($3, $4, $5::text::jsonb, $6::text::jsonb, $7, $1, $2, $8, $9, to_timestamp($10))
ON CONFLICT (event_id) DO NOTHING
RETURNING set_config('idle_in_transaction_session_timeout', $11, true)

-- name: compare
SELECT a.number,
    e.claim_token = $1 AND e.epoch = a.epoch AND e.received_at = to_timestamp(a.received_at)
        AND e.payload_sha256 = a.digest AS mine,
    e.payload_sha256 = a.digest OR (
        e.type IS NOT DISTINCT FROM a.type AND e.payload = a.payload::jsonb
        AND e.other IS NOT DISTINCT FROM a.other::jsonb) AS same
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::int[], $8::int[], $9::float8[])
    WITH ORDINALITY AS a (event_id, type, payload, other, digest, epoch, attempts, received_at, number)
JOIN events e USING (event_id)

-- name: stored
SELECT e.event_id, e.payload_sha256 = a.digest AS same
FROM unnest($1::text[], $2::bytea[]) AS a (event_id, digest)
JOIN events e USING (event_id)

-- name: same_content
SELECT payload_sha256 = $2 OR (
    type IS NOT DISTINCT FROM $3 AND payload = $4::text::jsonb AND other IS NOT DISTINCT FROM $5::text::jsonb)
FROM events WHERE event_id = $1

-- name: page
SELECT event_id, seq, type, payload::text, other::text, instance_id, epoch, attempts, received_at, processed_at
FROM events WHERE seq < $1 ORDER BY seq DESC LIMIT $2

-- name: one
SELECT event_id, seq, type, payload::text, other::text, instance_id, epoch, attempts, received_at, processed_at
FROM events WHERE event_id = $1

-- name: prune
DELETE FROM events WHERE event_id IN (
    SELECT event_id FROM events WHERE processed_at < clock_timestamp() - make_interval(secs => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED)
