-- What is left of an erased subject: $1 is the mark that every envelope of it holds, as bytes.

-- name: remains
SELECT
    (SELECT count(*) FROM unlost.events WHERE payload ->> 'unlost' = 'enc' AND payload ->> 'sub' = $2) AS rows,
    (SELECT count(*) FROM unlost.letter_lines WHERE position($1::bytea IN line) > 0
        OR coalesce(position($1::bytea IN edited) > 0, false)) AS letters,
    (SELECT count(*) FROM unlost.letter_records WHERE position($1::bytea IN event) > 0) AS versions,
    (SELECT count(*) FROM unlost.effects WHERE position($1::bytea IN body) > 0) AS effects

-- name: plain
-- Rows that were stored without the codec: their subject stands at this path, $1 in the payload or in the other fields.
SELECT count(*) FROM unlost.events
WHERE coalesce(CASE WHEN $1::bool THEN payload ELSE other END #>> $2::text[], '') = $3
