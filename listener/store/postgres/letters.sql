-- {selected}: the conditions of a selection, of the statements `where_…` below, each with its argument for ?.
-- {letters}: letters l, with their details d if a condition is about these. {ordered}: the same, for a query in order of time; {t}: l
-- if only waiting letters are asked for, whose indexes are small, or d.
-- {state}: what `state` names; {size}: the bytes that a letter's line and edit have; {takes}: states of letters. So a query has only the conditions that it needs, and PostgreSQL can plan for them.
-- OFFSET 0 and ARRAY(SELECT …): look up each letter of a batch in an index. Without them, PostgreSQL reads a whole table for a
-- batch where it seems small.

-- name: where_reasons
l.reason = ANY (?::text[])

-- name: where_error_classes
l.error_class = ANY (?::text[])

-- name: where_types
d.type = ANY (?::text[])

-- name: where_error_types
d.error_type = ANY (?::text[])

-- name: where_statuses
l.status = ANY (?::text[])

-- name: where_assigned
l.assigned = ANY (?::text[])

-- name: where_fingerprint
{t}.fingerprint = ?

-- name: where_fingerprint_begins
{t}.fingerprint ~>=~ ? AND {t}.fingerprint ~<~ (? || 'g')

-- name: where_since
{t}.last_at >= to_timestamp(?::float8)

-- name: where_until
{t}.last_at < to_timestamp(?::float8)

-- name: where_begins
(d.event_id ~>=~ ? AND d.event_id ~<~ (? || chr(1114111))) OR (d.letter_id >= ? AND d.letter_id < (? || chr(1114111)))

-- name: where_text
strpos(lower(d.error_type || ': ' || d.message), lower(?)) > 0

-- name: where_payload
l.letter_id = ANY (ARRAY(SELECT n.letter_id FROM unlost.letter_lines n WHERE n.payload @> ?::jsonb))

-- name: where_id
-- The id of an event; or the end of a letter's, unless that is NULL.
d.event_id = ? OR d.letter_id = ANY (ARRAY(SELECT n.letter_id FROM unlost.letter_lines n
    WHERE reverse(n.letter_id) >= reverse(?::text) AND reverse(n.letter_id) < (reverse(?::text) || chr(127))))

-- name: where_whole_ids
d.event_id = ANY (?::text[]) OR d.letter_id = ANY (?::text[])

-- name: ready
SELECT FROM unlost.letters LIMIT 0

-- name: state
l.status, l.replays, extract(epoch FROM l.state_at)::float8 AS at, l.detail, l.state_error_type, l.state_by,
extract(epoch FROM l.reopened_at)::float8 AS reopened_at, l.version,
extract(epoch FROM l.edited_at)::float8 AS edited_at, l.assigned, extract(epoch FROM l.assigned_at)::float8 AS assigned_at

-- name: letters
unlost.letters l LEFT JOIN unlost.letter_details d ON d.letter_id = l.letter_id

-- name: letters_by_details
unlost.letter_details d JOIN unlost.letters l ON l.letter_id = d.letter_id

-- name: size
octet_length(n.line) + coalesce(octet_length(n.edited), 0)

-- name: add
-- Letters that are there already stay as they are.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::text[], $13::float8[], $14::float8[], $15::bytea[], $16::float8[]
    ) AS a (letter_id, event_id, type, reason, error_class, stage, error_type, message, fingerprint, handler, route,
        first_at, last_at, line, heal_after)),
added AS (
    INSERT INTO unlost.letters (
        letter_id, instance_id, event_id, reason, error_class, stage, fingerprint, handler, first_at, last_at, heals,
        heal_at, heal_base)
    SELECT letter_id, $1::text, event_id, reason, error_class, stage, fingerprint, handler, to_timestamp(first_at),
        to_timestamp(last_at), heal_after IS NOT NULL,
        CASE WHEN reason = 'blocked' AND heal_after IS NOT NULL THEN 'infinity' -- until it is the first of its key
            ELSE clock_timestamp() + make_interval(secs => heal_after) END,
        coalesce((SELECT g.probes FROM unlost.letter_groups g
            WHERE g.fingerprint = a.fingerprint AND g.handler_name = split_part(coalesce(a.handler, ''), '@', 1)), 0)
    FROM asked a ORDER BY letter_id
    ON CONFLICT (letter_id) DO NOTHING
    RETURNING letter_id),
