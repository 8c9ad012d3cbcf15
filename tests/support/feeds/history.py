"""An HTTP interface that returns what a feed sent before, page by page, and that can misbehave first."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qs, urlsplit

Query = dict[str, str]


class History:
    """``page`` makes an answer from the query of a call; ``first`` holds whole HTTP answers that are sent before."""

    def __init__(self, page: Callable[[Query], object]) -> None:
        self.page = page
        self.first: deque[bytes] = deque()
        self.asked: list[Query] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one call."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length")), "0")
            self.bodies.append(await reader.readexactly(int(length)))
            self.heads.append(head)
            address = urlsplit(head.split(" ")[1])
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            self.asked.append(query)
            writer.write(self.first.popleft() if self.first else answer(self.page({**query, "path": address.path})))
            await writer.drain()
        writer.close()


def answer(body: object, status: str = "200 OK", *headers: str) -> bytes:
    """Make an HTTP answer."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "\r\n".join(
        [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, f"Content-Length: {len(text)}"]
    )
    return head.encode() + b"\r\nConnection: close\r\n\r\n" + text


@contextlib.asynccontextmanager
async def history(page: Callable[[Query], object]) -> AsyncIterator[History]:
    """Serve it."""
    serving = History(page)
    server = await asyncio.start_server(serving.talk, "127.0.0.1", 0)
    serving.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield serving
    finally:
        server.close()


def numbers(of: dict[str, int], size: int = 100) -> Callable[[Query], object]:
    """Return pages of trades: ``of`` says how many each product has. A page has ``size`` at most."""

    def page(query: Query) -> object:
        first, last = int(query.get("next") or query["first"]), int(query["last"])
        some = [number for number in range(first, last + 1) if number <= of[query["by"]]][:size]
        more = some[-1] + 1 if some and some[-1] < last else None
        return {"trades": [{"n": number, "price": "1.50"} for number in some], "next": more}

    return page


class CoinbaseTrades:
    """``GET /products/<product>/trades`` of Coinbase Exchange: the newest first, ``after`` an id the older ones."""

    most = 1000
    """A page has no more, whatever ``limit`` asks for."""

    def __init__(self, product: str) -> None:
        self.product = product
        self.newest = 0
        """The id of the last trade."""

    def __call__(self, query: Query) -> object:
        """Return a page."""
        if query["path"] != f"/products/{self.product}/trades":
            return {"message": "NotFound"}
        size = min(self.most, int(query.get("limit", "1000")))
        after = int(query.get("after") or self.newest + 1)
        return [self.trade(number) for number in range(after - 1, max(0, after - 1 - size), -1)]

    def trade(self, number: int) -> dict[str, object]:
        """Return a trade in the words of this interface."""
        return {
            "trade_id": number, "side": "sell", "size": "5.23512000", "price": "400.23000000",
            "time": "2014-11-07T08:19:27.028459Z",
        }  # fmt: skip
