"""A certificate that is not trusted: the message names the setting of this very source. On real TLS servers."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.support.tls import Authority
from unlost.listener.app.feeds import feed_of
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.errors import words_of
from unlost.listener.source.brokers.rabbitmq import OPTIONS, Rabbit, options_of
from unlost.listener.source.feed.calls import call
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.hook import Action, Feed, Opening
from unlost.listener.source.feed.loading import parse
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.websocket.connection import WebSocketOptions

UNTRUSTED = "the server's certificate is signed by an authority that is not trusted; set"


@contextlib.asynccontextmanager
async def tls_server(directory: Path) -> AsyncIterator[str]:
    """The host and port of a WebSocket server, whose certificate only ``ca.pem`` in the directory vouches for."""
    authority = Authority(directory, "ca")
    context = authority.issue("server").context()

    async def ignore(client: ServerConnection) -> None:
        await client.wait_closed()

    async with serve(ignore, "127.0.0.1", 0, ssl=context) as running:
        yield f"127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"


class Own(Feed):
    """A feed that a user wrote."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def opening(self, after: str | None) -> Opening:
        return Opening(url=self._url)

    def read(self, message: bytes) -> Iterable[Action]:
        return ()


async def nothing() -> None:
    return None


async def loss_of(feed: Feed) -> str:
    source = FeedSource("feed", feed, declare=lambda *_, **__: None, websocket=WebSocketOptions())
    with pytest.raises(SourceEnded) as ended:
        async with source.open(nothing):
            raise AssertionError("the server is trusted")
    return ended.value.loss.why


def profile(text: str) -> ProfileFeed:
    return ProfileFeed(parse(f'id = "id"\n{text}', "feed.toml", {}))


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_a_feeds_message_names_the_key_of_its_profile(tmp_path: Path, scheme: str):
    async with tls_server(tmp_path) as place:
        assert f"{UNTRUSTED} wire.ca" in await loss_of(profile(f'url = "{scheme}://{place}/"'))


async def test_a_class_is_named_its_opening(tmp_path: Path):
    async with tls_server(tmp_path) as place:
        assert f"{UNTRUSTED} ca of its Opening" in await loss_of(Own(f"wss://{place}/"))


async def test_a_socketio_server_is_named_the_option_of_its_address(tmp_path: Path):
    async with tls_server(tmp_path) as place:
        _, feed = feed_of(f"socketios://{place}/orders")
        assert f"{UNTRUSTED} ca=FILE in its address" in await loss_of(feed)
        _, trusting = feed_of(f"socketios://{place}/orders?ca={tmp_path / 'ca.pem'}")
        trusting.opened_within = 1.0
        assert await loss_of(trusting) == "the feed was not open after 1 s"  # this server says nothing


async def test_a_call_for_an_address_names_what_it_trusts(tmp_path: Path):
    async with tls_server(tmp_path) as place:
        why = await loss_of(profile(f'url_from = {{ url = "https://{place}/" }}'))
        assert f"{UNTRUSTED} SSL_CERT_FILE in the environment" in why
        with pytest.raises(SourceEnded, match="SSL_CERT_FILE"):
            await call("GET", f"https://{place}/", {})


async def test_a_brokers_message_names_what_it_trusts(tmp_path: Path):
    async with tls_server(tmp_path) as place:
        address = read_address(f"amqps://{place}/queue", what="QUEUE", port=5671, options=OPTIONS)
        source = Rabbit(options_of(address, max_events=10))
        with pytest.raises(SourceEnded) as ended:
            async with source.open(nothing):
                raise AssertionError("the server is trusted")
    assert ended.value.loss.why == f"{UNTRUSTED} SSL_CERT_FILE in the environment"


def test_a_broker_that_wants_a_certificate_says_that_none_can_be_given():
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    assert words_of(error) == "the server requires a client certificate, and none can be given here"