detailed AS (
    INSERT INTO unlost.letter_details (letter_id, event_id, type, route, error_type, message, fingerprint, last_at)
    SELECT letter_id, event_id, type, route, error_type, message, fingerprint, to_timestamp(last_at)
    FROM asked JOIN added USING (letter_id)
    ON CONFLICT (letter_id) DO NOTHING)
INSERT INTO unlost.letter_lines (letter_id, line)
SELECT letter_id, line FROM asked JOIN added USING (letter_id)
ON CONFLICT (letter_id) DO NOTHING

-- name: absent
SELECT one FROM unnest($1::text[]) AS one WHERE NOT EXISTS (SELECT FROM unlost.letters WHERE letter_id = one OFFSET 0)

-- name: lock
SELECT l.letter_id, l.instance_id, l.heals, {state}
FROM unlost.letters l WHERE l.letter_id = ANY ($1::text[]) ORDER BY l.letter_id FOR UPDATE

-- name: log
-- One record that many letters have, or one.
INSERT INTO unlost.letter_records (
    letter_id, at, what, detail, error_type, done_by, instance_id, version, base, how, event, followers, shared)
SELECT l.letter_id, to_timestamp($2::float8), $3::text, $4::text, $5::text, $6::text, l.instance_id, $7::int, $8::int,
    $9::text, $10::bytea, $11::text, $12::bool
FROM unlost.letters l WHERE l.letter_id = ANY ($1::text[])
ON CONFLICT (letter_id, at, what) DO UPDATE SET shared = true WHERE excluded.shared AND NOT letter_records.shared

-- name: change
-- A letter that is put aside does not heal by itself; one that is brought back ($13) does so at once, if it did before.
UPDATE unlost.letters l SET
    status = $2::text, replays = $3::int, state_at = to_timestamp($4::float8), detail = $5::text, state_error_type = $6::text, state_by = $7::text,
    reopened_at = to_timestamp($8::float8), version = $9::int, edited_at = to_timestamp($10::float8),
    assigned = $11::text, assigned_at = to_timestamp($12::float8),
    heal_at = CASE
        WHEN $2 NOT IN ('open', 'failed') THEN NULL
        WHEN $13::bool AND l.heals THEN clock_timestamp()
        ELSE l.heal_at END,
    heal_base = CASE
        WHEN $13 THEN coalesce((SELECT g.probes FROM unlost.letter_groups g
            WHERE g.fingerprint = l.fingerprint AND g.handler_name = l.handler_name), 0)
        ELSE l.heal_base END
WHERE l.letter_id = ANY ($1::text[])

-- name: resolve
-- Letters whose events are rows now, in one statement: their states, records, keys and leases ($5). It decides as the
-- function for single records does (dlq/record/letter_state.py). Letters that it leaves out are for that function. No such
-- record can be there already: after one of this time the letter would be resolved, or opened again later.
WITH mine AS MATERIALIZED (
    SELECT letter_id FROM unlost.letters
    WHERE letter_id = ANY ($1::text[]) AND status <> 'resolved'
        AND (reopened_at IS NULL OR reopened_at < to_timestamp($2::float8))
    ORDER BY letter_id FOR UPDATE),
done AS (
    UPDATE unlost.letters l SET status = 'resolved', state_at = to_timestamp($2::float8), detail = $3::text,
        state_by = $4::text, heal_at = NULL
    WHERE l.letter_id = ANY (ARRAY(SELECT letter_id FROM mine))
    RETURNING l.letter_id, l.instance_id),
logged AS (
    INSERT INTO unlost.letter_records (letter_id, at, what, detail, done_by, instance_id, shared)
    SELECT letter_id, to_timestamp($2::float8), 'resolved', $3::text, $4::text, instance_id, false FROM done),
unblocked AS (
    UPDATE unlost.buried SET order_key = NULL
    WHERE order_key IS NOT NULL AND letter_id = ANY (ARRAY(SELECT letter_id FROM done))),
