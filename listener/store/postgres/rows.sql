-- In a batch, JSON comes as one text, separated by U+0001, which no JSON contains; digests come as one string of bytes.
-- Epochs and attempts are left out if all of them are 1.
-- OFFSET 0: look up each event by itself, in an index. Without it, PostgreSQL overestimates some batches and scans a
-- whole table for one event.

-- name: insert
INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler)
SELECT event_id, type, payload::jsonb, other::jsonb, substr($7::bytea, number::int * 32 - 31, 32),
    $1, $2, coalesce(epoch, 1), coalesce(attempts, 1), to_timestamp(received_at), $12
FROM ROWS FROM (
    unnest($3::text[], $4::text[], $8::int[], $9::int[], $10::float8[]),
    string_to_table($5::text, E'\x01'), string_to_table($6::text, E'\x01', '')) WITH ORDINALITY
    AS a (event_id, type, epoch, attempts, received_at, payload, other, number)
WHERE NOT EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = a.event_id OFFSET 0)
ORDER BY event_id
ON CONFLICT (event_id) DO NOTHING

-- name: insert_lone
INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler)
SELECT $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $1, $2, $8, $9, to_timestamp($10), $12
WHERE NOT EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = $3)
ON CONFLICT (event_id) DO NOTHING

-- name: insert_keyed
-- As insert_lone, for a row with a key ($13) that is not from a letter: it is refused while any letter blocks its key.
INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler)
SELECT $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $1, $2, $8, $9, to_timestamp($10), $12
WHERE NOT EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = $3)
    AND NOT EXISTS (SELECT FROM unlost.buried b WHERE b.order_key = $13)
ON CONFLICT (event_id) DO NOTHING

-- name: insert_edited
-- The event of an edited letter: $13 the version, $14 the digest of what the publisher sent.
INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler, letter_version, original_sha256)
SELECT $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $1, $2, $8, $9, to_timestamp($10), $12, $13, $14
WHERE NOT EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = $3)
ON CONFLICT (event_id) DO NOTHING

-- name: insert_in_order
-- As insert, for rows with keys ($13); $14 and $15 as in insert_edited. A row is refused if its key is blocked by an earlier letter. A letter's event that
-- becomes a row blocks its key no more.
WITH asked AS MATERIALIZED (
    SELECT event_id, type, payload, other, substr($7::bytea, number::int * 32 - 31, 32) AS digest, epoch, attempts,
        received_at, order_key, version, original
    FROM ROWS FROM (
        unnest($3::text[], $4::text[], $8::int[], $9::int[], $10::float8[], $13::text[], $14::int[], $15::bytea[]),
        string_to_table($5::text, E'\x01'), string_to_table($6::text, E'\x01', '')) WITH ORDINALITY
        AS a (event_id, type, epoch, attempts, received_at, order_key, version, original, payload, other, number)),
inserted AS (
    INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler, letter_version, original_sha256)
    SELECT event_id, type, payload::jsonb, other::jsonb, digest,
        $1, $2, coalesce(epoch, 1), coalesce(attempts, 1), to_timestamp(received_at), $12, version, original
    FROM asked a
    WHERE NOT EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = a.event_id OFFSET 0)
        AND NOT EXISTS (
            SELECT FROM unlost.buried b
            WHERE b.order_key = a.order_key AND b.event_id <> a.event_id AND b.place < coalesce(
                (SELECT m.place FROM unlost.buried m WHERE m.event_id = a.event_id AND m.order_key = a.order_key),
                9223372036854775807)
            OFFSET 0)
    ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id),
opened AS (
    UPDATE unlost.buried SET order_key = NULL
    WHERE order_key IS NOT NULL AND event_id = ANY (ARRAY(SELECT event_id FROM inserted)))
SELECT count(*) FROM inserted

-- name: insert_runs
-- As insert_in_order, for several rows of one key, none of them from a letter. Of each key, the rows up to the first that
-- cannot be inserted are, and the numbers of the others are returned. If another transaction inserts one of them at this
-- moment, the division by zero undoes the statement: no row may come before the one that it follows.
WITH asked AS MATERIALIZED (
    SELECT event_id, type, payload, other, substr($7::bytea, number::int * 32 - 31, 32) AS digest, epoch, attempts,
        received_at, number, bool_or(
            EXISTS (SELECT FROM unlost.events e WHERE e.event_id = a.event_id OFFSET 0)
            OR EXISTS (SELECT FROM unlost.buried b WHERE $11::bool AND b.event_id = a.event_id OFFSET 0)
            OR EXISTS (SELECT FROM unlost.buried b WHERE b.order_key = a.order_key OFFSET 0))
            OVER (PARTITION BY order_key, CASE WHEN order_key IS NULL THEN number END ORDER BY number) AS stopped
    FROM ROWS FROM (
        unnest($3::text[], $4::text[], $8::int[], $9::int[], $10::float8[], $13::text[]),
        string_to_table($5::text, E'\x01'), string_to_table($6::text, E'\x01', '')) WITH ORDINALITY
        AS a (event_id, type, epoch, attempts, received_at, order_key, payload, other, number)),
