"""Any requests in any pieces: clients are answered as they would be without the fast path."""

import asyncio
import itertools
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.publishing import LIMIT, Connected, post
from unlost.producer.journal.publications import Publication

EVENT = b'{"event_id":"e","payload":1}'
bodies = st.sampled_from(
    [
        EVENT, b'{"event_id":"f","payload":{"a":[1,2]}}', b'{"event_id":"trouble","payload":1}', b"", b"{", b"nonsense",
        b'{"event_id":"crowd","payload":1}', b'{"payload":1,"cursor":"x"}', b' {"payload":\r\n\r\n1}',
        b"x" * (LIMIT + 1), b'{"event_id":"large","payload":"%b"}' % (b"x" * 1_500),
    ]
)  # fmt: skip
marks = st.sampled_from(
    [
        b"Connection: keep-alive", b"CONTENT-type: text/plain", b"X-Y:", b"x-content-length: 7", b"accept: */*, \t!",
        b"user-agent: content-length: 3", b"te: trailers", b"accept-encoding: transfer-encoding:chunked",
        b"x: \xc3\xa4",        b"x: close", b"expected: 100-continue", b"originator: http://there",
    ]
)  # fmt: skip
plain = st.builds(lambda body, marks: post(body, *marks), bodies, st.lists(marks, max_size=3))
others = st.sampled_from(
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /publish HTTP/1.1\r\nhost: here\r\n\r\n",
        b"\r\n\r\n" + post(EVENT),
        post(EVENT, target=b"/publish?redeliver=true"),
        post(EVENT, target=b"/publish/"),
        post(EVENT, target=b"http://here/publish"),
        post(EVENT, target=b"/%70ublish"),
        post(EVENT, b"origin: http://there"),
        post(EVENT, b"expect: 100-continue"),
        post(EVENT).replace(b"content-length: ", b"content-length:\t "),
        post(EVENT).replace(b"content-length: ", b"content-length: 00"),
        post(EVENT).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\ntransfer-encoding:chunked\r\n").replace(
            b"content-length: 28\r\n\r\n" + EVENT, b"x: y\r\n\r\n1c\r\n" + EVENT + b"\r\n0\r\n\r\n"
        ),
        b"POST /publish HTTP/1.1\r\nhost: here\r\n\r\n",
    ]
)  # fmt: skip
lasts = st.sampled_from(
    [
        b"",
        post(b'{"event_id":"defect","payload":1}'),
        post(EVENT, b"connection: close"),
        post(EVENT, b"connection: keep-alive, close"),
        post(EVENT, b"proxy-connection: close"),
        post(EVENT, b"content-length: 28"),
        post(EVENT, b"content-length: 27"),
        post(EVENT, b"transfer-encoding: chunked"),
        post(EVENT, b"x : y"),
        post(EVENT, b"x: y\nz: 1"),
        post(EVENT, b" folded: 1"),
        post(EVENT, b"x: \x00"),
        post(EVENT, b"x y: 1"),
        post(EVENT, b""),
        post(EVENT).replace(b"length: ", b"length: +"),
        post(EVENT).replace(b"length: ", b"length: 9999999999999999999999999"),
        post(EVENT).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(EVENT).replace(b"HTTP/1.1", b"HTTP/1.2"),
        post(EVENT).replace(b"\r\n", b"\n"),
        post(EVENT).replace(b"POST /publish", b"POST  /publish"),
        post(EVENT).replace(b"POST", b"post"),
        post(EVENT)[:-1],
        post(EVENT)[:30],
        b"nonsense",
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Requests one after another, some of them in one piece with their neighbours, and a last one by itself."""
    stream = b"".join(draw(st.lists(st.one_of(plain, plain, others), max_size=6)))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)])]
    return [piece for piece in (*pieces, draw(lasts)) if piece]


async def answered(pieces: list[bytes], *, shortened: bool) -> tuple[bytes, bool, list[Publication], list[str]]:
    scene = Connected(shortened=shortened)
    for piece in pieces:
        await scene.read(piece)
    return await scene.end()


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Errors are logged, which is not the subject here."""
    logger = logging.getLogger("uvicorn.error")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before


@settings(max_examples=300, deadline=None)
@given(conversations())
def test_the_short_way_answers_like_the_long_one(pieces: list[bytes]) -> None:
    assert asyncio.run(answered(pieces, shortened=True)) == asyncio.run(answered(pieces, shortened=False))