freed AS (
    DELETE FROM unlost.letter_leases WHERE token = $5::text AND letter_id = ANY (ARRAY(SELECT letter_id FROM done)))
SELECT letter_id FROM done

-- name: edit
-- The newest versions of letters.
UPDATE unlost.letter_lines n SET edited = a.event
FROM unnest($1::text[], $2::bytea[]) AS a (letter_id, event) WHERE n.letter_id = a.letter_id

-- name: history
SELECT letter_id, what, extract(epoch FROM at)::float8 AS at, detail, error_type, done_by, version, base, how, event,
    followers
FROM unlost.letter_records WHERE letter_id = ANY ($1::text[]) ORDER BY letter_id, at, what

-- name: unblock
-- Letters that block their keys no more.
UPDATE unlost.buried SET order_key = NULL WHERE order_key IS NOT NULL AND letter_id = ANY ($1::text[])

-- name: blocking
SELECT count(*) FROM {letters} WHERE {selected}
    AND EXISTS (SELECT FROM unlost.buried b WHERE b.order_key IS NOT NULL AND b.letter_id = l.letter_id)

-- name: keys
-- Blocked keys, the longest blocked first, each with its letters in all and the first of them.
WITH keys AS (
    SELECT order_key, count(*) AS letters, min(buried_at) AS since, min(place) AS first, bool_or(stops) AS stops
    FROM unlost.buried WHERE order_key IS NOT NULL GROUP BY order_key)
SELECT k.order_key, k.letters, extract(epoch FROM k.since)::float8 AS since, b.letter_id, b.event_id, l.reason, l.status,
    d.error_type, k.stops
FROM (SELECT * FROM keys ORDER BY since LIMIT $1) k
JOIN unlost.buried b ON b.order_key = k.order_key AND b.place = k.first
LEFT JOIN unlost.letters l ON l.letter_id = b.letter_id
LEFT JOIN unlost.letter_details d ON d.letter_id = b.letter_id
ORDER BY k.since, k.order_key

