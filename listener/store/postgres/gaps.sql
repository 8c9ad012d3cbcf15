-- name: record
INSERT INTO unlost.gaps (gap_id, source, how, instance, after_cursor, resumed_at, missing, began_at, declared_at)
SELECT g.gap_id, g.source, g.how, $1, g.after_cursor, g.resumed_at, g.missing,
    to_timestamp(g.began_at), to_timestamp(g.declared_at)
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::float8[], $9::float8[])
    AS g (gap_id, source, how, after_cursor, resumed_at, missing, began_at, declared_at)
ON CONFLICT (gap_id) DO NOTHING

-- name: turn
-- One listener after the other takes a gap of a source, so that each sees what the one before it has taken.
SELECT pg_advisory_xact_lock(hashtextextended('unlost.gaps.' || $1, 0))

-- name: take
-- A listener that dies leaves the gap to the others once its lease has ended.
UPDATE unlost.gaps SET leased_until = clock_timestamp() + make_interval(secs => $3), fetches = fetches + 1
WHERE gap_id = (
    SELECT gap_id FROM unlost.gaps
    WHERE source = $1 AND outcome IS NULL
        AND coalesce(fetch_at, declared_at + make_interval(secs => $2)) <= clock_timestamp()
    ORDER BY declared_at LIMIT 1
) AND NOT EXISTS (SELECT FROM unlost.gaps WHERE source = $1 AND leased_until > clock_timestamp())
RETURNING gap_id, source, how, after_cursor, resumed_at, missing,
    extract(epoch FROM began_at)::float8, extract(epoch FROM declared_at)::float8, fetches

-- name: keep
UPDATE unlost.gaps SET leased_until = clock_timestamp() + make_interval(secs => $2), why = $3
WHERE gap_id = $1 AND outcome IS NULL

-- name: fetched
-- A listener that was frozen may come late: it adds what it found, and changes no outcome.
UPDATE unlost.gaps
SET backfilled = backfilled + $2, outcome = coalesce(outcome, $3),
    why = CASE WHEN outcome IS NULL THEN $4 ELSE why END,
    fetch_at = clock_timestamp() + make_interval(secs => $5), leased_until = NULL
WHERE gap_id = $1

-- name: contacts
SELECT extract(epoch FROM clock_timestamp() - heard_at)::float8 AS heard,
    extract(epoch FROM clock_timestamp() - connected_at)::float8 AS connected, numbers,
    extract(epoch FROM heard_at)::float8 AS at
FROM unlost.contacts WHERE source = $1 AND listener <> $2

-- name: keep_contact
-- A listener that writes has compared all rows of before with its own.
WITH gone AS (
    DELETE FROM unlost.contacts
    WHERE source = $1 AND listener <> $2 AND connected_at < clock_timestamp() - interval '10 minutes'
)
INSERT INTO unlost.contacts (source, listener, heard_at, connected_at, numbers)
VALUES ($1, $2, clock_timestamp() - make_interval(secs => $3), clock_timestamp() - make_interval(secs => $4), $5)
ON CONFLICT (source, listener) DO UPDATE
SET heard_at = excluded.heard_at, connected_at = excluded.connected_at, numbers = excluded.numbers
