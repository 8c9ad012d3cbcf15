"""Paths that lead out of a folder, and requests whose length two readers could understand in two ways."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.consoles import running_console, token_of
from tests.support.raw_http import answer_to, statuses

pytestmark = pytest.mark.timeout(180)  # servers are started
UP = (
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fapp.py",
    "/static/..\\app.py", "/static/..%5capp.py", "/static/%252e%252e/app.py", "/static/..;/app.py",
    "/static/./../app.py", "/static//app.py",
    "/static//etc/passwd", "/static/%2fetc/passwd", "/static/../../../../../../../../etc/passwd",
    "/static/console.js%00.py", "/static/console.js/../../app.py", "//static/../app.py", "/static/..%c0%afapp.py",
    "http://127.0.0.1/static/../app.py",
)  # fmt: skip
INSIDE = (b"Starlette", b"root:x:", b"import ")
EVENT = b'{"event_id": "framed", "payload": {}}'
LENGTH = b"content-length: %d" % len(EVENT)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
FRAMINGS = (
    ([LENGTH, b"transfer-encoding: chunked"], CHUNKS), ([b"transfer-encoding: chunked", LENGTH], CHUNKS),
    ([LENGTH, b"content-length: 1"], EVENT), ([b"content-length: 1", LENGTH], EVENT),
    ([b"content-length: +%d" % len(EVENT)], EVENT), ([b"content-length: 0x%x" % len(EVENT)], EVENT),
    ([b"content-length: -1"], EVENT), ([b"content-length: 1_0"], EVENT), ([b"content-length: "], EVENT),
    ([b"content-length : %d" % len(EVENT)], EVENT), ([b"transfer-encoding: xchunked"], CHUNKS),
    ([b"transfer-encoding : chunked"], CHUNKS), ([b"transfer-encoding: chunked, identity"], CHUNKS),
    ([b"transfer-encoding:\x0bchunked"], CHUNKS), ([b"x: y\rtransfer-encoding: chunked"], CHUNKS),
    ([LENGTH, b" folded"], EVENT), ([b"transfer-encoding: chunked"], b"-1\r\n" + EVENT),
    ([b"transfer-encoding: chunked"], b"ffffffffffffffffff\r\n" + EVENT),
)  # fmt: skip


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes]]:
    """The address of a console, and a token with all rights but that to payloads."""
    directory = tmp_path_factory.mktemp("console")
    token = token_of(directory / "tokens.jsonl", "ana", "admin")
    with running_console(directory, None) as one:
        yield one.url, token.encode()


async def test_no_path_leads_out_of_the_folder_of_the_page(console: tuple[str, bytes]):
    url, token = console
    head = b"GET %b HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\nconnection: close\r\n\r\n"
    assert statuses(await answer_to(url, head % (b"/static/console.js", token))) == [200]
    for path in UP:
        answer = await answer_to(url, head % (path.encode(), token))
        assert statuses(answer) in ([400], [404], [421]), path
        assert not [one for one in INSIDE if one in answer], path


def a_request(tokens: Tokens, lines: list[bytes], body: bytes) -> bytes:
    head = [b"POST /publish HTTP/1.1", b"host: 127.0.0.1", b"authorization: Bearer " + tokens.of["shop"].encode()]
    return b"\r\n".join([*head, *lines]) + b"\r\n\r\n" + body


async def test_a_request_of_one_length_is_read_however_it_is_given(guarded: RunningProducer, tokens: Tokens):
    closing = b"connection: close"
    found = []
    for lines, body in (([LENGTH, closing], EVENT), ([b"transfer-encoding: chunked", closing], CHUNKS)):
        sent = a_request(tokens, lines, body.replace(b"framed", b"in-one"))
        found += statuses(await answer_to(guarded.url, sent))
    assert found == [202, 409], "the second is the same event"


@pytest.mark.parametrize(("lines", "body"), FRAMINGS, ids=lambda one: repr(one)[:40])
async def test_a_request_of_two_lengths_is_refused(
    guarded: RunningProducer, tokens: Tokens, lines: list[bytes], body: bytes
):
    answer = await answer_to(guarded.url, a_request(tokens, lines, body), patience=0.5)
    assert all(400 <= one < 500 for one in statuses(answer)), answer
    found = guarded.http.get("/api/journal", params={"event_id": "framed"}, headers=tokens.bearer("reader"))
    assert found.text == ""
