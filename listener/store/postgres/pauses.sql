-- name: now
SELECT kind, name, paused_by, why, extract(epoch FROM since)::float8 FROM unlost.pauses ORDER BY since, kind, name

-- name: routes
-- Those of the listeners that live, or did a moment ago.
SELECT DISTINCT unnest(routes) AS route FROM unlost.listeners WHERE listens ORDER BY route

-- name: without_routes
-- Listeners that live and are of a version that does not report its routes.
SELECT DISTINCT instance_id FROM unlost.listeners
WHERE listens AND routes IS NULL AND seen_at + interval '4 seconds' > clock_timestamp() ORDER BY instance_id

-- name: begin
-- One that holds already stays as it is. At most $5, so that each listener can read them each second.
INSERT INTO unlost.pauses (kind, name, paused_by, why)
SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM unlost.pauses) < $5
ON CONFLICT (kind, name) DO NOTHING

-- name: end
DELETE FROM unlost.pauses WHERE kind = $1 AND name = $2
