-- A transaction that nobody can commit, and what was written in it.

-- name: guard
CREATE TEMPORARY TABLE unlost_shadow (
    one int PRIMARY KEY, other int REFERENCES unlost_shadow DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP;
INSERT INTO pg_temp.unlost_shadow VALUES (1, 2)

-- name: check
-- Make all checks of a commit now. The guard goes first: the transaction is rolled back by its owner from here on.
DELETE FROM pg_temp.unlost_shadow;
SET CONSTRAINTS ALL IMMEDIATE

-- name: counts
SELECT schemaname || '.' || relname AS table, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
FROM pg_catalog.pg_stat_xact_user_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname !~ '^pg_temp'