-- name: prune
-- Resolved letters that changed last before $1, at most $2. Their details go with them, by the trigger that counts letters.
WITH gone AS (
    DELETE FROM unlost.letters WHERE letter_id IN (
        SELECT letter_id FROM unlost.letters WHERE status = 'resolved' AND state_at < to_timestamp($1::float8)
        LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING letter_id),
lines AS (DELETE FROM unlost.letter_lines WHERE letter_id IN (SELECT letter_id FROM gone)),
records AS (DELETE FROM unlost.letter_records WHERE letter_id IN (SELECT letter_id FROM gone))
SELECT count(*) FROM gone

-- name: to_share
-- At most $2, up to $3 bytes of edited events.
SELECT * FROM (
    SELECT letter_id, what, extract(epoch FROM at)::float8 AS at, detail, error_type, done_by, version, base, how, event,
        followers, sum(coalesce(octet_length(event), 0)) OVER (ORDER BY r.at, letter_id, what) AS upto
    FROM (
        SELECT * FROM unlost.letter_records WHERE instance_id = $1 AND NOT shared ORDER BY at, letter_id, what LIMIT $2) r) b
WHERE upto <= $3::bigint OR upto = octet_length(event) ORDER BY at, letter_id, what

-- name: shared
UPDATE unlost.letter_records r SET shared = true
FROM unnest($1::text[], $2::float8[], $3::text[]) AS a (letter_id, at, what)
WHERE r.letter_id = a.letter_id AND r.at = to_timestamp(a.at) AND r.what = a.what

-- name: latest
-- The latest letters, newest first, each with its line, up to $2 bytes. found: how many there are up to the limit.
SELECT * FROM (
    SELECT n.line, n.edited, p.*, count(*) OVER () AS found, {size} AS size,
        sum({size}) OVER (ORDER BY p.last_at DESC, p.letter_id DESC) AS upto
    FROM (
        SELECT l.letter_id, l.last_at, {state} FROM {ordered} WHERE {selected}
        ORDER BY {t}.last_at DESC, {t}.letter_id DESC LIMIT $1) p
    JOIN unlost.letter_lines n ON n.letter_id = p.letter_id) b
WHERE upto <= $2::bigint OR upto = size ORDER BY last_at DESC, letter_id DESC

-- name: count
SELECT count(*) FROM {letters} WHERE {selected}

-- name: count_kept
-- From the sums that triggers keep: of one group ($1), or of all.
SELECT coalesce(sum(open), 0)::bigint AS open, coalesce(sum(failed), 0)::bigint AS failed,
    coalesce(sum(resolved), 0)::bigint AS resolved, coalesce(sum(archived), 0)::bigint AS archived,
    coalesce(sum(quarantined), 0)::bigint AS quarantined
FROM unlost.letter_groups WHERE $1 = '' OR fingerprint = $1

-- name: following
-- The letters after a place in their order, oldest first, up to $4 bytes.
SELECT * FROM (
    SELECT n.line, n.edited, p.*, {size} AS size, sum({size}) OVER (ORDER BY p.last_at, p.letter_id) AS upto
    FROM (
        SELECT l.letter_id, l.last_at, {state} FROM {ordered}
        WHERE ({t}.last_at, {t}.letter_id) > ($1::timestamptz, $2::text) AND {selected}
        ORDER BY {t}.last_at, {t}.letter_id LIMIT $3) p
    JOIN unlost.letter_lines n ON n.letter_id = p.letter_id) b
WHERE upto <= $4::bigint OR upto = size ORDER BY last_at, letter_id

-- name: described
-- Letters without their lines.
SELECT l.letter_id, l.instance_id, l.event_id, l.reason, l.error_class, l.stage, d.error_type, l.fingerprint, l.handler,
    d.route, extract(epoch FROM l.first_at)::float8 AS first_at, extract(epoch FROM l.last_at)::float8 AS last_at
FROM unlost.letters l JOIN unlost.letter_details d ON d.letter_id = l.letter_id WHERE l.letter_id = ANY ($1::text[])

-- name: groups
SELECT fingerprint, min(reason), min(error_type), min(message), extract(epoch FROM min(first_at))::float8,
    extract(epoch FROM max(last_at))::float8, sum(open + failed + resolved + archived + quarantined)::bigint AS letters,
    sum(open + failed)::bigint
FROM unlost.letter_groups GROUP BY fingerprint HAVING sum(open + failed + resolved + archived + quarantined) > 0
ORDER BY letters DESC, fingerprint

-- name: board
-- Those that need a human first, then those that heal, then what is over; each with the kind of its latest letter.
SELECT b.*, l.type, l.route, l.handler FROM (
    SELECT fingerprint, min(reason) AS reason, min(error_type) AS error_type, min(message) AS message,
        to_json(min(first_at) AT TIME ZONE 'UTC') #>> '{}' || 'Z' AS first_at,
        to_json(max(last_at) AT TIME ZONE 'UTC') #>> '{}' || 'Z' AS last_at,
        sum(open + failed + resolved + archived + quarantined)::bigint AS letters, sum(open + failed)::bigint AS waiting,
        sum(heals)::bigint AS healing, sum(open + failed - heals)::bigint AS needing_human,
        extract(epoch FROM min(heal_at) FILTER (WHERE heals > 0 AND isfinite(heal_at)))::float8 AS next_try_at,
        json_build_object('open', sum(open), 'failed', sum(failed), 'resolved', sum(resolved), 'archived', sum(archived),
            'quarantined', sum(quarantined))::text AS by_state
    FROM unlost.letter_prospects GROUP BY fingerprint HAVING sum(open + failed + resolved + archived + quarantined) > 0
    ORDER BY needing_human DESC, waiting DESC, letters DESC, fingerprint LIMIT 500) b
LEFT JOIN LATERAL (
    SELECT d.type, d.route, l.handler FROM unlost.letter_details d JOIN unlost.letters l ON l.letter_id = d.letter_id
    WHERE d.fingerprint = b.fingerprint ORDER BY d.last_at DESC, d.letter_id DESC LIMIT 1) l ON true
ORDER BY b.needing_human DESC, b.waiting DESC, b.letters DESC, b.fingerprint

-- name: board_of
-- The same for selected letters.
SELECT b.*, l.type, l.route, l.handler FROM (
    SELECT l.fingerprint, min(l.reason) AS reason, min(g.error_type) AS error_type, min(g.message) AS message,
        to_json(min(l.first_at) AT TIME ZONE 'UTC') #>> '{}' || 'Z' AS first_at,
        to_json(max(l.last_at) AT TIME ZONE 'UTC') #>> '{}' || 'Z' AS last_at,
        count(*) AS letters, count(*) FILTER (WHERE l.status IN ('open', 'failed')) AS waiting,
        count(l.heal_at) FILTER (WHERE g.heals > 0) AS healing,
        count(*) FILTER (WHERE l.status IN ('open', 'failed') AND (l.heal_at IS NULL OR g.heals = 0)) AS needing_human,
        extract(epoch FROM min(g.heal_at) FILTER (WHERE g.heals > 0 AND isfinite(g.heal_at)))::float8 AS next_try_at,
        json_build_object('open', count(*) FILTER (WHERE l.status = 'open'),
            'failed', count(*) FILTER (WHERE l.status = 'failed'),
            'resolved', count(*) FILTER (WHERE l.status = 'resolved'),
            'archived', count(*) FILTER (WHERE l.status = 'archived'),
            'quarantined', count(*) FILTER (WHERE l.status = 'quarantined'))::text AS by_state
    FROM {letters} JOIN unlost.letter_prospects g
        ON g.fingerprint = l.fingerprint AND g.handler_name = l.handler_name
    WHERE {selected}
    GROUP BY l.fingerprint
    ORDER BY needing_human DESC, waiting DESC, letters DESC, fingerprint LIMIT 500) b
LEFT JOIN LATERAL (
    SELECT d.type, d.route, l.handler FROM unlost.letter_details d JOIN unlost.letters l ON l.letter_id = d.letter_id
    WHERE d.fingerprint = b.fingerprint ORDER BY d.last_at DESC, d.letter_id DESC LIMIT 1) l ON true
ORDER BY b.needing_human DESC, b.waiting DESC, b.letters DESC, b.fingerprint

-- name: groups_of
SELECT l.fingerprint, min(l.reason), min(g.error_type), min(g.message), extract(epoch FROM min(l.first_at))::float8,
    extract(epoch FROM max(l.last_at))::float8, count(*), count(*) FILTER (WHERE l.status IN ('open', 'failed'))
FROM {letters} JOIN unlost.letter_groups g
    ON g.fingerprint = l.fingerprint AND g.handler_name = l.handler_name
WHERE {selected}
GROUP BY l.fingerprint ORDER BY count(*) DESC, l.fingerprint

-- name: sums
-- How many letters wait, how many of them heal by themselves and when next, and since when anything needs a human. How many keys are
-- blocked, and since when the longest: nothing is read for that without keys.
WITH g AS MATERIALIZED (SELECT * FROM unlost.letter_prospects)
SELECT coalesce(sum(open + failed), 0)::bigint AS waiting, coalesce(sum(heals), 0)::bigint AS healing,
    (SELECT extract(epoch FROM min(l.heal_at))::float8 FROM g, LATERAL (
        SELECT heal_at FROM unlost.letters l
        WHERE l.fingerprint = g.fingerprint AND l.handler_name = g.handler_name AND heal_at < 'infinity'
        ORDER BY heal_at LIMIT 1) l WHERE g.heals > 0) AS next_at,
    least(
        (SELECT extract(epoch FROM last_at)::float8 FROM unlost.letters
            WHERE status IN ('open', 'failed') AND heal_at IS NULL ORDER BY last_at, letter_id LIMIT 1),
        (SELECT extract(epoch FROM min(l.last_at))::float8 FROM g, LATERAL (
            SELECT last_at FROM unlost.letters l
            WHERE l.fingerprint = g.fingerprint AND l.handler_name = g.handler_name AND heal_at IS NOT NULL
                AND l.status IN ('open', 'failed')
            ORDER BY last_at, letter_id LIMIT 1) l WHERE g.healing > 0 AND g.heals = 0)) AS oldest_at,
    (SELECT count(DISTINCT order_key) FROM unlost.buried WHERE order_key IS NOT NULL) AS blocked_keys,
    (SELECT extract(epoch FROM min(buried_at))::float8 FROM unlost.buried WHERE order_key IS NOT NULL) AS blocked_since
FROM g

-- name: statistics
SELECT l.reason, l.error_class, l.status, count(*), extract(epoch FROM min(l.first_at))::float8,
    extract(epoch FROM max(l.last_at))::float8
FROM {letters} WHERE {selected} GROUP BY 1, 2, 3

-- name: plan
SELECT l.reason, l.handler, l.status, count(*) FROM {letters} WHERE {selected} GROUP BY 1, 2, 3

-- name: changeable
SELECT l.letter_id FROM {letters}
WHERE l.letter_id > $1 AND l.status = ANY ($2::text[]) AND {selected} ORDER BY l.letter_id LIMIT $3

-- name: next
-- The next letters that a replay may take, oldest first, up to $5 bytes, and whether somebody holds each.
SELECT letter_id, last_at, held FROM (
    SELECT p.*, n.size, sum(n.size) OVER (ORDER BY p.last_at, p.letter_id) AS upto
    FROM (
        SELECT l.letter_id, l.last_at,
            EXISTS (SELECT FROM unlost.letter_leases h
                WHERE h.letter_id = l.letter_id AND h.until > clock_timestamp()) AS held
        FROM {ordered}
        WHERE ({t}.last_at, {t}.letter_id) > ($1::timestamptz, $2::text)
            AND l.status IN ({takes}) AND ($4::bool OR l.reason <> 'rejected') AND {selected}
        ORDER BY {t}.last_at, {t}.letter_id LIMIT $3) p
    CROSS JOIN LATERAL (
        SELECT {size} AS size FROM unlost.letter_lines n WHERE n.letter_id = p.letter_id OFFSET 0) n) b
WHERE upto <= $5::bigint OR upto = size ORDER BY last_at, letter_id

-- name: lease
-- They were chosen a while ago. What another holds since is left out before the insert, which would lock its row.
INSERT INTO unlost.letter_leases AS h (letter_id, token, holder, until)
SELECT one, $2, $3, clock_timestamp() + make_interval(secs => $4) FROM unnest($1::text[]) AS one
WHERE NOT EXISTS (
    SELECT FROM unlost.letter_leases o
    WHERE o.letter_id = one AND o.token <> $2 AND o.until > clock_timestamp() OFFSET 0)
ORDER BY one
ON CONFLICT (letter_id) DO UPDATE SET token = excluded.token, holder = excluded.holder, until = excluded.until
WHERE h.until <= clock_timestamp() OR h.token = excluded.token
RETURNING letter_id

-- name: renew
UPDATE unlost.letter_leases SET until = clock_timestamp() + make_interval(secs => $2) WHERE token = $1

-- name: too_late
-- Those of these letters that are resolved, or that $2 does not lease.
SELECT l.letter_id FROM unlost.letters l LEFT JOIN unlost.letter_leases h ON h.letter_id = l.letter_id
WHERE l.letter_id = ANY ($1::text[]) AND (l.status = 'resolved' OR h.token IS DISTINCT FROM $2)
ORDER BY l.letter_id FOR UPDATE OF l

-- name: free
DELETE FROM unlost.letter_leases WHERE letter_id = ANY ($1::text[]) AND token = $2

-- name: free_all
DELETE FROM unlost.letter_leases WHERE token = $1

-- name: over
SELECT letter_id FROM unlost.letters WHERE letter_id = ANY ($1::text[]) AND status <> ALL ($2::text[])

-- name: taken
SELECT l.letter_id, n.line, n.edited, {state}
FROM (SELECT * FROM unlost.letters WHERE letter_id = ANY ($1::text[]) AND status = ANY ($2::text[]) OFFSET 0) l
CROSS JOIN LATERAL (SELECT line, edited FROM unlost.letter_lines WHERE letter_id = l.letter_id OFFSET 0) n
ORDER BY l.last_at, l.letter_id
