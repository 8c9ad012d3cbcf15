"""A shadow replay: what today's handler would do with letters, in transactions that nobody can commit."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tests.support.letters import letter, write
from unlost import App, Reject, Transaction
from unlost.dlq.commands.cli import main
from unlost.dlq.record.query import Selection
from unlost.dlq.replay.shadow import ShadowReport, ShadowResult, run_shadow
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import LetterStore
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.shadow_engine import HandlerShadow
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate

pytestmark = pytest.mark.database("migrated")


class Order(msgspec.Struct):
    n: int


app = App()


@app.on("order")
async def order(payload: Order, tx: Transaction, event: Delivery) -> None:
    await tx.execute("insert into bookings select 'b', $1 from generate_series(1, $1)", payload.n)
    await tx.execute("update stock set count = count - 1")
    if payload.n == 7:
        event.effects.post("https://partner.example/orders", json={"n": 7})
    if payload.n == 5:
        raise ValueError("no such order 5")
    if payload.n == 6:
        raise Reject("never: ws://u:hunter2@host/")


@app.on("late")
async def late(tx: Transaction) -> None:
    await tx.execute("insert into unique_later values (1), (1)")


@app.on("commits")
async def commits(tx: Transaction) -> None:
    await tx.execute("delete from stock")
    await tx.execute("COMMIT")


@app.on("plain")
async def plain(event: Delivery) -> None:
    raise AssertionError("it must not run")


async def alone(event: Delivery) -> None:
    raise AssertionError("it must not run")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """create table bookings (name text, n int); create table stock (count int); insert into stock values (9), (9);
        create table unique_later (n int unique deferrable initially deferred)"""
    )
    yield connection
    await connection.close()


def settings(database_url: str, handler: str = f"{__name__}:app") -> ConnectionSettings:
    given = {"database_url": database_url, "handler": handler, "effect_hosts": "partner.example"}
    return ConnectionSettings.load(given)


async def tried(shadow: HandlerShadow, store: LetterStore, **wanted: Any) -> dict[str, ShadowResult]:
    report = ShadowReport()
    async with shadow as run:
        await run_shadow(run, store, Selection(**wanted), 0, report, lambda _, result: result)
    return {one.letter_id.rpartition("-")[2]: one for one in report.results}


async def test_each_letter_is_tried_and_nothing_is_stored(
    connection: Connection, database_url: str, tmp_path: Any
) -> None:
    letters = [
        letter("two", type="order", payload={"n": 2}),
        letter("same", type="order", payload={"n": 5}, message="no such order 4"),
        letter("other", type="order", payload={"n": 6}),
        letter("sends", type="order", payload={"n": 7}),
        replace(letter("effect", type="order", payload={"n": 7}), effect=1),
        letter("typed", type="order", payload={"n": "x"}),
        letter("late", type="late"),
        letter("commits", type="commits"),
        letter("plain", type="plain"),
        letter("unknown", type="unknown"),
        letter("stored", type="order"),
    ]
    store = FileLetters([write(tmp_path / "letters.jsonl", letters)])
    await connection.execute(
        """insert into unlost.events
            (event_id, type, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
        values ('stored', 'order', '{"n": 1}', '', 'a', 'a', 1, 1, now())"""
    )
    found = await tried(HandlerShadow(settings(database_url)), store)
    assert {name: one.outcome for name, one in found.items()} == {
        "two": "succeeds", "same": "fails_the_same", "other": "fails_otherwise", "typed": "fails_otherwise",
        "late": "fails_otherwise", "commits": "fails_otherwise", "plain": "cannot_be_tried", "unknown": "succeeds",
        "stored": "stored_already", "sends": "succeeds", "effect": "cannot_be_tried",
    }  # fmt: skip
    assert found["two"].wrote == {"public.bookings": (2, 0, 0), "public.stock": (0, 2, 0)}
    assert found["sends"].wrote["unlost.effects"] == (1, 0, 0), "recorded, and rolled back"
    assert (found["other"].error_type, found["unknown"].wrote) == ("Reject", {})
    assert found["other"].message == "never: ws://***@host/"
    assert "unique_later" in found["late"].message, "what a commit would check is checked"
    for table, count in (("unlost.events", 1), ("bookings", 0), ("stock where count = 9", 2), ("unlost.effects", 0)):
        assert await connection.fetchval(f"select count(*) from {table}") == count
    assert not (tmp_path / "letters.jsonl.state").exists()


async def test_a_plain_handler_is_refused_with_one_sentence(database_url: str) -> None:
    with pytest.raises(Misconfigured, match="works outside of the transaction of its row"):
        HandlerShadow(settings(database_url, f"{__name__}:alone"))


async def test_servers_that_are_away_end_it_and_blame_no_letter(tmp_path: Any) -> None:
    store = FileLetters([write(tmp_path / "letters.jsonl", [letter("a")])])
    with pytest.raises(Transient):
        await tried(HandlerShadow(settings("postgresql://u:p@127.0.0.1:1/none")), store)


def test_the_command_reports_each_letter_and_what_would_be_written(database_url: str, tmp_path: Any) -> None:
    async def made() -> None:
        database = Database(database_url)
        await migrate(database)
        async with database.acquire() as connection:
            await connection.execute("create table bookings (name text, n int); create table stock (count int)")
        await database.close()

    asyncio.run(made())
    secret = letter("five", type="order", payload={"n": 5}, message="no such order 5")
    path = write(tmp_path / "letters.jsonl", [letter("two", type="order", payload={"n": 2}), secret])

    def run(*flags: str) -> Any:
        given = ("--database-url", database_url, "--handler", f"{__name__}:app", *flags)
        return CliRunner().invoke(main, ["replay", str(path), "--shadow", *given])

    shown = run("--json")
    values = json.loads(shown.stdout)
    assert (shown.exit_code, values["succeeds"], values["fails_the_same"]) == (1, 1, 1)
    assert values["wrote"] == {"public.bookings": {"inserted": 2, "updated": 0, "deleted": 0}}
    assert [one["outcome"] for one in values["results"]] == ["succeeds", "fails_the_same"]
    out = run().stdout
    assert "event five would fail the same: ValueError: no such order 5" in out
    assert "event two would succeed, and write public.bookings: 2 inserted\n" in out
    assert out.index("event five") < out.index("event two"), "what needs work comes first"
    assert "public.bookings: 2 inserted" in out
    lines = [json.loads(line) for line in run("--follow", "--limit", "1").stdout.splitlines()]
    assert (lines[0]["letter"]["event_id"], lines[1]["letters"]) == ("two", 1)
    assert run("--dry-run").exit_code == 2
    assert run("--handler", f"{__name__}:alone").exit_code == 2
