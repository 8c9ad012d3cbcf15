-- name: refresh
-- A time in the future shows that the clock went back. Such rows count from now on, as leases do; "late" reports it.
WITH mine AS (
    UPDATE unlost.listeners l SET seen_at = clock_timestamp()
    WHERE token = $1
        AND greatest(seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $2) > clock_timestamp()
    RETURNING token, places, instance_id, handler, listens, agreed),
long_gone AS ( -- a crash of the server would revive them, with places that nobody else knows any more
    DELETE FROM unlost.listeners
    WHERE token <> $1
        AND greatest(seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $2 + 60) < clock_timestamp()),
cut AS (
    UPDATE unlost.listeners SET seen_at = clock_timestamp()
    WHERE token IN (
        SELECT token FROM unlost.listeners WHERE token <> $1 AND seen_at > clock_timestamp() FOR UPDATE SKIP LOCKED)),
cut_place AS (
    UPDATE unlost.claims_place SET since = clock_timestamp() WHERE since > clock_timestamp()),
live AS (
    SELECT * FROM mine
    UNION ALL
    SELECT token, places, instance_id, handler, listens, agreed FROM unlost.listeners
    WHERE token <> $1
        AND greatest(seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $2) > clock_timestamp())
SELECT *, (SELECT bool_or(seen_at > clock_timestamp()) FROM unlost.listeners) AS late FROM live

-- name: cut_leases
-- After the clock went back: see shorten in claims.sql. A row that is locked now gets a new lease from its owner.
UPDATE unlost.claims c SET until = clock_timestamp() + c.span
FROM (
    SELECT event_id FROM unlost.claims
    WHERE state = 'leased' AND until > clock_timestamp() + span
    FOR UPDATE SKIP LOCKED) late
WHERE c.event_id = late.event_id

-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('unlost.listeners', 0))

-- name: upsert
-- A live listener that has agreed keeps that. One that joins or comes back agrees if no other handler is at work.
INSERT INTO unlost.listeners AS mine (token, instance_id, places, handler, listens, agreed, routes)
VALUES ($1, $2, $3, $4, $5, NOT $5 OR $6 OR NOT EXISTS (
    SELECT FROM unlost.listeners
    WHERE token <> $1 AND listens AND agreed AND handler IS DISTINCT FROM $4
        AND greatest(seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $7) > clock_timestamp()), $8)
ON CONFLICT (token) DO UPDATE SET places = excluded.places, seen_at = clock_timestamp(),
    agreed = excluded.agreed OR mine.agreed
        AND greatest(mine.seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $7) > clock_timestamp()

-- name: live
SELECT token, places, instance_id, handler, listens, agreed FROM unlost.listeners
WHERE greatest(seen_at, (SELECT since FROM unlost.claims_place)) + make_interval(secs => $1) > clock_timestamp()

-- name: leave
DELETE FROM unlost.listeners WHERE token = $1

-- name: place
SELECT id FROM unlost.claims_place

-- name: found_place
-- The server has crashed, failed over or been restored: rows of the last moment may be lost.
-- The named column makes this fail while a restore has made the table, but not its key yet. The same holds for store.
WITH founded AS (INSERT INTO unlost.claims_place DEFAULT VALUES ON CONFLICT (one) DO NOTHING RETURNING 1)
INSERT INTO unlost.losses (number, since)
SELECT coalesce((SELECT max(number) FROM unlost.losses), 0) + 1, least(grown_at, clock_timestamp())
FROM unlost.store, founded WHERE version > 0

-- name: store
SELECT generation, version FROM unlost.store

-- name: found_store
INSERT INTO unlost.store DEFAULT VALUES ON CONFLICT (one) DO NOTHING

-- name: grow
-- Not if the store went back: the version must not hide that.
UPDATE unlost.store SET version = version + 1, grown_at = clock_timestamp()
WHERE generation = $1 AND version >= $2 RETURNING generation, version

-- name: renew
WITH renewed AS (
    UPDATE unlost.store SET generation = $3::text || gen_random_uuid(), version = greatest(version, $2) + 1
    WHERE generation = $1 RETURNING grown_at)
INSERT INTO unlost.losses (number, since)
SELECT coalesce((SELECT max(number) FROM unlost.losses), 0) + 1, least(grown_at, clock_timestamp()) FROM renewed
