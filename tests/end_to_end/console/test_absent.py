"""The overview of a system whose parts hang, drip or talk nonsense: it comes soon, and describes each part."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from unlost.ops.watch.query import FRESH, PATIENCE, STRANGE, Watch
from unlost.ops.watch.targets import WatchTargets

HEALTH = b'{"instance": "%s", "ready": true, "cursor": "j.5", "checks": {"source": true}}'
METRICS = b"# TYPE unlost_oldest_unsettled_seconds gauge\nunlost_oldest_unsettled_seconds 0.0\n"


@asynccontextmanager
async def answering(pages: dict[str, bytes]) -> AsyncIterator[str]:
    """A server with these pages. Other pages are never answered. A page that ends in dots is sent without end."""

    serving: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving[asyncio.current_task()] = writer
        request = await reader.readuntil(b"\r\n\r\n")
        page = pages.get(request.split(b" ")[1].decode())
        if page is None:
            await reader.read()
        elif page.endswith(b"..."):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not reader.at_eof():
                writer.write(b".")
                await asyncio.sleep(0.05)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task, writer in serving.items():
            assert task
            task.cancel()
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in serving.values()), return_exceptions=True)


async def test_a_look_waits_for_nobody():
    async with AsyncExitStack() as stack:
        silent, dripping, unmeasured, foreign, odd, well = [
            await stack.enter_async_context(answering(pages))
            for pages in (
                {},
                {"/health": b"...", "/metrics": METRICS},
                {"/health": HEALTH % b"c"},
                {"/health": b"<html>", "/metrics": b"<html>"},
                {"/health": b'{"instance": "e", "since": {"redis": "yesterday"}}', "/metrics": METRICS},
                {"/health": HEALTH % b"f", "/metrics": METRICS},
            )
        ]
        watch = Watch(WatchTargets((silent, dripping, unmeasured, foreign, odd, well), silent, (), "unlost"), None)
        stack.push_async_callback(watch.close)
        started = time.monotonic()
        picture, judged = await watch.look()
        assert time.monotonic() - started < 4 * PATIENCE
        assert [one.unmeasured for one in picture.listeners] == [""] * 6, "one failure is no trouble yet"
        await asyncio.sleep(FRESH)
        picture, judged = await watch.look()
    late = f"no answer within {PATIENCE:g} s"
    assert [one.error for one in picture.listeners] == [late, late, "", STRANGE, STRANGE, ""]
    assert [one.unmeasured for one in picture.listeners] == ["", "", late, "", "", ""]
    assert picture.producer is not None
    assert picture.producer.error == late
    shown = " ".join(one.what for one in judged.problems)
    assert f"The figures of listener c cannot be read ({late})" in shown
    assert f"do not answer ({late})" in shown
