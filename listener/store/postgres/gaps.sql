-- name: record
INSERT INTO unlost.gaps (gap_id, source, how, instance, after_cursor, resumed_at, missing, began_at, declared_at)
SELECT g.gap_id, g.source, g.how, $1, g.after_cursor, g.resumed_at, g.missing,
    to_timestamp(g.began_at), to_timestamp(g.declared_at)
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::float8[], $9::float8[])
    AS g (gap_id, source, how, after_cursor, resumed_at, missing, began_at, declared_at)
ON CONFLICT (gap_id) DO NOTHING

-- name: take
-- A listener that dies leaves the gap to the others once its lease has ended.
UPDATE unlost.gaps SET fetch_at = clock_timestamp() + make_interval(secs => $3), fetches = fetches + 1
WHERE gap_id = (
    SELECT gap_id FROM unlost.gaps
    WHERE source = $1 AND outcome IS NULL
        AND coalesce(fetch_at, declared_at + make_interval(secs => $2)) <= clock_timestamp()
    ORDER BY declared_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING gap_id, source, how, after_cursor, resumed_at, missing,
    extract(epoch FROM began_at)::float8, extract(epoch FROM declared_at)::float8, fetches

-- name: fetched
-- A listener that was frozen may come late: it adds what it found, and changes no outcome.
UPDATE unlost.gaps
SET backfilled = backfilled + $2, outcome = coalesce(outcome, $3),
    why = CASE WHEN outcome IS NULL THEN $4 ELSE why END,
    fetch_at = clock_timestamp() + make_interval(secs => $5)
WHERE gap_id = $1
