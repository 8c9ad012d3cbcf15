"""The HTTP channel against a real server: what it sends, and what it makes of receivers that refuse, lie and hang."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import (
    Answers,
    Receiver,
    accept,
    close,
    endless_body,
    endless_headers,
    hang,
    receiving,
    status,
)
from tests.support.tls import Authority
from unlost.listener.core.effects import DELIVERED, DeliveryOutcome, Effect
from unlost.listener.core.targets import Targets
from unlost.listener.effects.hosts import secrets_of
from unlost.listener.effects.http import HttpChannel, HttpOptions
from unlost.ops.kit.access.webhook import signed
from unlost.ops.kit.telemetry.tls import ClientTls

LOCAL = "127.0.0.0/8 ::1/128"
SECRETS = secrets_of("127.0.0.1=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def effect(url: str, **more: Any) -> Effect:
    given = {"kind": "post", "headers": {"x-kind": "a"}, "body": b'{"n":1}', **more}
    return Effect("e", 1, "msg_1", url=url, host="h", attempts=0, **given)


@contextlib.asynccontextmanager
async def channel_to(receiver: Receiver | None = None, **more: Any) -> AsyncIterator[HttpChannel]:
    hosts = f"http://127.0.0.1:{receiver.port} https://localhost:{receiver.port}" if receiver else "a.com"
    channel = HttpChannel(
        HttpOptions(**{"targets": Targets.of(hosts, LOCAL), "secrets": SECRETS, "timeout": 5.0, **more})
    )
    yield channel
    await channel.close()


async def test_a_receiver_gets_the_body_the_key_and_a_signature() -> None:
    async with receiving() as receiver, channel_to(receiver, tokens={"127.0.0.1": ["sesame"]}) as channel:
        assert await channel.send(effect(receiver.url + "?a=1")) == DELIVERED
        (call,) = receiver.calls
    assert (call.path, call.body) == ("/hook?a=1", b'{"n":1}')
    assert call.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert call.headers["x-kind"] == "a"
    assert call.headers["authorization"] == "Bearer sesame"
    expected = signed(SECRETS["127.0.0.1"], "msg_1", int(call.headers["webhook-timestamp"]), call.body)
    assert expected.items() <= call.headers.items()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(500, body="oh"), DeliveryOutcome("again", "HTTP 500: oh", "HTTP 500")),
        (status(429, "Retry-After: 7"), DeliveryOutcome("again", "HTTP 429", "HTTP 429", 7.0)),
        (status(400, body="no"), DeliveryOutcome("never", "HTTP 400: no")),
        (status(302, "Location: http://127.0.0.1:1/"), DeliveryOutcome("never", "HTTP 302")),
        (close, "again"),
        (hang, DeliveryOutcome("again", "no complete answer within 1 s", "timeout")),
        (endless_headers, "again"),
        (endless_body, "again"),
    ],
    ids=["500", "429", "400", "redirect", "close", "hang", "headers", "body"],
)
async def test_a_receiver_that_fails(answer: Answers, expected: DeliveryOutcome | str) -> None:
    async with (
        receiving(then=answer) as receiver,
        channel_to(receiver, timeout=1.0 if answer is hang else 10.0) as channel,
    ):
        got = await channel.send(effect(receiver.url))
        assert got == expected or got.what == expected
        assert len(receiver.calls) == 1, "nothing is repeated or followed here"


async def test_a_host_that_is_down_or_unknown_is_tried_again() -> None:
    async with receiving() as receiver:
        pass
    async with channel_to(receiver) as channel:
        assert (await channel.send(effect(receiver.url))).alike == "ConnectError"
    async with channel_to(targets=Targets.of("http://nobody.invalid")) as channel:
        assert (await channel.send(effect("http://nobody.invalid/"))).what == "again"


async def test_only_allowed_hosts_and_addresses_are_called() -> None:
    async with receiving() as receiver:
        async with channel_to(targets=Targets.of("a.com")) as channel:
            assert (await channel.send(effect(receiver.url))).why.endswith("it is not in EFFECT_HOSTS")
        hosts = Targets.of(f"http://127.0.0.1:{receiver.port} http://localhost:{receiver.port}")
        async with channel_to(targets=hosts) as channel:
            for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
                got = await channel.send(effect(url))
                assert got.what == "never"
                assert "private ones must be in EFFECT_NETWORKS" in got.why
        assert receiver.calls == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asked = asyncio.get_running_loop(), []
    real = loop.getaddrinfo

    async def rebinding(host: str, port: int, **more: Any) -> Any:
        asked.append(host)
        return await real("127.0.0.1" if asked.count(host) == 1 else "127.0.0.9", port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    async with receiving() as receiver:
        targets = Targets.of(f"http://shop.test:{receiver.port}", LOCAL)
        async with channel_to(targets=targets) as channel:
            assert await channel.send(effect(f"http://shop.test:{receiver.port}/x")) == DELIVERED
    assert asked.count("shop.test") == 1
    assert receiver.calls[0].headers["host"] == f"shop.test:{receiver.port}"


async def test_the_certificate_is_verified_for_the_name(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    for issued, trusted, good in (
        (ours.issue("a", "localhost"), ours, True),
        (ours.issue("b", "elsewhere.test"), ours, False),
        (ours.issue("c", "localhost"), other, False),
    ):
        async with receiving(tls=issued.context()) as receiver:
            tls = ClientTls(trusted.file)
            async with channel_to(receiver, tls=tls) as channel:
                got = await channel.send(effect(f"https://localhost:{receiver.port}/"))
        assert (got == DELIVERED) is good, got
        assert len(receiver.calls) == good


async def test_publishing_goes_to_the_producer_of_the_settings() -> None:
    known = status(409, body='{"status":"duplicate","event_id":"msg_1"}')
    async with receiving(accept, known, status(409, body='{"status":"conflict"}')) as receiver:
        producer = f"http://127.0.0.1:{receiver.port}"
        async with channel_to(producer=producer) as channel:
            got = [(await channel.send(effect("", kind="publish"))).what for _ in range(3)]
    assert got == ["delivered", "delivered", "never"]
    assert {call.path for call in receiver.calls} == {"/publish"}
    async with channel_to() as channel:
        assert "EFFECT_PRODUCER is not set" in (await channel.send(effect("", kind="publish"))).why
