"""Effects of a real listener: delivered after the row, again after a kill; letters at the end, replayed alone."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.receiver import Receiver, accept, close, hang, receiving, status
from tests.support.source import running_source
from unlost import App, Delivery, SyncTransaction, Transaction
from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.sidecar import states
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, NowStored, Outcome
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.replay_engine import EngineRerun
from unlost.listener.core.facts import (
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectHostPaused,
    EffectHostResumed,
    EventBuried,
)
from unlost.ops.audit.letters import unresolved_letters

app = App()


@app.on("payment")
async def take(payment: dict[str, Any], event: Delivery, tx: Transaction) -> None:
    for url in payment["urls"]:
        event.effects.post(url, json={"id": event.event_id, "amount": payment.get("amount", 1)}, in_order=True)
    if payment.get("fails"):
        raise ValueError("as the test says")


SETTINGS = {
    "handler": f"{__name__}:app", "effect_networks": "127.0.0.0/8", "effect_first": "0.05", "effect_max": "0.1",
    "effect_attempts": "3", "effect_timeout": "10", "handle_attempts": "1",
    "effect_secrets": "127.0.0.1=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}  # fmt: skip


def payment(event_id: str, *urls: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "type": "payment", "payload": {"urls": urls, **more}}


@contextlib.asynccontextmanager
async def paying(
    redis_url: str, database_url: str, directory: Path, receiver: Receiver, *events: dict[str, Any], **more: str
) -> AsyncIterator[RunningListener]:
    async with running_source() as source:
        source.backlog = lambda _: [json.dumps(event) for event in events]
        hosts = f"http://127.0.0.1:{receiver.port}"
        given = {"effect_hosts": hosts, **SETTINGS, **more}
        async with running_listener(
            ws_url=source.url, redis_url=redis_url, database_url=database_url, directory=directory, **given
        ) as listener:
            yield listener


async def effects_in(database_url: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [dict(row) for row in await connection.fetch("select * from unlost.effects order by event_id, number")]
    finally:
        await connection.close()


async def test_effects_follow_their_row_and_a_handler_that_fails_has_none(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        events = (
            payment("a", receiver.url, receiver.url + "/2"),
            payment("fails", receiver.url, fails=True),
            payment("elsewhere", "https://elsewhere.test/"),
        )
        async with paying(redis_url, database_url, tmp_path, receiver, *events) as listener:
            await listener.heard.until(lambda heard: len(heard.of(EffectDelivered)) == 2)
            await listener.heard.until(lambda heard: len(heard.of(EventBuried)) == 2)
            health = listener.health
    assert [call.json["id"] for call in receiver.calls] == ["a", "a"]
    assert len({call.key for call in receiver.calls}) == 2
    assert all(call.headers["webhook-signature"].startswith("v1,") for call in receiver.calls)
    assert [one["event_id"] for one in await rows_of(database_url)] == ["a"]
    assert [one["status"] for one in await effects_in(database_url)] == ["delivered"] * 2
    refused = {one.event_id: one.message for one in listener.heard.of(EventBuried)}
    assert refused["elsewhere"] == "effects may not go to elsewhere.test: it is not in EFFECT_HOSTS"
    assert health["effects"]["hosts_paused"] == {}


async def test_after_a_kill_between_commit_and_record_a_peer_delivers_with_the_same_key(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with receiving(hang) as receiver:
        event = payment("a", receiver.url)
        async with paying(redis_url, database_url, tmp_path, receiver, event, effect_timeout="30") as first:
            await receiver.until(1)
            await first.crash()
        connection = await asyncpg.connect(database_url)
        held = await connection.fetchrow(
            "select status, leased_until > now() + interval '20 s' as held from unlost.effects"
        )
        assert held is not None
        assert dict(held) == {"status": "waiting", "held": True}
        await connection.execute("update unlost.effects set leased_until = now()")  # time passes
        await connection.close()
        async with paying(redis_url, database_url, tmp_path, receiver, instance_id="b") as second:
            await second.heard.until(lambda heard: bool(heard.of(EffectDelivered)))
    assert len(receiver.calls) == 2
    assert len({(call.key, call.body) for call in receiver.calls}) == 1


async def test_attempts_end_as_a_letter_and_a_replay_delivers_it_alone(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    answers = status(500), close, status(500), status(400)
    async with receiving(*answers, then=accept) as receiver:
        events = payment("a", receiver.url), payment("b", receiver.url + "/b")
        async with paying(redis_url, database_url, tmp_path, receiver, events[0]) as listener:
            await listener.heard.until(lambda heard: bool(heard.of(EffectBuried)))
            assert len(receiver.calls) == 3
            assert len({call.key for call in receiver.calls}) == 1
            assert [one.counts for one in listener.heard.of(EffectFailed)] == [True, True]
        async with paying(redis_url, database_url, tmp_path, receiver, events[1]) as listener:
            await listener.heard.until(lambda heard: bool(heard.of(EffectBuried)))
        letters = [one.letter for one in read_letters(tmp_path / "a.jsonl") if isinstance(one, Located)]
        assert [(one.event_id, one.reason, one.error_class, one.effect) for one in letters] == [
            ("a", "effect", "transient", 1), ("b", "effect", "permanent", 1),
        ]  # fmt: skip
        assert "attempt 3: HTTP 500" in letters[0].message
        assert unresolved_letters([tmp_path / "a.jsonl"])[0] == {}, "their events are rows"
        rows = await rows_of(database_url)
        given = {"redis_url": redis_url, "database_url": database_url, **SETTINGS}
        given["effect_hosts"] = f"http://127.0.0.1:{receiver.port}"
        receiver.answers = [status(503)]
        async with EngineRerun(ConnectionSettings.load(given)) as rerun:
            outcomes = [await replayed(rerun, letters[0].event_id or "") for _ in range(3)]
        assert isinstance(outcomes[0], FailedAgain)
        assert outcomes[1:] == [NowStored(), AlreadyStored()]
        assert receiver.calls[-1].key == receiver.calls[0].key
        assert len(receiver.calls) == 6
        assert await rows_of(database_url) == rows, "the handler did not run again"
        assert [one["status"] for one in await effects_in(database_url)] == ["delivered", "buried"]
        assert await asyncio.to_thread(replay_by_command, given, tmp_path / "a.jsonl") == 0
        assert [one["status"] for one in await effects_in(database_url)] == ["delivered", "delivered"]
        assert len(receiver.calls) == 7, "of both letters, one had been delivered"
        assert {state.status for state in states(tmp_path / "a.jsonl").values()} == {"resolved"}


def replay_by_command(settings: dict[str, str], file: Path) -> int:
    environment = os.environ | {name.upper(): value for name, value in settings.items()}
    command = [sys.executable, "-m", "unlost", "dlq", "replay", str(file), "--reason", "effect"]
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


async def replayed(rerun: EngineRerun, event_id: str) -> Outcome:
    ended = asyncio.get_running_loop().create_future()
    rerun.start_effect(event_id, 1, ended.set_result)
    return await asyncio.wait_for(ended, 20)


async def test_a_host_that_is_down_pauses_and_is_tried_with_one_effect_at_a_time(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    async with receiving(then=status(503)) as receiver:
        events = [payment(f"e{n:02}", f"{receiver.url}/{n}") for n in range(20)]
        async with paying(
            redis_url, database_url, tmp_path, receiver, *events, effect_attempts="50", effect_concurrency="4"
        ) as listener:
            await listener.heard.until(lambda heard: bool(heard.of(EffectHostPaused)))
            assert list(listener.health["effects"]["hosts_paused"]) == [f"127.0.0.1:{receiver.port}"]
            await listener.heard.until(lambda _: receiver.at_once == 0)
            receiver.most_at_once, tried = 0, len(receiver.calls)
            before = {one["number"]: one["attempts"] for one in await effects_in(database_url)}
            await receiver.until(tried + 3)
            assert receiver.most_at_once == 1
            assert {one["number"]: one["attempts"] for one in await effects_in(database_url)} == before
            receiver.then = accept
            await listener.heard.until(lambda heard: len(heard.of(EffectDelivered)) == 20)
            assert len(listener.heard.of(EffectHostResumed)) == 1
            assert not listener.heard.of(EffectBuried)


async def test_a_receiver_that_asks_for_a_pause_gets_it(redis_url: str, database_url: str, tmp_path: Path) -> None:
    async with (
        receiving(status(429, "Retry-After: 1")) as receiver,
        paying(redis_url, database_url, tmp_path, receiver, payment("a", receiver.url)) as listener,
    ):
        await receiver.until(1)
        began = asyncio.get_running_loop().time()
        await receiver.until(2)
        assert asyncio.get_running_loop().time() - began >= 0.9
        await listener.heard.until(lambda heard: bool(heard.of(EffectDelivered)))


forms = App()


@forms.on("sqlalchemy")
async def with_sqlalchemy(event: Delivery, session: AsyncSession) -> None:
    event.effects.post(event.payload)
    await session.execute(text("select 1"))


@forms.on("psycopg")
async def with_psycopg(event: Delivery, connection: psycopg.AsyncConnection[Any]) -> None:
    event.effects.post(event.payload)
    await connection.execute("select 1")


@forms.on("thread")
def in_a_thread(event: Delivery, tx: SyncTransaction) -> None:
    event.effects.post(event.payload)
    tx.execute("select 1")


@forms.on("thread.sqlalchemy")
def in_a_thread_with_sqlalchemy(event: Delivery, session: Session) -> None:
    event.effects.post(event.payload)
    session.execute(text("select 1"))


@forms.on("thread.psycopg")
def in_a_thread_with_psycopg(event: Delivery, connection: psycopg.Connection[Any]) -> None:
    event.effects.post(event.payload)
    connection.execute("select 1")


async def by_name(event: Delivery, connection: Any) -> None:
    event.effects.post(event.payload)


async def test_every_form_of_transaction_has_effects(redis_url: str, database_url: str, tmp_path: Path) -> None:
    kinds = ("sqlalchemy", "psycopg", "thread", "thread.sqlalchemy", "thread.psycopg")
    async with receiving() as receiver:
        events = [{"event_id": kind, "type": kind, "payload": f"{receiver.url}/{kind}"} for kind in kinds]
        more = {"handler": f"{__name__}:forms"}
        async with paying(redis_url, database_url, tmp_path, receiver, *events, **more) as listener:
            await listener.heard.until(lambda heard: len(heard.of(EffectDelivered)) == len(kinds))
        more = {"handler": f"{__name__}:by_name"}
        last = {"event_id": "by name", "payload": f"{receiver.url}/by-name"}
        async with paying(redis_url, database_url, tmp_path, receiver, last, **more) as listener:
            await listener.heard.until(lambda heard: bool(heard.of(EffectDelivered)))
    assert sorted(call.path for call in receiver.calls) == sorted(f"/hook/{one}" for one in (*kinds, "by-name"))
