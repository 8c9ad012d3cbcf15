-- Rights of the roles of one group, for `unlost migrate --grants-… ROLE`. Run by the owner of the tables.
-- The roles exist already.

-- name: closed
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC;

-- name: listener
-- A listener, or a replay: rows, claims, letters, cursors. No DDL, and the record of migrations is read alone.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
REVOKE INSERT, UPDATE, DELETE ON unlost.migrations FROM {role};
REVOKE UPDATE, DELETE ON unlost.trail FROM {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role};

-- name: console
-- The console: reads everything, and changes what became of letters. An audit has its role too, and records its outcome.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT UPDATE ON unlost.letters TO {role};
GRANT UPDATE (edited) ON unlost.letter_lines TO {role};
GRANT UPDATE (order_key) ON unlost.buried TO {role};
GRANT INSERT, UPDATE ON unlost.letter_records, unlost.letter_groups, unlost.letter_leases TO {role};
GRANT DELETE ON unlost.letter_leases TO {role};
GRANT INSERT ON unlost.trail TO {role};
GRANT INSERT, DELETE ON unlost.pauses, unlost.audits TO {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role};

-- name: handler
-- A handler in its transaction: nothing of ours. It has what the user grants it on the user's own tables.
REVOKE ALL ON SCHEMA {schema} FROM {role};
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role};

-- name: becomes
-- The listener becomes the handler's role for the handler's part of a transaction.
GRANT {role} TO {listener};
