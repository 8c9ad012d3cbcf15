"""``TestApp`` on a real PostgreSQL: what a route writes is committed with the row; a test sees both."""

import asyncpg

from unlost import App, Reject, Transaction
from unlost.ops.testkit.postgres import running_postgres
from unlost.testing import TestApp

app = App()


@app.on("order")
async def reserve(payload: int, tx: Transaction) -> None:
    left = await tx.fetchval("update stock set count = count - $1 returning count", payload)
    if left < 0:
        raise Reject("sold out")


async def test_transactions_run_on_the_database_of_the_test(database_url: str) -> None:
    async with TestApp(app, postgres=database_url) as test:
        await test.connection.execute("create table stock (count int); insert into stock values (5)")
        assert [(await test.send(count, type="order")).outcome for count in (2, 9, 3)] == [
            "stored",
            "rejected",
            "stored",
        ]
        assert await test.connection.fetchval("select count from stock") == 0
        assert await test.connection.fetchval("select count(*) from unlost.events") == 2
        assert (await test.send(1, type="other", event_id="e")).outcome == "stored"
        assert (await test.send(1, type="other", event_id="e")).outcome == "duplicate"


async def test_a_server_of_its_own_is_gone_afterwards() -> None:
    with running_postgres() as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show fsync") == "off"
        await connection.close()
        cluster = server.cluster
    assert not cluster.exists()
