"""Tokens, cookies and answers that are nearly right, at running servers: nobody gets in, and nothing breaks.

Each is a change of a valid one, from a seed that a failure names. A few seconds for each kind.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.consoles import RunningConsole, running_console
from tests.support.fuzzing import MOST_GROWTH, memory, mutants
from tests.support.oidc import IdentityProvider, identity_provider
from tests.support.raw_http import connected

pytestmark = pytest.mark.timeout(180)  # servers are started
BODY = b'{"event_id": "fuzzed", "payload": {}}'


async def status_of(url: str, *lines: bytes, body: bytes = b"") -> int:
    """The status of one request; 0 if the connection ends without an answer."""
    async with asyncio.timeout(10), connected(url) as (reader, writer):
        head = [*lines, b"host: 127.0.0.1", b"connection: close", b"content-length: %d" % len(body)]
        writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        try:
            first = (await reader.readline()).split()
        except ConnectionError:
            return 0
        return int(first[1]) if len(first) > 1 else 0


async def see_that_none_passes(
    pid: int, value: str, attempt: Callable[[bytes], Awaitable[int]], right: set[int]
) -> None:
    """``attempt`` returns the status for a value. ``right``: what is answered to the valid one, and to no other."""
    assert await attempt(value.encode()) in right
    before = memory(pid)
    for one in mutants(value.encode()):
        status = await attempt(one)
        assert status not in right, one
        assert not 500 <= status < 600, one
    assert await attempt(value.encode()) in right, "the valid one still passes"
    assert memory(pid) - before < MOST_GROWTH


def is_the_same(value: bytes, token: str) -> bool:
    """Whether a header has the token all the same: spaces around it, and the case of its scheme, mean nothing."""
    text = value.strip(b" \t")
    return text.partition(b" ")[2].strip(b" \t") == token.encode() and text[:7].lower() == b"bearer "


async def test_nearly_valid_tokens_publish_nothing(guarded: RunningProducer, tokens: Tokens):
    token = tokens.of["shop"]

    async def attempt(value: bytes) -> int:
        if value != f"Bearer {token}".encode() and (is_the_same(value, token) or value.strip(b" \t") == token.encode()):
            return 401
        return await status_of(guarded.url, b"POST /publish HTTP/1.1", b"authorization: " + value, body=BODY)

    await see_that_none_passes(guarded.process.pid, f"Bearer {token}", attempt, {202, 409})


async def test_nearly_valid_tokens_open_no_stream(guarded: RunningProducer, tokens: Tokens):
    token = tokens.of["reader"]
    url = guarded.stream.replace("ws://", "http://")
    handshake = (
        b"GET / HTTP/1.1", b"upgrade: websocket", b"connection: Upgrade", b"sec-websocket-version: 13",
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip

    async def attempt(value: bytes) -> int:
        offered = [one.strip(b" \t") for one in value.split(b",")]
        if value != token.encode() and offered[0] == token.encode():
            return 401
        async with asyncio.timeout(10), connected(url) as (reader, writer):
            protocols = b"sec-websocket-protocol: unlost, unlost.bearer." + value
            writer.write(b"\r\n".join([*handshake, b"host: 127.0.0.1", protocols]) + b"\r\n\r\n")
            first = (await reader.readline()).split()
            return int(first[1]) if len(first) > 1 else 0

    await see_that_none_passes(guarded.process.pid, token, attempt, {101})


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as one:
        yield one


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[RunningConsole]:
    with running_console(tmp_path_factory.mktemp("console"), provider) as one:
        yield one


@pytest.fixture
def session(console: RunningConsole) -> str:
    with console.browser() as browser:
        browser.get("/signin")
        return browser.cookies["unlost"]


async def test_nearly_valid_sessions_read_nothing(console: RunningConsole, session: str):
    async def attempt(value: bytes) -> int:
        pairs = [one.strip(b" \t") for one in (b"unlost=" + value).split(b";")]
        if value != session.encode() and f"unlost={session}".encode() in pairs:
            return 401
        return await status_of(console.url, b"GET /metrics HTTP/1.1", b"cookie: unlost=" + value)

    await see_that_none_passes(console.process.pid, session, attempt, {200})


@pytest.mark.parametrize("part", ["cookie", "state"])
async def test_nearly_valid_answers_of_a_provider_sign_nobody_in(
    console: RunningConsole, provider: IdentityProvider, part: str
):
    """The code is none that the provider knows: it would be used up by the first request that passes."""
    with console.browser() as browser:
        browser.follow_redirects = False
        query = dict(httpx.QueryParams(urlsplit(browser.get("/signin").headers["location"]).query))
        cookie, state = browser.cookies["unlost-signin"], query["state"]
    asked = len(provider.asked)

    async def attempt(value: bytes) -> int:
        sent = {"cookie": cookie.encode(), "state": state.encode(), part: value}
        pairs = [one.strip(b" \t") for one in (b"unlost-signin=" + value).split(b";")]
        if part == "cookie" and value != cookie.encode() and f"unlost-signin={cookie}".encode() in pairs:
            return 403  # it is the same
        line = f"GET /signin/callback?code=x&iss={quote(provider.issuer)}&state={quote(sent['state'])} HTTP/1.1"
        return await status_of(console.url, line.encode(), b"cookie: unlost-signin=" + sent["cookie"])

    valid = cookie if part == "cookie" else state
    await see_that_none_passes(console.process.pid, valid, attempt, {502})
    assert provider.asked[asked:].count("/token") == 2, "what is not valid never reaches the provider"
    assert "Traceback" not in console.log()
