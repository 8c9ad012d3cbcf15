-- Effects of handlers: recorded with the row, taken by one listener at a time, and delivered at least once.

-- name: record
-- Only with the row: a handler that rolled back by hand has none.
INSERT INTO unlost.effects (event_id, number, kind, url, host, headers, body, queue)
SELECT $1, a.number, a.kind, a.url, a.host, a.headers, a.body, a.queue
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[])
    AS a (number, kind, url, host, headers, body, queue)
WHERE EXISTS (SELECT FROM unlost.events e WHERE e.event_id = $1)
ORDER BY a.number
ON CONFLICT (event_id, number) DO NOTHING

-- name: take
-- In order: not while an earlier one of the same queue waits, whoever holds it.
-- $1 token, $2 seconds, $3 how many, $4 hosts to leave out, $5 the only host, or null.
WITH due AS MATERIALIZED (
    SELECT e.event_id, e.number FROM unlost.effects e
    WHERE e.status = 'waiting' AND e.due_at <= clock_timestamp() AND e.leased_until <= clock_timestamp()
        AND e.host <> ALL ($4::text[]) AND ($5::text IS NULL OR e.host = $5)
        AND (e.queue IS NULL OR NOT EXISTS (
            SELECT FROM unlost.effects b WHERE b.queue = e.queue AND b.status = 'waiting' AND b.seq < e.seq))
    ORDER BY e.due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE unlost.effects e SET owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2)
FROM due WHERE e.event_id = due.event_id AND e.number = due.number
RETURNING e.event_id, e.number, e.kind, e.url, e.host, e.headers, e.body, e.attempts,
    extract(epoch FROM e.leased_until)::float8 AS taken_until

-- name: delivered
UPDATE unlost.effects SET
    status = 'delivered', attempts = attempts + 1, ended_at = clock_timestamp(), failure = NULL,
    owner = '', leased_until = '-infinity'
WHERE event_id = $1 AND number = $2 AND status <> 'delivered'

-- name: failed
-- $3 token, $4 why, $5 seconds until it is taken again, $6 whether the attempt counts, $7 until when it was taken: the
-- same listener may have taken it once more meanwhile.
UPDATE unlost.effects SET
    attempts = attempts + $6::bool::int, failure = $4, due_at = clock_timestamp() + make_interval(secs => $5),
    owner = '', leased_until = '-infinity'
WHERE event_id = $1 AND number = $2 AND owner = $3 AND status <> 'delivered'
    AND extract(epoch FROM leased_until)::float8 = $7

-- name: buried
UPDATE unlost.effects SET
    status = 'buried', attempts = attempts + 1, failure = $4, letter_id = $5, ended_at = clock_timestamp(),
    owner = '', leased_until = '-infinity'
WHERE event_id = $1 AND number = $2 AND owner = $3 AND status = 'waiting'
    AND extract(epoch FROM leased_until)::float8 = $6

-- name: revive
-- Waiting, although it has a letter: its listener ended between the two.
UPDATE unlost.effects SET owner = $3, leased_until = clock_timestamp() + make_interval(secs => $4)
WHERE event_id = $1 AND number = $2 AND status <> 'delivered' AND leased_until <= clock_timestamp()
RETURNING event_id, number, kind, url, host, headers, body, attempts,
    extract(epoch FROM leased_until)::float8 AS taken_until

-- name: status
SELECT status FROM unlost.effects WHERE event_id = $1 AND number = $2

-- name: waiting
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float8
FROM (SELECT recorded_at FROM unlost.effects WHERE status = 'waiting' ORDER BY due_at LIMIT $1) w

-- name: prune
-- Those with a letter stay until that is resolved.
DELETE FROM unlost.effects WHERE (event_id, number) IN (
    SELECT e.event_id, e.number FROM unlost.effects e
    WHERE e.status <> 'waiting' AND e.ended_at < clock_timestamp() - make_interval(secs => $1)
        AND (e.status = 'delivered' OR EXISTS (
            SELECT FROM unlost.letters l WHERE l.letter_id = e.letter_id AND l.status = 'resolved'))
    LIMIT $2 FOR UPDATE SKIP LOCKED)