inserted AS (
    INSERT INTO unlost.events (event_id, type, payload, other, payload_sha256, instance_id, claim_token, epoch, attempts, received_at, handler)
    SELECT event_id, type, payload::jsonb, other::jsonb, digest,
        $1, $2, coalesce(epoch, 1), coalesce(attempts, 1), to_timestamp(received_at), $12
    FROM asked
    WHERE NOT stopped
    ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id)
SELECT ARRAY(SELECT number FROM asked WHERE stopped ORDER BY number) AS stopped,
    1 / ((SELECT count(*) FROM inserted) = (SELECT count(*) FROM asked WHERE NOT stopped))::int AS whole

-- name: blocked
-- Which of these events have a key that is blocked by an earlier letter.
SELECT event_id FROM unnest($1::text[], $2::text[]) AS a (event_id, order_key)
WHERE EXISTS (
    SELECT FROM unlost.buried b
    WHERE b.order_key = a.order_key AND b.event_id <> a.event_id AND b.place < coalesce(
        (SELECT m.place FROM unlost.buried m WHERE m.event_id = a.event_id AND m.order_key = a.order_key),
        9223372036854775807)
    OFFSET 0)

-- name: any_stops
SELECT EXISTS (
    SELECT FROM unlost.buried WHERE order_key IS NOT NULL AND stops IS NOT FALSE AND coalesce(stops, $1::bool))

-- name: probe
-- An insert of no row writes nothing to the log, and its commit waits for nothing. The message makes it wait.
WITH none AS (
    INSERT INTO unlost.events (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
    SELECT b.event_id, 'null', '', '', '', 1, 1, now() FROM unlost.buried b WHERE b.event_id IS NULL
    ON CONFLICT (event_id) DO NOTHING)
SELECT pg_logical_emit_message(true, 'unlost', 'probe')

-- name: compare
SELECT a.number,
    e.claim_token = $1 AND e.epoch = coalesce(a.epoch, 1) AND e.received_at = to_timestamp(a.received_at)
        AND e.payload_sha256 = digest AS mine,
    e.payload_sha256 = digest OR coalesce(e.original_sha256 = digest, false) OR (
        e.type IS NOT DISTINCT FROM a.type AND e.payload = a.payload::jsonb
        AND e.other IS NOT DISTINCT FROM a.other::jsonb) AS same
FROM ROWS FROM (
    unnest($2::text[], $3::text[], $7::int[], $8::int[], $9::float8[]),
    string_to_table($4::text, E'\x01'), string_to_table($5::text, E'\x01', '')) WITH ORDINALITY
    AS a (event_id, type, epoch, attempts, received_at, payload, other, number)
CROSS JOIN LATERAL substr($6::bytea, a.number::int * 32 - 31, 32) AS digest
CROSS JOIN LATERAL (SELECT * FROM unlost.events WHERE event_id = a.event_id OFFSET 0) e

-- name: settled
WITH asked AS MATERIALIZED (SELECT event_id, digest FROM unnest($1::text[], $2::bytea[]) AS a (event_id, digest)),
stored AS MATERIALIZED (
    SELECT event_id, e.payload_sha256 = digest AS same
    FROM asked a CROSS JOIN LATERAL (SELECT payload_sha256 FROM unlost.events WHERE event_id = a.event_id OFFSET 0) e)
SELECT event_id, same, true AS stored FROM stored
UNION ALL
SELECT event_id, b.digest = a.digest, false
FROM asked a
CROSS JOIN LATERAL (SELECT digest FROM unlost.buried WHERE $3::bool AND event_id = a.event_id OFFSET 0) b
WHERE NOT EXISTS (SELECT FROM stored s WHERE s.event_id = a.event_id)

-- name: same_content
SELECT payload_sha256 = $2 OR coalesce(original_sha256 = $2, false) OR (
    type IS NOT DISTINCT FROM $3 AND payload = $4::text::jsonb AND other IS NOT DISTINCT FROM $5::text::jsonb)
FROM unlost.events WHERE event_id = $1

-- name: page
SELECT event_id, seq, type, payload::text, other::text, instance_id, epoch, attempts, received_at, processed_at, handler, letter_version
FROM unlost.events WHERE seq < $1 ORDER BY seq DESC LIMIT $2

-- name: behind
-- Listeners write twice a second, so the age of the last commit that arrived is how far a standby is behind.
SELECT CASE WHEN pg_is_in_recovery()
    THEN greatest(0, extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::float8 END

-- name: one
SELECT event_id, seq, type, payload::text, other::text, instance_id, epoch, attempts, received_at, processed_at, handler, letter_version
FROM unlost.events WHERE event_id = $1

-- name: prune
-- A resolved letter without a row says nothing about losses that are older than all rows.
WITH forgotten AS (DELETE FROM unlost.losses WHERE noticed_at < clock_timestamp() - make_interval(secs => $1))
DELETE FROM unlost.events WHERE event_id IN (
    SELECT event_id FROM unlost.events WHERE processed_at < clock_timestamp() - make_interval(secs => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: hashed_by_peers
SELECT count(*) FROM (SELECT event_id, instance_id, processed_at FROM unlost.events ORDER BY seq DESC LIMIT 5000) AS latest
WHERE instance_id <> $1 AND processed_at > clock_timestamp() - make_interval(secs => $2) AND event_id ~ '^[0-9a-f]{64}$'
