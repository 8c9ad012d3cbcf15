-- name: record
INSERT INTO unlost.audits (who, balanced, accepted, wrong) VALUES ($1, $2, $3, $4::text::jsonb)

-- name: forget
DELETE FROM unlost.audits WHERE number <= (SELECT max(number) FROM unlost.audits) - $1::bigint

-- name: latest
SELECT extract(epoch FROM at)::float8 AS at, who, accepted, wrong::text AS wrong
FROM unlost.audits ORDER BY number DESC LIMIT 1
