-- name: one_at_a_time
SELECT pg_advisory_xact_lock(hashtextextended('unlost.trail', 0))

-- name: last
SELECT {fields} FROM unlost.trail ORDER BY number DESC LIMIT 1

-- name: latest
SELECT {fields} FROM unlost.trail ORDER BY number DESC LIMIT $1

-- name: following
SELECT {fields} FROM unlost.trail WHERE number > $1 ORDER BY number LIMIT $2

-- name: fields
number, (extract(epoch FROM at) * 1000000)::bigint AS at, who, origin, what, about, why, result, previous, hash

-- name: merged
SELECT right(origin, 64) FROM unlost.trail WHERE right(origin, 64) = ANY($1::text[])

-- name: append
INSERT INTO unlost.trail (number, at, who, origin, what, about, why, result, previous, hash)
VALUES ($1, to_timestamp(0) + $2::bigint * interval '1 microsecond', $3, $4, $5, $6, $7, $8, $9, $10)
