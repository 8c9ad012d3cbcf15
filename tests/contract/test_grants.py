"""Roles with few rights, on a real PostgreSQL: each can do its work, and every other step is refused."""

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.letters import letter
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.listener.core.errors import Misconfigured, Permanent
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import INSERTED, NewRow
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.audits import record
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.grants import check_role, grant
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import check, migrate
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.listener.store.postgres.shadow import ShadowRows
from unlost.ops.system.postgres import PostgresServer

KINDS = ("listener", "console", "handler")
PASSWORD = secrets.token_urlsafe(12)


@dataclass
class Roles:
    """Two groups in one database, each with roles of its own."""

    url: str
    suffix: str

    def name(self, kind: str, group: str = "unlost") -> str:
        return f"{kind}_{group}_{self.suffix}"

    def as_role(self, kind: str, group: str = "unlost") -> str:
        parts = urlsplit(self.url)
        return f"postgresql://{self.name(kind, group)}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}{parts.path}"


@pytest.fixture
async def roles(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[Roles]:
    made = Roles(database_url, secrets.token_hex(4))
    names = [made.name(kind, group) for group in ("unlost", "other") for kind in KINDS]
    postgres_server.sql("".join(f"create role {name} login password '{PASSWORD}';" for name in names))
    for group in ("unlost", "other"):
        owner = Database(database_url, group=group)
        await migrate(owner)
        await grant(owner, {kind: made.name(kind, group) for kind in KINDS})
        await owner.close()
    administrator = await asyncpg.connect(database_url)
    await administrator.execute(
        f"create table stock (sku text); grant insert, select on stock to {made.name('handler')}"
    )
    await administrator.close()
    yield made
    administrator = await asyncpg.connect(database_url)
    await administrator.execute("".join(f"drop owned by {name};" for name in names))
    await administrator.close()
    postgres_server.sql("".join(f"drop role {name};" for name in names))


def row(event_id: str) -> NewRow:
    event = parse(b'{"event_id":"%b","payload":{}}' % event_id.encode(), max_bytes=1_024)
    return NewRow(event, epoch=1, attempts=1, received_at=1.0)


def rows_of(database: Database, role: str = "") -> PostgresRows:
    return PostgresRows(database, instance_id="a", token="t", handler_role=role)


LISTENER_MAY_NOT = [
    "create table unlost.mine ()", "drop table unlost.events", "alter table unlost.events add column x int",
    "truncate unlost.events", "insert into unlost.migrations (name, sha256) values ('x', 'x')",
    "delete from unlost.migrations", "create schema another", "select * from unlost_other.events",
    "insert into unlost_other.claims default values", "create role eve", "select pg_read_file('/etc/passwd')",
    "copy (select 1) to program 'true'",
]  # fmt: skip
CONSOLE_MAY_NOT = [
    "delete from unlost.effects", "delete from unlost.events", "update unlost.audits set balanced = true",
    "update unlost.events set type = 'x'", "delete from unlost.letters",
    "insert into unlost.buried default values", "update unlost.cursors set cursor = 'x'",
    "delete from unlost.claims", "select * from unlost_other.letters", "create table unlost.mine ()",
]  # fmt: skip
HANDLER_MAY_NOT = [
    "insert into unlost.effects default values", "select * from unlost.events", "select * from unlost.audits",
    "delete from unlost.claims", "select * from unlost_other.events",
    "create table unlost.mine ()",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "statements"),
    [("listener", LISTENER_MAY_NOT), ("console", CONSOLE_MAY_NOT), ("handler", HANDLER_MAY_NOT)],
    ids=KINDS,
)
async def test_a_role_is_refused_what_it_does_not_need(roles: Roles, kind: str, statements: list[str]):
    connection = await asyncpg.connect(roles.as_role(kind))
    try:
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_each_role_can_do_its_work(roles: Roles):
    listener = Database(roles.as_role("listener"))
    await check(listener)
    await check_role(listener, roles.name("handler"))
    assert await rows_of(listener).insert([row("a")]) == [INSERTED]
    console = Database(roles.as_role("console"))
    assert [one["event_id"] for one in await rows_of(console).page(None, 5)] == ["a"]
    buried = letter("x")
    await LetterTable(listener, token="t").add("a", [Listed(buried, encode(buried), burial_of(buried))])
    patch = PatchChange(b'[{"op": "replace", "path": "/payload/n", "value": 2}]')
    report = await edit(TableLetters(console), Selection(), patch, by="ana", why="", about="the console")
    assert report.changed == 1
    assert await TableLetters(console).change(Selection(), "noted", "seen", "ana") == 1
    assert await TableLetters(console).change(Selection(), "archived", "old", "ana", followers_go=True) == 1
    await record(console, "ana", 1, {})
    await listener.close()
    await console.close()


async def stored_by(database: Database, role: str, work: Callable) -> object:
    return await rows_of(database, role).insert_with(row("b"), work)


async def test_a_shadow_of_a_handler_has_its_rights_and_stores_nothing(roles: Roles):
    listener = Database(roles.as_role("listener"))

    async def works(connection: Any) -> None:
        await connection.execute("insert into stock values ('a')")

    async def reaches_too_far(connection: Any) -> None:
        await connection.execute("delete from unlost.claims")

    shadow = ShadowRows(rows_of(listener, roles.name("handler")), listener)
    assert await shadow.run(row("b"), works) == {"public.stock": (1, 0, 0)}
    with pytest.raises(Permanent, match="permission denied"):
        await shadow.run(row("b"), reaches_too_far)
    assert await rows_of(listener).page(None, 5) == []
    await listener.close()


async def test_a_handler_has_its_own_rights_alone_and_the_row_is_stored_all_the_same(roles: Roles):
    listener = Database(roles.as_role("listener"))
    handler = roles.name("handler")

    async def works(connection: Any) -> None:
        await connection.execute("insert into stock values ('a')")

    async def reaches_too_far(connection: Any) -> None:
        await connection.execute("insert into stock values ('lost')")
        await connection.execute("delete from unlost.claims")

    with pytest.raises(Permanent, match="permission denied"):
        await stored_by(listener, handler, reaches_too_far)
    assert await stored_by(listener, handler, works) == INSERTED
    connection = await asyncpg.connect(roles.url)
    assert await connection.fetchval("select string_agg(sku, ',') from stock") == "a"
    assert await connection.fetchval("select count(*) from unlost.events where event_id = 'b'") == 1
    await connection.close()
    assert await rows_of(listener).insert([row("c")]) == [INSERTED], "the connection has its own rights again"
    await listener.close()


async def test_a_role_that_cannot_be_taken_is_a_mistake_at_the_start(roles: Roles):
    listener = Database(roles.as_role("listener"))
    for role in (roles.name("handler", "other"), "nobody_of_this_name"):
        with pytest.raises(Misconfigured, match="HANDLER_ROLE"):
            await check_role(listener, role)
    owner = Database(roles.url)
    with pytest.raises(Misconfigured, match="make it first"):
        await grant(owner, {"listener": "nobody_of_this_name"})
    with pytest.raises(Misconfigured, match="owner"):
        await grant(listener, {"console": roles.name("console")})
    await listener.close()
    await owner.close()
