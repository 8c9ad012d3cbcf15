"""Whatever a source answers to the handshake, a reader goes on: it reads, or it says why not and tries again."""

import asyncio
import base64
import hashlib
import math
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.reading import reading
from unlost.listener.core.facts import SourceConnected, SourceLost

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", "{accept}"))

lines = st.text(st.characters(max_codepoint=0x17F, exclude_characters="\r\n"), max_size=30)
names = st.sampled_from([
    "unlost-oldest", "unlost-cursor", "unlost-gap", "unlost-max-event", "Retry-After", "Location", "Upgrade",
    "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Content-Length",
    "Transfer-Encoding", "Set-Cookie",
])  # fmt: skip
values = lines | st.sampled_from([
    "", "nan", "inf", "-1", "1e9", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "j.1", "j.", "ws://[", "http://[::1", "//",
    "ws://127.0.0.1:99999/", "ws://user:secret@127.0.0.1:1/", "gopher://x", "javascript:alert(1)", "permessage-deflate",
    "chat", "websocket", "Upgrade", "{accept}", "chunked", "12",
])  # fmt: skip
headers = st.lists(st.tuples(names, values), max_size=6).map(tuple)
statuses = st.sampled_from([101, 101, 101, 200, 300, 301, 302, 307, 308, 401, 403, 404, 429, 500, 503, 999])


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    status = draw(statuses)
    said = (*(UPGRADE if status == 101 and draw(st.booleans()) else ()), *draw(headers))
    head = "".join(f"{name}: {value}\r\n" for name, value in said)
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode("utf-8", "replace") + draw(st.binary(max_size=20))


def answer(status: int, *said: tuple[str, str]) -> bytes:
    return (
        f"HTTP/1.1 {status} So\r\n{''.join(f'{name}: {value}{chr(13)}{chr(10)}' for name, value in said)}\r\n".encode()
    )


@settings(max_examples=150, deadline=None)
@given(handshakes())
@example(answer(302, ("Location", "http://[")))
@example(answer(302, ("Location", "ws://127.0.0.1:99999/")))
@example(answer(302, ("Location", "/a"), ("Location", "/b")))
@example(answer(503, ("Retry-After", "1"), ("Retry-After", "2")))
@example(answer(429, ("Retry-After", "nan")))
@example(answer(101, *UPGRADE, ("unlost-cursor", "j.1"), ("unlost-cursor", "j.2"), ("unlost-oldest", "j.0")))
@example(answer(101, *UPGRADE, ("Sec-WebSocket-Accept", "{accept}")))
def test_no_handshake_ends_a_reader(said: bytes) -> None:
    async def meet() -> None:
        async def serve(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
            try:
                request = await incoming.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:  # the reader ended while it connected again
                outgoing.close()
                return
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
            accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + MAGIC).digest())
            outgoing.write(said.replace(b"{accept}", accept))
            outgoing.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, reading(f"ws://127.0.0.1:{port}/", open_timeout=1.0) as one:
            await one.until(lambda r: bool(r.of(SourceLost)))
            loss = one.of(SourceLost)[0]
            assert loss.why
            assert loss.why.isprintable()
            assert "secret" not in loss.why
            assert math.isfinite(loss.delay)
            assert 0 <= loss.delay <= 600
            assert len(one.of(SourceConnected)) <= 1

    asyncio.run(meet())
