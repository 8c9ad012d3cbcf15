"""Handlers that come with the package, against real servers: webhooks, Kafka, JetStream."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from tests.support.brokers import JetStreamBroker, KafkaBroker, TansuServer, running
from tests.support.fakes import as_a
from tests.support.listeners import running_listener
from tests.support.receiver import receiving
from tests.support.source import running_source
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.facts import EffectDelivered
from unlost.ops.system.nats import NatsServer
from unlost.ops.system.ports import free_port
from unlost.testing import TestApp

EVENT = {"event_id": "e-1", "type": "t", "payload": {"n": 1}, "trace": "x"}


async def send(test: TestApp) -> str:
    given: dict[str, Any] = {"type": "t", "event_id": "e-1", "fields": {"trace": "x"}}
    return (await test.send({"n": 1}, **given)).outcome


async def test_a_webhook_follows_each_row(
    redis_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver, running_source() as source:
        source.backlog = lambda _: [json.dumps(EVENT)]
        monkeypatch.setenv("WEBHOOK_URL", receiver.url)
        async with running_listener(
            ws_url=source.url, redis_url=redis_url, database_url=database_url, directory=tmp_path,
            handler="unlost.webhook:app", effect_hosts=f"http://127.0.0.1:{receiver.port}",
            effect_networks="127.0.0.1/32",
        ) as listener:  # fmt: skip
            await listener.heard.until(lambda heard: bool(heard.of(EffectDelivered)))
        (call,) = receiver.calls
    assert call.json == EVENT
    assert call.headers["content-type"] == "application/json"


async def test_a_webhook_without_an_address_is_one_sentence_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    with pytest.raises(Misconfigured, match="WEBHOOK_URL must be set"):
        async with TestApp("unlost.webhook:app"):
            raise AssertionError


@pytest.fixture(scope="module")
def tansu() -> Iterator[TansuServer]:
    with running(TansuServer) as server:
        yield as_a(TansuServer, server)


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with running(NatsServer) as server:
        yield as_a(NatsServer, server)


async def test_each_event_is_a_message_in_kafka(tansu: TansuServer, monkeypatch: pytest.MonkeyPatch) -> None:
    await KafkaBroker(tansu, "shipped").make()
    monkeypatch.setenv("KAFKA_PUBLISH_URL", f"kafka://{tansu.host}/shipped")
    async with TestApp("unlost.kafka:app") as test:
        assert await send(test) == "stored"
    consumer = AIOKafkaConsumer("shipped", bootstrap_servers=tansu.host, auto_offset_reset="earliest")
    await consumer.start()
    try:
        message = await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
    assert json.loads(message.value) == EVENT
    assert (message.key, message.headers) == (b"e-1", (("event_id", b"e-1"),))


async def test_each_event_is_a_message_in_a_stream_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = JetStreamBroker(nats_server, "shipped")
    await broker.make()
    monkeypatch.setenv("JETSTREAM_PUBLISH_URL", f"nats://{nats_server.host}/shipped.all")
    for _ in range(2):  # as if its listener had died before the row
        async with TestApp("unlost.jetstream:app") as test:
            assert await send(test) == "stored"
    async with broker.client() as client:
        info = await client.jetstream().stream_info("shipped")
        message = await client.jetstream().get_msg("shipped", 1)
    assert info.state.messages == 1
    assert json.loads(message.data or b"") == EVENT


@pytest.mark.parametrize("kind", ["kafka", "jetstream"])
async def test_a_broker_that_is_away_fails_the_attempts_and_not_the_start(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = {"kafka": "kafka", "jetstream": "nats"}[kind]
    monkeypatch.setenv(f"{kind.upper()}_PUBLISH_URL", f"{scheme}://127.0.0.1:{free_port()}/x")
    async with TestApp(f"unlost.{kind}:app") as test:
        result = await test.send(1)
    assert (result.outcome, result.attempts) == ("letter", 3)


@pytest.mark.parametrize("kind", ["kafka", "jetstream"])
async def test_a_wrong_address_is_one_sentence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{kind.upper()}_PUBLISH_URL", "x://127.0.0.1:1/")
    with pytest.raises(Misconfigured, match=f"{kind.upper()}_PUBLISH_URL=.*it names no"):
        async with TestApp(f"unlost.{kind}:app"):
            raise AssertionError
