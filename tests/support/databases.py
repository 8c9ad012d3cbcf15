"""Databases for tests: empty ones, and ones with the tables of the group ``unlost`` and no rows.

Both are used again: to make a database takes ten times as long as to empty one, to make the tables four times as long
as to empty them. Tables are kept only if they are exactly as they were made: the rows of PostgreSQL's catalogue that
describe them must have been written by the same transactions. Otherwise they are dropped, and made anew.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, schema_of
from unlost.ops.system.postgres import PostgresServer

SCHEMA = schema_of(DEFAULT_GROUP)
EMPTIED = """
do $$ declare one text; begin
    perform pg_terminate_backend(pid, 5000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
    for one in select nspname from pg_namespace as space
        where nspname !~ '^pg_' and nspname not in ('information_schema', '{kept}') and (
            nspname <> 'public'
            or nspacl::text is distinct from '{{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}}'
            or exists (select from pg_depend where refclassid = 'pg_namespace'::regclass and refobjid = space.oid))
    loop
        execute format('drop schema %I cascade', one);
    end loop;
    if to_regnamespace('public') is null then
        create schema public authorization pg_database_owner;
        grant usage on schema public to public;
    end if;
    {then}
end $$;"""

RESET = f"""
    drop schema if exists {SCHEMA} cascade;
    execute format('alter database %I reset all', current_database());"""

CATALOGUE = (
    "pg_attrdef", "pg_class", "pg_collation", "pg_constraint", "pg_default_acl", "pg_event_trigger", "pg_extension",
    "pg_operator", "pg_policy", "pg_proc", "pg_publication", "pg_rewrite", "pg_statistic_ext", "pg_trigger", "pg_type",
)  # fmt: skip
MADE_HERE = 16384
"""What PostgreSQL brings has lower numbers."""

FINGERPRINT = f"""
select format('%s %s', count(*), max(by::text::bigint)) from (
    select xmin from pg_attribute where attrelid >= {MADE_HERE}
    union all select xmin from pg_index where indexrelid >= {MADE_HERE}
    union all select xmin from pg_statistic where starelid >= {MADE_HERE}
    {"".join(f"union all select xmin from {one} where oid >= {MADE_HERE} " for one in CATALOGUE)}
    union all select xmin from pg_namespace where nspname = '{SCHEMA}'
    union all select xmin from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())
    union all select xmin from {SCHEMA}.migrations
) as written (by)"""
"""How many rows describe the tables and the database, and the last transaction that wrote one."""

WITHOUT_ROWS = f"""
    if to_regclass('{SCHEMA}.migrations') is null then {RESET}
    elsif ({FINGERPRINT}) <> '{{fingerprint}}' then {RESET}
    else
        perform setval(seqrelid, seqstart, false) from pg_sequence where pg_sequence_last_value(seqrelid) is not null;
        select string_agg(oid::regclass::text, ',') into one from pg_class where relnamespace = '{SCHEMA}'::regnamespace
            and relkind = 'r' and relname not in ('migrations', 'store') and pg_relation_size(oid) > 0;
        if one is not null then
            perform set_config('session_replication_role', 'replica', true);  -- no triggers
            execute 'truncate ' || one;
        end if;
        delete from {SCHEMA}.store;
        insert into {SCHEMA}.store default values;
        perform set_config('tests.fingerprint', ({FINGERPRINT}), false);
    end if;"""


class Databases:
    """The databases of one server that no test uses now."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._empty: list[str] = []
        self._migrated: list[tuple[str, str]] = []
        """Names, and the fingerprints of their tables; an empty one if there are no tables."""

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """The address of an empty database."""
        name = self._empty.pop() if self._empty else self._create()
        yield self._server.url_of(name)
        self._server.sql(EMPTIED.format(kept="", then=RESET), name)
        self._empty.append(name)

    @contextlib.contextmanager
    def migrated(self) -> Iterator[str]:
        """The address of a database that has the tables of the group ``unlost``, and no rows."""
        name, fingerprint = self._migrated.pop() if self._migrated else (self._create(), "")
        fingerprint = fingerprint or self._migrate(name)
        yield self._server.url_of(name)
        emptied = EMPTIED.format(kept=SCHEMA, then=WITHOUT_ROWS.format(fingerprint=fingerprint))
        self._migrated.append(
            (name, self._server.sql(f"{emptied} select current_setting('tests.fingerprint', true)", name))
        )

    def _create(self) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._server.create_database(name)
        return name

    def _migrate(self, name: str) -> str:
        with ThreadPoolExecutor(1) as thread:  # a test may have a loop already
            thread.submit(asyncio.run, _tables(self._server.url_of(name))).result()
        tables = self._server.sql(
            f"select relname from pg_class where relnamespace = '{SCHEMA}'::regnamespace "
            "and relkind = 'r' and pg_relation_size(oid) > 0 order by 1",
            name,
        )
        assert tables.split() == ["migrations", "store"], "what a migration has put into a table must be put back"
        return self._server.sql(FINGERPRINT, name)


async def _tables(url: str) -> None:
    database = Database(url)
    try:
        await migrate(database)
    finally:
        await database.close()
