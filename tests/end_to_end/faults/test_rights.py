"""A right that is taken away while listeners run is an outage with a cause: no attempt counts, nothing is buried."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.end_to_end.faults.conftest import frame, frames, letters
from tests.support.handlers import HOLD, RUNS
from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.facts import EventBuried, EventsStored, SourceConnected, StoringPaused
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.grants import grant
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.system.postgres import PostgresServer

PASSWORD = secrets.token_urlsafe(12)


async def writes(event: Delivery, connection: Connection) -> None:
    """A handler that uses its transaction."""
    RUNS.begin(event.event_id)
    await connection.execute("select 1")


class Rights:
    """The roles of a listener and of its handler."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        suffix = secrets.token_hex(4)
        self.server, self.url = server, url
        self.listener, self.handler = f"listener_{suffix}", f"handler_{suffix}"

    async def run(self, sql: str) -> None:
        administrator = await asyncpg.connect(self.url)
        await administrator.execute(sql)
        await administrator.close()

    @property
    def database_url(self) -> str:
        parts = urlsplit(self.url)
        return f"postgresql://{self.listener}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}{parts.path}"


@pytest.fixture
async def rights(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[Rights]:
    RUNS.forget()
    made = Rights(postgres_server, database_url)
    names = (made.listener, made.handler)
    postgres_server.sql("".join(f"create role {name} login password '{PASSWORD}';" for name in names))
    owner = Database(database_url)
    await migrate(owner)
    await grant(owner, {"listener": made.listener, "handler": made.handler})
    await owner.close()
    yield made
    await made.run("".join(f"drop owned by {name};" for name in names))
    postgres_server.sql("".join(f"drop role {name};" for name in names))


async def paused(one: RunningListener, cause: str) -> None:
    await one.heard.until(lambda h: bool(h.of(StoringPaused)))
    assert cause in one.heard.of(StoringPaused)[0].why
    while cause not in str(one.daemon.health().ready()):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("handler", ["", HOLD])
async def test_rows_wait_until_the_right_is_back(servers: dict, rights: Rights, handler: str):
    given = {**servers, "database_url": rights.database_url, "handler": handler, "insert_attempts": "1"}
    async with running_source() as source, running_listener(ws_url=source.url, **given) as one:
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        await rights.run(f"revoke insert on unlost.events from {rights.listener}")
        await source.send(*frames("e", 20))
        await paused(one, "a right is missing: permission denied for table events")
        assert one.health["breakers"]["postgres"] == "closed", "it answers"
        await rights.run(f"grant insert on unlost.events to {rights.listener}")
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 20)
        assert not one.heard.of(EventBuried)
    assert {row["attempts"] for row in await rows_of(servers["database_url"])} == {1}
    assert len(RUNS.begun) == (20 if handler else 0)


async def test_a_role_that_the_listener_may_not_take_is_not_the_handlers_failure(servers: dict, rights: Rights):
    given = {
        **servers, "database_url": rights.database_url, "handler": f"{__name__}:writes",
        "handler_role": rights.handler, "handle_attempts": "1",
    }  # fmt: skip
    async with running_source() as source, running_listener(ws_url=source.url, **given) as one:
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(frame("before"))
        await one.heard.until(lambda h: h.ids(EventsStored) == ["before"])
        await rights.run(f"revoke {rights.handler} from {rights.listener}")
        began = len(one.heard.facts)
        await source.send(*frames("e", 5))
        await paused(one, f"HANDLER_ROLE {rights.handler} cannot be used")
        await asyncio.sleep(2)  # what would be retried in a busy loop would be so now
        assert len(one.heard.facts) - began < 100
        assert RUNS.begun == ["before"]
        await rights.run(f"grant {rights.handler} to {rights.listener}")
        await one.heard.until(lambda h: len(h.ids(EventsStored)) == 6)
        assert not one.heard.of(EventBuried)
    assert {row["attempts"] for row in await rows_of(servers["database_url"])} == {1}


async def test_a_listener_that_lacks_a_right_does_not_start(servers: dict, rights: Rights):
    await rights.run(f"revoke insert on unlost.listeners from {rights.listener}")
    with pytest.raises(Misconfigured, match="a right is missing: permission denied for table listeners"):
        async with running_listener(
            ws_url="ws://127.0.0.1:1", **{**servers, "database_url": rights.database_url}
        ) as one:
            await one.task


async def test_a_letter_is_registered_once_the_right_is_back(servers: dict, rights: Rights):
    given = {**servers, "database_url": rights.database_url}
    async with running_source() as source, running_listener(ws_url=source.url, **given) as one:
        await source.wait_for_clients(1)
        await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        await rights.run(f"revoke insert on unlost.buried, unlost.letters from {rights.listener}")
        await source.send("no event")
        await one.heard.until(lambda h: bool(h.of(EventBuried)))
        assert len(letters(servers["directory"])) == 1
        await asyncio.sleep(1)
        await rights.run(f"grant insert on unlost.buried, unlost.letters to {rights.listener}")
        connection = await asyncpg.connect(servers["database_url"])
        async with asyncio.timeout(20):
            for table in ("buried", "letters"):
                while not await connection.fetchval(f"select count(*) from unlost.{table}"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        await connection.close()
