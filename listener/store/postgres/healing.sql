-- Letters that listeners retry by themselves. A group or a letter is leased to the listener that has taken it.

-- name: wake
-- Parked letters (heal_at is infinite) that are the first of their keys now. The recursion visits each key once.
WITH RECURSIVE keys (order_key) AS (
    (SELECT order_key FROM unlost.buried WHERE order_key IS NOT NULL ORDER BY order_key LIMIT 1)
    UNION ALL
    SELECT (SELECT b.order_key FROM unlost.buried b WHERE b.order_key > k.order_key ORDER BY b.order_key LIMIT 1)
    FROM keys k WHERE k.order_key IS NOT NULL)
UPDATE unlost.letters SET heal_at = clock_timestamp()
WHERE heal_at = 'infinity' AND status IN ('open', 'failed') AND letter_id = ANY (ARRAY(
    SELECT (SELECT b.letter_id FROM unlost.buried b WHERE b.order_key = k.order_key ORDER BY b.place LIMIT 1)
    FROM keys k WHERE k.order_key IS NOT NULL))

-- name: groups
-- Those first that have waited longest since they could be tried.
-- Those of this handler, and what no handler has seen yet, for a listener that has one.
-- $1 token, $2 seconds, $3 the handler's name, $4 how many.
UPDATE unlost.letter_groups SET healer = $1, healer_until = clock_timestamp() + make_interval(secs => $2)
WHERE (fingerprint, handler_name) IN (
    SELECT g.fingerprint, g.handler_name FROM unlost.letter_groups g
    WHERE g.healing > 0 AND g.heal_at <= clock_timestamp() AND g.healer_until <= clock_timestamp()
        AND (g.handler_name IN ('', split_part($3, '@', 1)) OR (g.reason IN ('overflow', 'stopped') AND $3 IS NOT NULL))
        AND EXISTS (
            SELECT FROM unlost.letters l
            WHERE l.fingerprint = g.fingerprint AND l.handler_name = g.handler_name AND l.heal_at <= clock_timestamp()
                AND NOT EXISTS (
                    SELECT FROM unlost.letter_leases h WHERE h.letter_id = l.letter_id AND h.until > clock_timestamp()))
    ORDER BY g.heal_at, g.first_at LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING fingerprint, failures, handler_name

-- name: next
-- The longest untried come first: a letter that always fails must not be every probe.
-- $1 token, $2 and $3 the group, $4 how many, $5 how many bytes: at least one letter.
SELECT n.letter_id FROM (
    SELECT o.letter_id, o.heal_at, o.last_at, octet_length(n.line) + coalesce(octet_length(n.edited), 0) AS size,
        sum(octet_length(n.line) + coalesce(octet_length(n.edited), 0))
            OVER (ORDER BY o.heal_at, o.last_at, o.letter_id) AS upto
    FROM (
        SELECT l.letter_id, l.heal_at, l.last_at FROM unlost.letters l
        WHERE l.fingerprint = $2 AND l.handler_name = $3 AND l.heal_at <= clock_timestamp()
            AND l.status IN ('open', 'failed')
            AND NOT EXISTS (
                SELECT FROM unlost.letter_leases h WHERE h.letter_id = l.letter_id AND h.until > clock_timestamp())
            AND EXISTS (
                SELECT FROM unlost.letter_groups g
                WHERE g.fingerprint = $2 AND g.handler_name = $3 AND g.healer = $1)
        ORDER BY l.heal_at, l.last_at, l.letter_id LIMIT $4) o
    JOIN unlost.letter_lines n ON n.letter_id = o.letter_id) n
WHERE n.upto <= $5::bigint OR n.upto = n.size
ORDER BY n.heal_at, n.last_at, n.letter_id

-- name: try
-- $1 letters, $2 seconds until the next try of a letter whose listener dies of it, $3 the number of the last try.
UPDATE unlost.letters l SET
    heal_at = CASE WHEN g.probes - l.heal_base + 1 < $3::bigint THEN clock_timestamp() + make_interval(secs => $2) END,
    heal_base = l.heal_base - 1
FROM unlost.letter_groups g, unlost.letter_lines n
WHERE l.letter_id = ANY ($1::text[]) AND l.status IN ('open', 'failed')
    AND g.fingerprint = l.fingerprint AND g.handler_name = l.handler_name AND n.letter_id = l.letter_id
RETURNING l.letter_id, n.line, n.edited, l.version, g.probes - l.heal_base - 1 AS tries, l.last_at

-- name: failed
-- $1 letters, $2 seconds until each is tried again, null for never; $3: the try counts for the whole group instead.
UPDATE unlost.letters l SET
    heal_at = clock_timestamp() + make_interval(secs => a.delay), heal_base = l.heal_base + $3::bool::int
FROM unnest($1::text[], $2::float8[]) AS a (letter_id, delay)
WHERE l.letter_id = a.letter_id AND l.status IN ('open', 'failed')

-- name: behind
-- These were not tried: earlier letters of their keys wait.
UPDATE unlost.letters SET heal_at = 'infinity', heal_base = heal_base + 1
WHERE letter_id = ANY ($1::text[]) AND status IN ('open', 'failed')

-- name: unreadable
-- No listener can try these.
UPDATE unlost.letters SET heal_at = NULL WHERE letter_id = ANY ($1::text[])

-- name: untried
-- These were taken, and not tried before an orderly stop.
UPDATE unlost.letters SET heal_at = clock_timestamp(), heal_base = heal_base + 1
WHERE letter_id = ANY ($1::text[]) AND status IN ('open', 'failed')

-- name: probe_failed
UPDATE unlost.letter_groups SET probes = probes + 1 WHERE fingerprint = $1 AND handler_name = $2

-- name: give_up
-- A letter that was tried so often needs a human.
UPDATE unlost.letters l SET heal_at = NULL
FROM unlost.letter_groups g
WHERE g.fingerprint = $1 AND g.handler_name = $2 AND l.fingerprint = $1 AND l.handler_name = $2
    AND l.heal_at IS NOT NULL AND l.heal_base <= g.probes - $3::bigint

-- name: leave
UPDATE unlost.letter_groups SET
    failures = $4, heal_at = clock_timestamp() + make_interval(secs => $5), healer = '', healer_until = '-infinity'
WHERE fingerprint = $2 AND handler_name = $3 AND healer = $1

-- name: renew
-- Only what is at work. $3 and $4 the groups, $5 letters.
WITH letters AS (
    UPDATE unlost.letter_leases SET until = clock_timestamp() + make_interval(secs => $2)
    WHERE letter_id = ANY ($5::text[]) AND token = $1)
UPDATE unlost.letter_groups g SET healer_until = clock_timestamp() + make_interval(secs => $2)
FROM unnest($3::text[], $4::text[]) AS a (fingerprint, handler_name)
WHERE g.fingerprint = a.fingerprint AND g.handler_name = a.handler_name AND g.healer = $1
