"""What ``[wire]`` says about a connection: a proxy, TLS, compression, subprotocols, headers. On real sockets."""

import asyncio
import contextlib
import http
import json
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.support.reading import reading
from tests.support.tls import Authority, Pair
from tests.unit.feeds.test_hostile import tcp
from tests.unit.feeds.test_sessions import Server, opened, serving, source_of, taken
from unlost.listener.core.facts import SourceConnected, SourceLost
from unlost.listener.core.oversized import Oversized
from unlost.listener.fast.websocket import open_stream
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.feed.source import FeedSource

ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "socks_proxy", "ws_proxy", "wss_proxy")


class Proxy:
    """An HTTP proxy: passes on connections (CONNECT), and requests for addresses in full."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target = head.split(b" ", 2)[:2]
        self.asked.append(f"{method.decode()} {target.decode()}")
        place = target.removeprefix(b"http://").partition(b"/")[0].decode()
        there, back = await asyncio.open_connection(*place.split(":"))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            back.write(head)
        await asyncio.gather(_pass(reader, back), _pass(there, writer))
        await back.wait_closed()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextlib.asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with tcp(proxy.talk) as proxy.url:
        yield proxy


async def one_event(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one server-sent event, until the reader leaves."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"id":7}\n\n')
    await reader.read()


@contextlib.asynccontextmanager
async def secure(context: ssl.SSLContext) -> AsyncIterator[Server]:
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0, process_request=server.look, ssl=context) as running:
        server.url = f"wss://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        yield server


def events_of(url: str, wire: str) -> FeedSource:
    server = Server()
    server.url = url
    return source_of(f'id = "data.id"\n[wire]\n{wire}', server)


async def event_by(source: FeedSource, server: Server) -> None:
    """An event comes by the connection."""
    async with opened(source) as session:
        await (await server.clients.get()).send('{"id":1}')
        assert await taken(session) == ["1"]


async def test_a_proxy_passes_the_connection_on():
    async with serving() as server, proxying() as proxy:
        await event_by(source_of(f'id = "id"\n[wire]\nproxy = "{proxy.url}"', server), server)
        assert proxy.asked == [f"CONNECT {server.url.removeprefix('ws://')}"]


async def test_a_proxy_passes_server_sent_events_on():
    async with tcp(one_event) as url, proxying() as proxy:
        async with opened(events_of(url, f'proxy = "{proxy.url}"')) as session:
            assert await taken(session) == ["7"]
        assert proxy.asked == [f"GET {url}/"]


async def test_a_proxy_that_only_the_environment_names_is_not_used(monkeypatch: pytest.MonkeyPatch):
    async with serving() as server, tcp(one_event) as url, proxying() as proxy:
        for name in ENVIRONMENT:
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("no_proxy", "")
        await event_by(source_of('id = "id"', server), server)
        async with opened(events_of(url, "")) as session:
            assert await taken(session) == ["7"]
        assert proxy.asked == []


def divided(pair: Pair, directory: Path) -> tuple[Path, Path]:
    """A certificate and its key in two files."""
    text = pair.file.read_text()
    at = text.index("-----BEGIN CERTIFICATE-----")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_text(text[at:])
    key.write_text(text[:at])
    return certificate, key


async def test_a_feed_is_trusted_by_its_own_authority_alone(tmp_path: Path):
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    context = ours.issue("feed").context()
    async with secure(context) as server, tcp(one_event, context) as url:
        await event_by(source_of(f'id = "id"\n[wire]\nca = "{ours.file}"', server), server)
        async with opened(events_of(url, f'ca = "{ours.file}"')) as session:
            assert await taken(session) == ["7"]
        for wire in ("", f'ca = "{other.file}"'):
            for source in (source_of(f'id = "id"\n[wire]\n{wire}', server), events_of(url, wire)):
                with pytest.raises(SourceEnded, match=r"not trusted|CERTIFICATE_VERIFY_FAILED"):
                    async with opened(source):
                        pass


async def test_a_feed_that_wants_a_certificate_gets_it_with_its_key(tmp_path: Path):
    authority = Authority(tmp_path, "ours")
    context = authority.issue("feed").context(requires=authority.file)
    certificate, key = divided(authority.issue("us"), tmp_path)
    trusted, shown = f'ca = "{authority.file}"', f'cert = "{certificate}"\nkey = "{key}"'
    async with secure(context) as server, tcp(one_event, context) as url:
        await event_by(source_of(f'id = "id"\n[wire]\n{trusted}\n{shown}', server), server)
        async with opened(events_of(url, f"{trusted}\n{shown}")) as session:
            assert await taken(session) == ["7"]
        with pytest.raises(SourceEnded):
            await event_by(source_of(f'id = "id"\n[wire]\n{trusted}', server), server)
        with pytest.raises(SourceEnded, match=r"the files of \[wire\] cannot be used"):
            async with opened(source_of(f'id = "id"\n[wire]\n{trusted}\ncert = "{certificate}"', server)):
                pass


async def test_messages_are_compressed_if_the_profile_allows_it():
    """Also where the connection that is used otherwise cannot read compressed messages."""
    async with serving() as server:
        for wire, offered in (("compression = true", "permessage-deflate"), ("", "")):
            await event_by(source_of(f'id = "id"\n[wire]\n{wire}', server, open_connection=open_stream), server)
            assert server.headers[-1].get("Sec-WebSocket-Extensions", "").partition(";")[0] == offered


async def test_a_compressed_message_that_is_too_large_is_measured_unpacked():
    """The connection that is used otherwise would measure what was sent, and keep a piece of that."""
    message = json.dumps({"id": 1, "text": random.Random(1).randbytes(20_000).hex()})
    async with serving() as server:
        source = source_of(
            'id = "id"\n[wire]\ncompression = true', server, max_frame=1_000, open_connection=open_stream
        )
        async with opened(source) as session:
            await (await server.clients.get()).send(message)
            whole = await session.take(1, 1)
    assert isinstance(whole, Oversized)
    assert (whole.length, whole.head[:40].decode()) == (len(message), message[:40])


async def test_the_best_subprotocol_that_both_know_is_spoken():
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0, subprotocols=["feed.v1"]) as running:  # type: ignore[list-item]
        server.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"
        async with opened(source_of('id = "id"\n[wire]\nsubprotocols = ["feed.v2", "feed.v1"]', server)):
            client: ServerConnection = await server.clients.get()
            assert client.subprotocol == "feed.v1"
        with pytest.raises(SourceEnded, match="HTTP 400"):
            async with opened(source_of('id = "id"', server)):
                pass


async def test_a_token_that_is_refused_is_read_again_from_its_file(tmp_path: Path):
    """The next attempt sends the new content of the file, without a restart."""
    token = tmp_path / "token"
    token.write_text("first")
    wire = f'[wire]\nheaders = {{ Authorization = "file:{token}" }}'
    async with serving() as server:
        server.status = http.HTTPStatus.UNAUTHORIZED
        async with reading("", source=source_of(f'id = "id"\n{wire}', server)) as one:
            await one.until(lambda r: bool(r.of(SourceLost)))
            assert "HTTP 401" in one.of(SourceLost)[0].why
            token.write_text("second")
            server.status = None
            await one.until(lambda r: bool(r.of(SourceConnected)))
    sent = [each["Authorization"] for each in server.headers]
    assert (sent[0], sent[-1]) == ("first", "second")


async def test_a_token_that_the_call_for_the_address_refuses_is_read_again(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("first")
    text = f'id = "id"\n[url_from]\nurl = "${{API}}/open"\nheaders = {{ Authorization = "file:{token}" }}'
    refused: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = (await reader.readuntil(b"\r\n\r\n")).decode()
        good = "authorization: second" in given.lower()
        refused.extend([] if good else [given])
        body = b'{"url":"%b"}' % server.url.encode()
        status = b"200 OK" if good else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()

    async with (
        serving() as server,
        tcp(answer) as api,
        reading("", source=source_of(text, server, {"API": api})) as one,
    ):
        await one.until(lambda r: bool(r.of(SourceLost)))
        assert "answered HTTP 401" in one.of(SourceLost)[0].why
        token.write_text("second")
        await one.until(lambda r: bool(r.of(SourceConnected)))
    assert refused
