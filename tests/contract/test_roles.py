"""The roles that ``unlost up`` and compose make: daemons can work with them, and none is a superuser."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from unlost.listener.core.event import parse
from unlost.listener.ports.rows import INSERTED, NewRow
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.grants import check_role
from unlost.listener.store.postgres.migrations import check
from unlost.listener.store.postgres.roles import RoleNames
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.roles import prepared
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.publish.accept import publication

USERS_TABLES = """
create table stock (sku text); create table numbered (n serial); create sequence numbers;
create table parts (n int) partition by range (n); create table part partition of parts for values from (0) to (9);
create table guarded (n int); alter table guarded enable row level security;
create view seen as select count(*) from stock;
create schema shop; create table shop.sold (sku text)
"""
PASSWORDS = {kind: f"it's-{secrets.token_urlsafe(12)}" for kind in ("listener", "console")}


@pytest.fixture
async def group(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[str]:
    """A group with roles, made twice, on a database that has tables of the user."""
    name = f"g{secrets.token_hex(4)}"
    administrator = await asyncpg.connect(database_url)
    await administrator.execute(USERS_TABLES)
    await prepared(database_url, name, dict.fromkeys(PASSWORDS, "before"))
    await prepared(database_url, name, PASSWORDS)
    await administrator.execute("create table later (n serial, sku text)")
    yield name
    roles = RoleNames.of(name).by_kind().values()
    await administrator.execute("".join(f"drop owned by {role} cascade;" for role in roles))
    await administrator.close()
    postgres_server.sql("".join(f"drop role {role};" for role in roles))


def url_of(database_url: str, role: str, password: str) -> str:
    parts = urlsplit(database_url)
    return f"postgresql://{role}:{password}@{parts.netloc.rpartition('@')[2]}{parts.path}"


async def test_a_listener_stores_and_its_handler_uses_the_users_tables(group: str, database_url: str) -> None:
    names = RoleNames.of(group)
    database = Database(url_of(database_url, names.listener, PASSWORDS["listener"]), group=group)
    await check(database)
    await check_role(database, names.handler)
    rows = PostgresRows(database, instance_id="a", token="t", handler_role=names.handler)
    row = NewRow(parse(b'{"event_id":"e","payload":{}}', max_bytes=1_024), epoch=1, attempts=1, received_at=1.0)

    async def handler(connection: Connection) -> None:
        for table in ("stock", "shop.sold", "later"):
            await connection.execute(f"insert into {table} (sku) values ('a')")
        await connection.execute("create table mine (n int)")
        assert await connection.fetchval("select current_user") == names.handler

    assert await rows.insert_with(row, handler) == INSERTED
    await database.close()


async def test_none_of_them_is_a_superuser_or_the_owner(group: str, database_url: str) -> None:
    names, administrator = RoleNames.of(group), await asyncpg.connect(database_url)
    flags = "rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
    found = await administrator.fetch(
        f"select {flags} from pg_roles where rolname = any($1)", list(names.by_kind().values())
    )
    assert [one[0] for one in found] == [False] * 3
    await administrator.close()
    listener = await asyncpg.connect(url_of(database_url, names.listener, PASSWORDS["listener"]))
    for refused in (
        f"drop table unlost_{group}.events",
        f"truncate unlost_{group}.events",
        "create role x",
        "copy stock to program 'id'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await listener.execute(refused)
    await listener.close()


async def test_an_old_password_is_refused(group: str, database_url: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url_of(database_url, RoleNames.of(group).console, "before"))


async def test_a_handler_may_change_the_users_tables(group: str, database_url: str) -> None:
    """A handler whose statements ran as superuser before makes indices and columns if they are not there."""
    handler, connection = RoleNames.of(group).handler, await asyncpg.connect(database_url)
    await connection.execute(f"set role {handler}")
    for statement in (
        "create index if not exists stock_sku on stock (sku)",
        "alter table shop.sold add column if not exists at timestamptz",
        "alter table numbered alter n type bigint",
        "alter sequence numbers increment by 2",
        "alter table parts add column m int",
        "drop table part",
    ):
        await connection.execute(statement)
    for refused in ("alter table guarded disable row level security", "drop view seen"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(refused)
    await connection.close()


async def test_tables_of_other_roles_and_of_unlost_keep_their_owner(group: str, database_url: str) -> None:
    administrator = await asyncpg.connect(database_url)
    other = f"other_{group}"
    await administrator.execute(f"create role {other}; create table theirs (); alter table theirs owner to {other}")
    await prepared(database_url, group, PASSWORDS)
    owned = await administrator.fetch(
        """select distinct schemaname, tableowner from pg_tables
        where schemaname = $1 or tablename in ('theirs', 'later') order by 1, 2""",
        f"unlost_{group}",
    )
    administrators = await administrator.fetchval("select current_user")
    handler = RoleNames.of(group).handler
    expected = [("public", other), ("public", handler), (f"unlost_{group}", administrators)]
    assert {tuple(row) for row in owned} == {*expected}
    await administrator.execute(f"drop owned by {other}; drop role {other}")
    await administrator.close()


async def test_the_producers_journal_is_theirs_alone(group: str, database_url: str) -> None:
    role, administrator = f"producers_{group}", await asyncpg.connect(database_url)
    await prepared(database_url, group, PASSWORDS, (role, "secret"))
    journal = await asyncio.to_thread(PostgresJournal, url_of(database_url, role, "secret"))
    await asyncio.to_thread(journal.append, [[publication(b'{"event_id":"e","payload":{}}', max_bytes=1_024)]], 1.0)
    await prepared(database_url, group, PASSWORDS, (role, "secret"))
    assert await asyncio.to_thread(journal.bounds) == (0, 1)
    await asyncio.to_thread(journal.close)
    may = "select has_schema_privilege($1, 'producer_journal', 'usage')"
    assert not any([await administrator.fetchval(may, one) for one in RoleNames.of(group).by_kind().values()])
    await administrator.execute(f"drop owned by {role} cascade; drop role {role}")
    await administrator.close()
