-- The roles of a group on a server that is Unlost's alone, as `unlost up` and docker-compose.yml have one. Run by its
-- superuser. Every identifier and literal is quoted by PostgreSQL.

-- name: exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)

-- name: create
SELECT format('CREATE ROLE %I', $1::text)

-- name: login
SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE LOGIN PASSWORD %L', $1::text, $2::text)

-- name: no_login
SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOLOGIN', $1::text)

-- name: may_create
SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), $1::text)

-- name: users_schemas
-- All schemas but PostgreSQL's own, those of Unlost's groups, and the producers' journal.
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'producer_journal') AND nspname !~ '^unlost(_|$)' ORDER BY nspname

-- name: to_handler
-- Statements that give the handler the tables and sequences which the superuser owns in a schema of the user's. Not views:
-- they read with the rights of their owner. Not tables with row security: it does not hold for the owner. Not what
-- belongs to an extension, nor a sequence of a column, which follows its table.
SELECT format('ALTER %s %I.%I OWNER TO %I',
    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname, $2::text)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'S') AND NOT c.relrowsecurity
    AND c.relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
ORDER BY c.oid

-- name: handlers
-- The handler may do everything on the user's own tables: those that are there, and those that the superuser makes later.
GRANT ALL ON SCHEMA {users} TO {role};
GRANT ALL ON ALL TABLES IN SCHEMA {users} TO {role};
GRANT ALL ON ALL SEQUENCES IN SCHEMA {users} TO {role};
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {users} TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {users} GRANT ALL ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES IN SCHEMA {users} GRANT ALL ON SEQUENCES TO {role};
