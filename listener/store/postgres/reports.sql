-- Queries of operators' tools, drills and measurements on a group's tables. All other queries on these tables are part
-- of a listener.

-- name: audited
-- The row of an edited letter stands for what its publisher sent.
SELECT event_id, seq, coalesce(original_sha256, payload_sha256) AS digest, handler FROM unlost.events WHERE event_id = ANY($1::text[])

-- name: whole_row
SELECT * FROM unlost.events WHERE event_id = $1

-- name: first_handled
SELECT seq FROM unlost.events WHERE handler IS NOT NULL ORDER BY seq LIMIT 1

-- name: gaps
SELECT source, how, instance, after_cursor, resumed_at, missing, backfilled,
    extract(epoch FROM began_at)::float8 AS began_at, extract(epoch FROM declared_at)::float8 AS declared_at,
    outcome, fetches, why
FROM unlost.gaps ORDER BY declared_at DESC LIMIT $1

-- name: count_gaps
SELECT count(*) FROM unlost.gaps

-- name: last_seq
SELECT coalesce((SELECT seq FROM unlost.events ORDER BY seq DESC LIMIT 1), 0)

-- name: row_from
SELECT seq, extract(epoch FROM processed_at)::float8 FROM unlost.events WHERE seq >= $1 ORDER BY seq LIMIT 1

-- name: types_in_time
-- Each $3rd row from $1 to $2, counted by type and by spans of $5 seconds since $4.
SELECT floor((extract(epoch FROM e.processed_at)::float8 - $4::float8) / $5::float8)::int AS number, e.type, count(*)
FROM generate_series($1::bigint, $2::bigint, $3::bigint) AS s (seq) JOIN unlost.events e ON e.seq = s.seq
GROUP BY 1, 2

-- name: letters_in_time
-- The latest $3 letters, counted by failure and by spans of $2 seconds since $1.
SELECT l.number, l.fingerprint, l.count, g.reason, g.error_type FROM (
    SELECT floor((extract(epoch FROM last_at)::float8 - $1::float8) / $2::float8)::int AS number, fingerprint, count(*)
    FROM (
        SELECT last_at, fingerprint FROM unlost.letter_details WHERE last_at >= to_timestamp($1)
        ORDER BY last_at DESC LIMIT $3) latest
    GROUP BY 1, 2) l
JOIN LATERAL (SELECT reason, error_type FROM unlost.letter_groups WHERE fingerprint = l.fingerprint LIMIT 1) g ON true

