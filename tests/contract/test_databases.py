"""The database of a test shows nothing of the tests before, whether its tables are kept or made anew."""

import asyncpg
import pytest

from tests.support.databases import Databases
from unlost.ops.system.postgres import PostgresServer

DESCRIBED = """
select string_agg(one, ';' order by one) from (
    select format('%s %s %s %s', relname, relkind, relacl, reloptions) from pg_class where oid >= 16384
        and relnamespace <> 'pg_toast'::regnamespace
    union all select format('%s %s %s %s', attrelid::regclass, attname, atttypid::regtype, attnotnull)
        from pg_attribute join pg_class on attrelid = pg_class.oid where relnamespace = 'unlost'::regnamespace
    union all select format('%s %s', tgname, tgenabled) from pg_trigger
    union all select pg_get_constraintdef(oid) from pg_constraint where connamespace = 'unlost'::regnamespace
    union all select pg_get_functiondef(oid) from pg_proc where oid >= 16384
    union all select format('%s %s', nspname, nspacl) from pg_namespace where nspname !~ '^pg_'
    union all select array_to_string(setconfig, ',') from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())
    union all select format('%s %s', name, sha256) from unlost.migrations
    union all select format('%s %s', sequencename, last_value) from pg_sequences
) as described (one)"""
TABLE = "select 'unlost.events'::regclass::oid"
GENERATION = "select generation from unlost.store where version = 0"


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def change(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


@pytest.fixture
def databases(postgres_server: PostgresServer) -> Databases:
    return Databases(postgres_server)


async def test_kept_tables_have_no_rows_and_numbers_begin_anew(databases: Databases) -> None:
    with databases.migrated() as url:
        table, described, generation = [await ask(url, one) for one in (TABLE, DESCRIBED, GENERATION)]
        await change(url, "insert into unlost.pauses (kind, name, paused_by, why) values ('route', 'a', 'b', 'c')")
        await change(url, "insert into unlost.trail select 1, now(), '', '', '', '', '', '', '', ''")
        await change(url, "update unlost.store set version = 7")
        assert await ask(url, "select nextval('unlost.events_seq_seq')") == 1
        await change(url, "create table public.effects as select 1; create schema other; create table other.t ()")
    for _ in range(2):
        with databases.migrated() as again:
            assert again == url
            assert await ask(again, TABLE) == table
            assert await ask(again, DESCRIBED) == described
            assert await ask(again, "select count(*) from unlost.pauses") == 0
            assert await ask(again, "select count(*) from unlost.trail") == 0
            assert await ask(again, GENERATION) not in (None, generation)


@pytest.mark.parametrize(
    "harm",
    [
        "drop schema unlost cascade",
        "drop table unlost.migrations",
        "drop table unlost.pauses",
        "alter table unlost.events add column more text",
        "alter table unlost.events rename to others",
        "alter table unlost.trail disable trigger append_only",
        "drop trigger append_only on unlost.trail",
        "create or replace function unlost.trail_is_append_only() returns trigger language plpgsql as 'begin end'",
        "drop index unlost.effects_due",
        "create table unlost.further ()",
        "revoke select on unlost.events from unlost",
        "grant usage on schema unlost to public",
        "do $$ begin execute format('alter database %I set lock_timeout = 5', current_database()); end $$",
        "update unlost.migrations set sha256 = 'x'",
        "delete from unlost.migrations where name like '0022%'",
    ],
)
async def test_tables_that_a_test_changed_are_made_anew(databases: Databases, harm: str) -> None:
    with databases.migrated() as url:
        table, described = await ask(url, TABLE), await ask(url, DESCRIBED)
        await change(url, harm)
    with databases.migrated() as again:
        assert again == url
        assert await ask(again, TABLE) != table
        assert await ask(again, DESCRIBED) == described


async def test_an_empty_database_shows_nothing_of_the_test_before(databases: Databases) -> None:
    schemas = "select string_agg(nspname || coalesce(nspacl::text, ''), ',' order by nspname) from pg_namespace"
    with databases.empty() as url:
        empty = await ask(url, schemas)
        await change(url, "grant create on schema public to public; create schema other; create table public.t ()")
    with databases.empty() as again:
        assert again == url
        assert await ask(again, schemas) == empty
        assert await ask(again, "select to_regclass('public.t')") is None
