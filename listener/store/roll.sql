-- name: refresh
WITH mine AS (
    UPDATE listeners l SET seen_at = clock_timestamp()
    WHERE group_name = $1 AND token = $2
        AND greatest(seen_at, (SELECT since FROM claims_place)) + make_interval(secs => $3) > clock_timestamp()
    RETURNING token, places),
long_gone AS ( -- a crash of the server would let them live on, and in places that nobody else knows any more
    DELETE FROM listeners
    WHERE group_name = $1 AND token <> $2
        AND greatest(seen_at, (SELECT since FROM claims_place)) + make_interval(secs => $3 + 60) < clock_timestamp())
SELECT token, places FROM mine
UNION ALL
SELECT token, places FROM listeners
WHERE group_name = $1 AND token <> $2
    AND greatest(seen_at, (SELECT since FROM claims_place)) + make_interval(secs => $3) > clock_timestamp()

-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('unlost listeners ' || $1, 0))

-- name: upsert
INSERT INTO listeners (group_name, token, instance_id, places) VALUES ($1, $2, $3, $4)
ON CONFLICT (group_name, token) DO UPDATE SET places = excluded.places, seen_at = clock_timestamp()

-- name: live
SELECT token, places FROM listeners
WHERE group_name = $1
    AND greatest(seen_at, (SELECT since FROM claims_place)) + make_interval(secs => $2) > clock_timestamp()

-- name: leave
DELETE FROM listeners WHERE group_name = $1 AND token = $2

-- name: place
SELECT id FROM claims_place

-- name: found_place
INSERT INTO claims_place DEFAULT VALUES ON CONFLICT DO NOTHING