-- name: cursors
-- Those of partitions (source#3/64) stand beside the group's cursor, which is the smallest of them.
SELECT cursor FROM unlost.cursors WHERE source !~ '#[0-9]+/[0-9]+$' ORDER BY updated_at DESC

-- name: is_read
-- A listener refreshes its row twice a second. Clocks of servers that failed over may differ.
SELECT EXISTS (SELECT FROM unlost.listeners
    WHERE listens AND seen_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp() + interval '10 s')

-- name: members
-- One row per listener's name. A listener that was silent for 1.5 s is not alive.
SELECT instance_id, extract(epoch FROM max(seen_at))::float8 AS seen_at,
    count(*) FILTER (WHERE seen_at > clock_timestamp() - interval '10 minutes') AS starts,
    count(*) FILTER (WHERE seen_at > clock_timestamp() - interval '1.5 seconds') AS alive
FROM unlost.listeners GROUP BY instance_id

-- name: how_many
-- Up to $1 rows are counted. More are estimated as PostgreSQL's planner does: rows per page when the table was last
-- analysed, times its pages now.
SELECT CASE WHEN estimate > $1::bigint THEN estimate::bigint
    ELSE (SELECT count(*) FROM (SELECT FROM unlost.events LIMIT $1::bigint) a) END
FROM (SELECT reltuples / greatest(relpages, 1)
        * (pg_relation_size(oid) / current_setting('block_size')::int) AS estimate
    FROM pg_class WHERE oid = 'unlost.events'::regclass) b

-- name: contents
SELECT event_id, payload::text FROM unlost.events

-- name: rows_of_drill
SELECT event_id, extract(epoch FROM received_at)::float8, extract(epoch FROM processed_at)::float8, epoch
FROM unlost.events WHERE starts_with(event_id, $1)

-- name: count_of_drill
SELECT count(*) FROM unlost.events WHERE starts_with(event_id, $1)

-- name: ids
SELECT event_id FROM unlost.events

-- name: lock_rows
LOCK TABLE unlost.events

-- name: letter_sums
-- The fleet's letters by state; how many heal by themselves and when next; and since when the oldest waits.
WITH g AS MATERIALIZED (SELECT * FROM unlost.letter_prospects)
SELECT coalesce(sum(open), 0)::bigint AS open, coalesce(sum(failed), 0)::bigint AS failed,
    coalesce(sum(resolved), 0)::bigint AS resolved, coalesce(sum(archived), 0)::bigint AS archived,
    coalesce(sum(quarantined), 0)::bigint AS quarantined, coalesce(sum(heals), 0)::bigint AS healing,
    (SELECT extract(epoch FROM min(l.heal_at))::float8 FROM g, LATERAL (
        SELECT heal_at FROM unlost.letters l
        WHERE l.fingerprint = g.fingerprint AND l.handler_name = g.handler_name AND heal_at IS NOT NULL
        ORDER BY heal_at LIMIT 1) l WHERE g.heals > 0) AS next_try_at,
    (SELECT extract(epoch FROM last_at)::float8 FROM unlost.letters
        WHERE status IN ('open', 'failed') ORDER BY last_at, letter_id LIMIT 1) AS oldest_at
FROM g

-- name: letter_kinds
SELECT fingerprint, min(reason), min(stage), min(error_type), sum(open + failed - heals)::bigint AS waiting
FROM unlost.letter_prospects GROUP BY fingerprint HAVING sum(open + failed) > sum(heals)
ORDER BY waiting DESC, fingerprint LIMIT $1

-- name: open_letters
SELECT letter_id, coalesce(event_id, '') FROM unlost.letters WHERE status <> 'resolved'

-- name: unresolved_letters
-- In place of accepted events: not of other content under the same id, nor of what is no event, nor of effects.
SELECT letter_id, event_id FROM unlost.letters
WHERE status <> 'resolved' AND event_id IS NOT NULL AND reason NOT IN ('conflict', 'effect')
    AND (reason <> 'invalid' OR stage <> 'receive')

-- name: listed_letters
SELECT letter_id FROM unlost.letters WHERE letter_id = ANY ($1::text[])

-- name: letters_of
SELECT l.letter_id, n.line, l.version, l.assigned, l.status, l.replays, extract(epoch FROM l.state_at)::float8 AS at, l.detail,
    l.state_error_type AS error_type, l.state_by AS by, extract(epoch FROM l.heal_at)::float8 AS next_try_at
FROM unlost.letter_details d JOIN unlost.letters l ON l.letter_id = d.letter_id
JOIN unlost.letter_lines n ON n.letter_id = d.letter_id
WHERE d.event_id = $1 ORDER BY l.last_at, l.letter_id

-- name: records_of
SELECT r.letter_id, r.what, extract(epoch FROM r.at)::float8 AS at, r.detail, r.done_by AS by, r.version, r.how
FROM unlost.letter_records r JOIN unlost.letter_details d ON d.letter_id = r.letter_id
WHERE d.event_id = $1 ORDER BY r.at

-- name: newest
SELECT coalesce(max(seq), 0) FROM unlost.events

-- name: count_after
SELECT count(*) FROM unlost.events WHERE seq > $1

-- name: distinct_after
SELECT count(*), count(DISTINCT event_id) FROM unlost.events WHERE seq > $1

-- name: span_after
SELECT extract(epoch FROM max(processed_at) - min(received_at))::float8 FROM unlost.events WHERE seq > $1

-- name: transactions_after
SELECT event_id, xmin::text::bigint FROM unlost.events WHERE seq > $1

-- name: truncate_rows
TRUNCATE unlost.events

-- name: truncate_letters
TRUNCATE unlost.letters, unlost.letter_details, unlost.letter_lines, unlost.letter_records, unlost.letter_groups,
    unlost.buried

-- name: analyze_rows
VACUUM ANALYZE unlost.events

-- name: fill
INSERT INTO unlost.events
    (event_id, type, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
SELECT md5(i::text) || '-' || i, 'bench', jsonb_build_object('number', i, 'text', repeat('x', 180)),
    sha256(i::text::bytea), 'fill', 'fill:0', 1, 1, now()
FROM generate_series($1::bigint, $2::bigint) i

-- name: table_like
CREATE TABLE by_hand (LIKE unlost.events INCLUDING ALL)

-- name: effects
-- The newest first, before a sequence number. $1 number, $2 a status or null, $3 an event or null, $4 how many.
SELECT event_id, number, seq, kind, url, host, status, attempts, failure, letter_id, queue IS NOT NULL AS in_order,
    octet_length(body) AS size, extract(epoch FROM recorded_at)::float8 AS recorded_at,
    CASE WHEN status = 'waiting' THEN extract(epoch FROM due_at)::float8 END AS due_at,
    extract(epoch FROM ended_at)::float8 AS ended_at
FROM unlost.effects
WHERE seq < $1 AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR event_id = $3)
ORDER BY seq DESC LIMIT $4

-- name: effects_by_host
-- Waiting effects, by host; at most 10,000 are counted. Then the last failure of each host.
SELECT host, count(*)::bigint AS waiting, extract(epoch FROM min(recorded_at))::float8 AS oldest_at,
    (array_agg(failure ORDER BY due_at DESC) FILTER (WHERE failure IS NOT NULL))[1] AS failure
FROM (SELECT host, recorded_at, due_at, failure FROM unlost.effects WHERE status = 'waiting' ORDER BY due_at LIMIT 10000) w
GROUP BY host ORDER BY waiting DESC, host
