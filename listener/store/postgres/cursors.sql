-- name: start
INSERT INTO unlost.cursors (source, group_name, cursor, ordinal) VALUES ($1, $2, $3, $4)
ON CONFLICT (source, group_name) DO NOTHING

-- name: read
SELECT cursor FROM unlost.cursors WHERE source = $1 AND group_name = $2

-- name: read_all
SELECT source, cursor FROM unlost.cursors WHERE source = ANY($1::text[]) AND group_name = $2

-- name: advance
INSERT INTO unlost.cursors AS c (source, group_name, cursor, ordinal)
SELECT $1, $2, $3, $4
WHERE $8::text IS NULL OR EXISTS (
    SELECT FROM unlost.store s, unlost.claims_place p
    WHERE s.generation = $8 AND s.version >= $9 AND 'postgres:' || p.id = $10)
ON CONFLICT (source, group_name) DO UPDATE
SET cursor = excluded.cursor, ordinal = excluded.ordinal, updated_at = clock_timestamp()
-- With the same stem only forward. Another stem replaces the old one, unless both are journals of ours: see cursors.py.
WHERE c.ordinal IS NULL OR excluded.ordinal IS NULL
    OR CASE regexp_replace(regexp_replace(c.cursor, $7, '\1'), '[0-9]+$', '')
        WHEN $5 THEN excluded.ordinal > c.ordinal
        ELSE NOT ($6::boolean AND c.cursor ~ $7)
    END
RETURNING c.cursor

-- name: read_in
SELECT (SELECT cursor FROM unlost.cursors WHERE source = $1 AND group_name = $2) AS cursor,
    $3::text IS NULL OR EXISTS (
        SELECT FROM unlost.store s, unlost.claims_place p
        WHERE s.generation = $3 AND s.version >= $4 AND 'postgres:' || p.id = $5) AS same_store

-- name: reset
UPDATE unlost.cursors SET cursor = $4, ordinal = $5, updated_at = clock_timestamp()
WHERE source = $1 AND group_name = $2 AND cursor = $3
