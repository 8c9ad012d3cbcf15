"""Whatever a server answers to claim calls, the caller gets an answer, or learns in time that Redis failed."""

import asyncio
import resource
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.wrong_redis import answering
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Dead, Done, Held, HeldClaim, Lapsed, Won
from unlost.listener.core.errors import Permanent, Transient

LIMIT = 0.3
REQUESTS = [ClaimRequest(f"e{number}", bytes([number]) * 32) for number in range(3)]
HELD_CLAIMS = [HeldClaim(request.event_id, request.digest) for request in REQUESTS]
ALONE = b"-ERR This instance has cluster support disabled\r\n"
PLACE = b"$19\r\n0123abcd.m01 0.0000\r\n"
CALLS: dict[str, Callable[[RedisClaims], Awaitable[object]]] = {
    "place": lambda claims: claims.place(),
    "claim": lambda claims: claims.claim(REQUESTS, take_over=1),
    "renew": lambda claims: claims.renew(HELD_CLAIMS),
    "replicate": lambda claims: claims.replicate(HELD_CLAIMS),
    "settle": lambda claims: claims.settle(REQUESTS, "done"),
    "release": lambda claims: claims.release([request.event_id for request in REQUESTS]),
    "look": lambda claims: claims.look(REQUESTS),
}


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(items: list[bytes]) -> bytes:
    return b"*%d\r\n%s" % (len(items), b"".join(items))


RECORDS = st.builds(lambda *parts: struct.pack(">BIII", *parts), st.integers(0, 7), *[st.integers(0, 2**32 - 1)] * 3)
BULKS = st.one_of(
    st.binary(max_size=60),
    st.lists(RECORDS, min_size=2, max_size=4).map(b"".join),
    st.text("012", max_size=4).map(str.encode),
).map(bulk)
LINES = st.builds(
    lambda kind, line: kind + line.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n",
    st.sampled_from([b"+", b"-", b":", b"$", b"*", b"_", b"#", b",", b"(", b"%", b"~", b">", b"!", b"="]),
    st.one_of(
        st.binary(max_size=20),
        st.integers(-(10**20), 10**20).map(lambda number: b"%d" % number),
        st.sampled_from([b"MOVED", b"ASK 1", b"NOSCRIPT no", b"LOADING", b"WRONGPASS no", b"ERR max", b"CLUSTERDOWN"]),
    ),
)
REPLIES = st.recursive(BULKS | LINES, lambda inner: st.lists(inner, max_size=4).map(array), max_leaves=6) | st.binary(
    max_size=40
)


async def shown(name: str, reply: bytes) -> object:
    """Return what a caller gets: an answer of the right kind, or one of our own errors."""
    replies = [PLACE, PLACE] if name != "place" else []

    def answer(request: bytes) -> bytes:
        if replies and b"SLOTS" in request:
            return ALONE
        return replies.pop() if replies and b"place" in request and b"MGET" not in request else reply

    async with answering(answer) as url:
        claims = RedisClaims(
            redis_servers(url, timeout=LIMIT), token="a:1", group="g", lease_seconds=30, window_seconds=60
        )
        try:
            if name != "place":
                await claims.place()
                replies.clear()
            return await CALLS[name](claims)
        except (Transient, Permanent) as error:
            return error
        finally:
            await claims.close()


def is_an_answer(name: str, answer: object) -> bool:
    match name:
        case "place":
            return isinstance(answer, str)
        case "release":
            return answer is None
        case "claim":
            return (
                isinstance(answer, list)
                and [isinstance(a, Won | Held | Lapsed | Done | Dead) for a in answer] == [True] * 3
            )
        case _:
            return isinstance(answer, list) and [type(one) for one in answer] == [bool] * 3


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60, deadline=None)
@given(reply=REPLIES)
@example(reply=b":1\r\n")
@example(reply=b"$-1\r\n")
@example(reply=b"*0\r\n")
@example(reply=b"*-1\r\n")
@example(reply=b"$1\r\n1\r\n")
@example(reply=b"+OK\r\n")
@example(reply=b"-MOVED\r\n")
@example(reply=b"*3\r\n:1\r\n:2\r\n:3\r\n")
@example(reply=bulk(struct.pack(">BIII", 9, 1, 1, 1) * 3))
@example(reply=bulk(struct.pack(">BIII", 1, 2**32 - 1, 1, 1) * 3))
@example(reply=b">1\r\n+hello\r\n")
@example(reply=b">1\r\n+hello\r\n" * 3_000)
def test_no_answer_of_a_server_is_more_than_a_failed_call(name: str, reply: bytes) -> None:
    answer = asyncio.run(shown(name, reply))
    assert isinstance(answer, Transient | Permanent) or is_an_answer(name, answer)


def memory() -> list[int]:
    """Bytes of address space, and of resident memory."""
    return [int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()[:2]]


@pytest.mark.parametrize(
    "announced",
    [
        b"$10000000000\r\n", b"*1000000000\r\n", b"*1\r\n*1000000000\r\n", b"*3\r\n$1\r\n*\r\n*999999999\r\n",
        b"%1000000000\r\n", b"~900000000\r\n", b"+" + b"x" * 100_000, b"*4294967294\r\n", b"$-9223372036854775808\r\n",
        b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n$4000000\r\n" + b"x" * 4_000_000,
    ],
)  # fmt: skip
async def test_a_length_that_a_reply_announces_is_not_allocated(announced: bytes) -> None:
    """An array of that size would be allocated at once, and freeing it would block the event loop for seconds."""
    before = memory()
    started = time.process_time()
    for name in ("claim", "look"):
        assert isinstance(await shown(name, announced), Transient)
    grown = [now - then for now, then in zip(memory(), before, strict=True)]
    assert grown[0] < 256 * 1024 * 1024, "of address space"
    assert grown[1] < 48 * 1024 * 1024
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize("announced", [b"*1000000000\r\n", b"$10000000000\r\n", b"*1\r\n%900000000\r\n", b"-MOVED\r\n"])
async def test_neither_is_what_is_announced_while_a_connection_is_opened(announced: bytes) -> None:
    """The library reads the answers to AUTH and SELECT."""
    before = memory()
    started = time.process_time()
    async with answering(lambda _: announced) as url:
        address = url.replace("//", "//user:word@").removesuffix("/0") + "/3"
        claims = RedisClaims(
            redis_servers(address, timeout=LIMIT), token="a:1", group="g", lease_seconds=30, window_seconds=60
        )
        with pytest.raises((Transient, Permanent)):
            await claims.place()
        await claims.close()
    grown = [now - then for now, then in zip(memory(), before, strict=True)]
    assert grown[0] < 256 * 1024 * 1024, "of address space"
    assert grown[1] < 48 * 1024 * 1024
    assert time.process_time() - started < 2.0


async def test_an_answer_that_is_no_answer_ends_its_connection() -> None:
    """The next answer on it could be the answer to an earlier call."""
    answers = [bulk(b"111"), b":1\r\n" + bulk(b"000"), PLACE, ALONE]
    async with answering(lambda _: answers.pop()) as url:
        claims = RedisClaims(
            redis_servers(url, timeout=LIMIT), token="a:1", group="g", lease_seconds=30, window_seconds=60
        )
        await claims.place()
        with pytest.raises(Transient, match="asked for yes or no for 3 events, Redis answered int 1"):
            await claims.renew(HELD_CLAIMS)
        assert await claims.renew(HELD_CLAIMS) == [True] * 3
        await claims.close()
