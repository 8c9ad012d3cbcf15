"""A running producer with tokens: HTTP, the fast path, and the stream."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.typing import Subprotocol

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.raw_http import connected
from unlost.ops.kit.access.lockout import FREE
from unlost.ops.kit.access.table import new_token

EVENT = {"event_id": "a", "payload": {}}
ORIGIN = "http://evil.example"


def test_each_route_needs_its_right_and_probes_need_none(guarded: RunningProducer, tokens: Tokens):
    http = guarded.http
    for path in ("/publish", "/publish/batch", "/api/v1/ddup_service/events"):
        assert http.post(path, json=EVENT).status_code == 401
        assert http.post(path, json=EVENT, headers=tokens.bearer("reader")).status_code == 403
        assert http.post(path, json=EVENT, headers={"authorization": f"Bearer {new_token()}"}).status_code == 401
    for path in ("/metrics", "/api/journal", "/api/journal/groups", "/api/follow?ids=a", "/openapi.json", "/other"):
        assert http.get(path).status_code == 401, path
        assert http.get(path, headers=tokens.bearer("shop")).status_code == 403, path
    assert http.get("/metrics", headers=tokens.bearer("reader")).status_code == 200
    assert http.post("/publish", json=EVENT, headers=tokens.bearer("shop")).status_code in (202, 409)
    assert http.get("/").status_code == http.get("/api/v1/ddup_service/test").status_code == 200


def test_health_answers_a_stranger_yes_or_no_alone(guarded: RunningProducer, tokens: Tokens):
    assert guarded.http.get("/health").json() == {"live": True, "ready": True}
    assert guarded.http.get("/health/ready").json() == {"status": "ready"}
    assert guarded.http.get("/health", headers={"authorization": "Bearer wrong"}).json() == {
        "live": True,
        "ready": True,
    }
    assert "newest" in guarded.http.get("/health", headers=tokens.bearer("reader")).json()


def test_a_token_in_the_query_is_none(guarded: RunningProducer, tokens: Tokens):
    for name in ("token", "access_token", "authorization"):
        assert guarded.http.post(f"/publish?{name}={tokens.of['shop']}", json=EVENT).status_code == 401


async def test_a_revoked_token_publishes_nothing_more_on_an_open_connection(guarded: RunningProducer, tokens: Tokens):
    mine = f"revoked-fast-{guarded.settings['FAST']}"
    head = f"POST /publish HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {tokens.of[mine]}\r\n"
    async with connected(guarded.url) as (reader, writer):

        async def status(number: int) -> int:
            body = json.dumps({"event_id": f"r{number}", "payload": {}})
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            line = await reader.readline()
            rest = await reader.readuntil(b"\r\n\r\n")
            size = next(int(one.split(b":")[1]) for one in rest.lower().split(b"\r\n") if b"content-length" in one)
            await reader.readexactly(size)
            return int(line.split()[1])

        assert await status(0) == 202
        tokens.revoke(mine)
        revoked = time.monotonic()
        number = 1
        while await status(number) == 202:
            number += 1
            assert time.monotonic() - revoked < 2
        assert await status(number + 1) == 401


async def test_a_batch_ends_when_its_token_is_revoked(guarded: RunningProducer, tokens: Tokens):
    sent, mine = 0, f"revoked-batch-{guarded.settings['FAST']}"

    async def lines():
        nonlocal sent
        while True:
            yield json.dumps({"event_id": f"b{sent}", "payload": {}}).encode() + b"\n"
            sent += 1
            if sent == 3:
                tokens.revoke(mine)
            await asyncio.sleep(0.05)

    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(f"{guarded.url}/publish/batch", content=lines(), headers=tokens.bearer(mine))
    assert 3 <= sent < 60


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(url, proxy=None, compression=None, **options)
    return refusal.value.response.status_code


async def test_the_stream_needs_the_right_to_read(guarded: RunningProducer, tokens: Tokens):
    assert await refused(guarded.stream) == 401
    assert await refused(guarded.stream, additional_headers={"Authorization": "Bearer wrong"}) == 401
    assert await refused(guarded.stream, additional_headers=tokens.bearer("shop")) == 403
    assert await refused(f"{guarded.stream}?token={tokens.of['reader']}") == 401
    assert await refused(guarded.stream, subprotocols=["unlost", "unlost.bearer.wrong"]) == 401
    async with connect(guarded.stream, additional_headers=tokens.bearer("reader"), proxy=None) as one:
        assert one.subprotocol is None
    protocols = [Subprotocol("unlost"), Subprotocol(f"unlost.bearer.{tokens.of['reader']}")]
    async with connect(guarded.stream, subprotocols=protocols, proxy=None) as one:
        assert one.subprotocol == "unlost", "the token is never sent back"


async def test_a_revoked_token_ends_its_stream_within_a_second(guarded: RunningProducer, tokens: Tokens):
    mine = f"revoked-stream-{guarded.settings['FAST']}"
    async with (
        connect(guarded.stream, additional_headers=tokens.bearer(mine), proxy=None) as revoked,
        connect(guarded.stream, additional_headers=tokens.bearer("listener"), proxy=None) as other,
    ):
        tokens.revoke(mine)
        async with asyncio.timeout(1):
            with pytest.raises(ConnectionClosed) as closed:
                await revoked.recv()
        assert closed.value.rcvd.code == 1008
        event = {"event_id": mine, "payload": {}}
        answer = await asyncio.to_thread(guarded.http.post, "/publish", json=event, headers=tokens.bearer("shop"))
        assert answer.status_code == 202
        assert json.loads(await other.recv())["event_id"] == mine


async def test_only_a_token_of_the_group_reports_what_it_has_read(guarded: RunningProducer, tokens: Tokens):
    async def closed_after(name: str, group: str) -> int:
        async with connect(guarded.stream, additional_headers=tokens.bearer(name), proxy=None) as one:
            await one.send(json.dumps({"group": group}))
            with pytest.raises(ConnectionClosed) as closed:
                await one.recv()
            return closed.value.rcvd.code

    assert await closed_after("reader", "eu") == 1008
    assert await closed_after("listener", "us") == 1008
    async with connect(guarded.stream, additional_headers=tokens.bearer("listener"), proxy=None) as one:
        await one.send(json.dumps({"group": "eu"}))
        await (await one.ping())
    seen = await asyncio.to_thread(guarded.http.get, "/api/journal/groups", headers=tokens.bearer("ana"))
    assert [one["group"] for one in seen.json()["groups"]] == ["eu"]
    mine = await asyncio.to_thread(guarded.http.get, "/api/journal/groups", headers=tokens.bearer("us"))
    assert mine.json()["groups"] == [], "another group's state is its own affair"


def test_guesses_are_locked_out_and_others_at_the_same_address_are_not(guarded: RunningProducer, tokens: Tokens):
    answers = [
        guarded.http.post("/publish", json=EVENT, headers={"authorization": f"Bearer {new_token()}"})
        for _ in range(FREE + 5)
    ]
    codes = [one.status_code for one in answers]
    assert codes == sorted(codes), "other tests have guessed before"
    assert set(codes[-4:]) == {429}
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert guarded.http.post("/publish", json=EVENT, headers=tokens.bearer("shop")).status_code in (202, 409)
    metrics = guarded.http.get("/metrics", headers=tokens.bearer("reader")).text
    (locked,) = (line for line in metrics.splitlines() if 'requests_total{reason="locked"}' in line)
    assert float(locked.split()[1]) == codes.count(429)


async def test_neither_a_rebound_name_nor_a_page_of_another_port_gets_in(guarded: RunningProducer, tokens: Tokens):
    shop, port = tokens.bearer("shop"), guarded.stream.rsplit(":")[-1].strip("/")
    post = guarded.http.post
    assert post("/publish", json=EVENT, headers={**shop, "host": "evil.example"}).status_code == 421
    assert post("/publish", json=EVENT, headers={**shop, "origin": ORIGIN}).status_code == 403
    assert post("/publish", json=EVENT, headers={**shop, "origin": "http://127.0.0.1:1"}).status_code == 403
    assert post("/publish", json=EVENT, headers={**shop, "origin": f"http://127.0.0.1:{port}"}).status_code in (
        202,
        409,
    )
    reader = tokens.bearer("reader")
    assert await refused(guarded.stream, additional_headers={**reader, "Host": "evil.example"}) in (400, 421)
    assert await refused(guarded.stream, additional_headers=reader, origin="http://127.0.0.1:1") == 403
    assert guarded.http.get("/health/live", headers={"host": "10.1.2.3.nip.example"}).status_code == 200


async def test_a_page_on_the_streams_port_may_send_its_token(guarded: RunningProducer, tokens: Tokens):
    port = guarded.stream.rsplit(":")[-1].strip("/")
    asked = {"origin": f"http://127.0.0.1:{port}", "access-control-request-method": "POST"}
    allowed = guarded.http.options("/publish", headers=asked)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == asked["origin"]
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert guarded.http.options("/publish", headers={**asked, "origin": ORIGIN}).status_code == 403


async def test_odd_heads_get_nobody_in(guarded: RunningProducer, tokens: Tokens):
    good = f"authorization: Bearer {tokens.of['shop']}"
    odd = [
        [good, "authorization: Bearer x"], ["authorization: Bearer x", good], [f"authorization : {good}"], [f" {good}"],
        ["authorization: Bearer"], [good.replace("Bearer", "Bearer\x00")], [f"authorization: Bearer {'a' * 3000}"],
        [f"x-authorization: {good}"], [f"authorization: Bearer {tokens.of['shop']}, x"], ["authorization: "],
        [good, "host: evil.example"], ["cookie: " + good],
    ]  # fmt: skip
    for lines in odd:
        async with connected(guarded.url) as (reader, writer):
            body = json.dumps({"event_id": "odd", "payload": {}})
            head = "\r\n".join(["POST /publish HTTP/1.1", "host: localhost", *lines, f"content-length: {len(body)}"])
            writer.write(f"{head}\r\n\r\n{body}".encode("latin-1"))
            async with asyncio.timeout(5):
                status = (await reader.readline()).split()[1:2]
            assert status in ([b"400"], [b"401"], [b"421"], [b"429"]), lines
    found = await asyncio.to_thread(
        guarded.http.get, "/api/journal", params={"event_id": "odd"}, headers=tokens.bearer("reader")
    )
    assert found.text == ""


async def test_a_report_is_judged_by_the_rights_of_now(guarded: RunningProducer, tokens: Tokens):
    mine = f"moved-{guarded.settings['FAST']}"

    def stream() -> connect:
        return connect(guarded.stream, additional_headers=tokens.bearer(mine), proxy=None)

    def knows(group: str) -> bool:
        answer = guarded.http.get("/api/journal/groups", headers=tokens.bearer("ana"))
        return f'"{group}"' in answer.text

    async def may_report(connection: ClientConnection, group: str) -> bool:
        """Wait until the producer knows the group, or ends the connection."""
        await connection.send(json.dumps({"group": group}))
        while connection.state is State.OPEN:
            if await asyncio.to_thread(knows, group):
                return True
            await asyncio.sleep(0.02)
        return False

    async with asyncio.timeout(10), stream() as one, stream() as other:
        assert await may_report(one, mine)
        tokens.move(mine, f"{mine}-later")
        moved = False
        while not moved:
            async with stream() as later:
                moved = await may_report(later, f"{mine}-later")
        await one.send(json.dumps({"group": f"{mine}-later"}))
        await other.send(json.dumps({"group": mine}))
        with pytest.raises(ConnectionClosed) as closed:
            await other.recv()
        assert closed.value.rcvd.code == 1008
        await (await one.ping())
        assert one.state is State.OPEN
