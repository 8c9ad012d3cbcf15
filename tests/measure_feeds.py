"""``python -m tests.measure_feeds cost``: what a profile costs over our own envelope, for each event.

``python -m tests.measure_feeds missed``: how many events of a feed that does not resume are missed through planned
disconnects: by one listener, by two, and by two that move to a new connection before the old one ends.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.support.feeds.feed import StandIn, running
from tests.support.feeds.markets import CoinbaseExchange
from tests.support.listeners import RunningListener, rows_of, running_listener
from tests.support.servers import running_postgres, running_valkey
from unlost.listener.core.facts import SourceGap
from unlost.listener.pipeline.frames import read_frames
from unlost.listener.source.feed.described import ProfileFeed
from unlost.listener.source.feed.loading import parse, text_of
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.stream.envelope import split
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.listener.source.websocket.link import linked
from unlost.ops.kit.command.daemon import COLLECT_EVERY

BATCH, BATCHES, ROUNDS = 256, 100, 15
LARGEST = 1024 * 1024


def main() -> None:
    """Measure, and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "missed"])
    parser.add_argument("--seconds", type=float, default=40.0, help="how long each case runs")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds after which the feed ends a connection")
    given = parser.parse_args()
    if given.what == "cost":
        cost()
    else:
        asyncio.run(missed(given.seconds, given.rate, given.every))


# -- cost -----------------------------------------------------------------------------------------


def cost() -> None:
    """Print what reading one event costs, as a feed's message and in our envelope, in alternating rounds."""
    gc.set_threshold(*COLLECT_EVERY)
    trades = CoinbaseExchange()
    payloads = [json.dumps(trades.trade(number)).encode() for number in range(BATCH * BATCHES)]
    ours = [
        b'{"event_id":"BTC-USD:%d","type":"match","payload":%b,"cursor":"abcdef0123%010d"}'
        % (1000 + number, one, number)
        for number, one in enumerate(payloads)
    ]
    figures: dict[str, list[float]] = {"own envelope": [], "profile": []}
    for _ in range(ROUNDS):
        figures["own envelope"].append(asyncio.run(_read_ours(ours)))
        figures["profile"].append(asyncio.run(_read_feed(payloads)))
    for name, values in figures.items():
        print(f"{name:<16}{statistics.median(values):6.2f} µs an event ({min(values):.2f} to {max(values):.2f})")
    over = [profile - own for profile, own in zip(figures["profile"], figures["own envelope"], strict=True)]
    print(f"{'a profile more':<16}{statistics.median(over):6.2f} µs an event; the bar is 4")


class Delivering:
    """A connection that has received all messages, and returns a batch at each call."""

    response = None
    received = 0

    class transport:  # noqa: N801  only its method is used
        abort = staticmethod(lambda: None)

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages = messages
        self._at = 0

    async def take(self, most: int, size: int) -> Sequence[bytes]:
        await asyncio.sleep(0)
        some = self._messages[self._at : self._at + BATCH]
        self._at += BATCH
        if not some:
            await asyncio.Event().wait()
        return some

    async def take_rest(self, most: int, size: int) -> Sequence[bytes]:
        return ()

    async def send(self, message: str) -> None: ...


def delivers(messages: Sequence[bytes]) -> Any:
    @contextlib.asynccontextmanager
    async def opened(url: str, options: WebSocketOptions) -> AsyncIterator[Delivering]:
        yield Delivering(messages)

    return opened


async def _read_ours(frames: Sequence[bytes]) -> float:
    async with linked(delivers(frames), "", WebSocketOptions()) as link:

        async def take() -> Sequence[bytes]:
            return split(await link.take(BATCH, LARGEST), ours=True).bodies  # type: ignore[arg-type]

        return await _microseconds(take, len(frames))


async def _read_feed(messages: Sequence[bytes]) -> float:
    profile = text_of("coinbase-exchange").replace(', wait = { type = "subscriptions" }', "")
    feed = ProfileFeed(parse(profile, "coinbase-exchange", {}))
    source = FeedSource("feed", feed, declare=lambda *_, **__: None, open_connection=delivers(messages))

    async def cursor() -> None:
        return None

    async with source.open(cursor) as session:

        async def take() -> Sequence[bytes]:
            return (await session.take(BATCH, LARGEST)).bodies

        return await _microseconds(take, len(messages))


async def _microseconds(take: Callable[[], Awaitable[Sequence[bytes]]], messages: int) -> float:
    """Take all messages, read each as an event, and return what one costs of the processor's time."""
    began, count = time.thread_time(), 0
    while count < messages:
        count += len(read_frames(await take(), max_bytes=LARGEST))
    return (time.thread_time() - began) / count * 1e6


# -- missed ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """``apart``: whether the listeners' connections end at different times."""

    name: str
    listeners: int
    again: bool = False
    apart: bool = True


CASES = (
    Case("one listener", 1),
    Case("one, asked to move before", 1, again=True),
    Case("two listeners, ended by turns", 2),
    Case("two listeners, ended together", 2, apart=False),
    Case("two, asked to move before, by turns", 2, again=True),
    Case("two, asked to move before, together", 2, again=True, apart=False),
)
WARNED_BEFORE = 1.0
"""Seconds between the message that asks for a new connection and the end of the old one."""


class Scheduled(StandIn):
    """Ends each connection on schedule, by wall-clock turns, and says so before if it is such a feed."""

    source = "scheduled"

    def __init__(self, case: Case, every: float) -> None:
        super().__init__()
        self.case = case
        self.every = every
        self.ended = 0
        self._began = time.monotonic()
        self._seats: dict[int, int] = {}

    def message(self, number: int, client: ServerConnection) -> str:
        return json.dumps({"id": self.event_id(number), "price": "1.50"})

    def event_id(self, number: int) -> str:
        return f"{CASES.index(self.case)}:{number:07d}"

    async def talk(self, client: ServerConnection) -> None:
        await self.subscribe(client)
        name = int(client.request.path.rpartition("/")[2])
        turn = self.every * name / self.case.listeners if self.case.apart else 0.0
        since = (time.monotonic() - self._began - turn) % self.every
        left = self.every - since + (self.every if self.every - since < self.every / 2 else 0.0)
        await asyncio.sleep(left - WARNED_BEFORE)
        if self.case.again:
            await client.send('{"again":true}')
        await asyncio.sleep(WARNED_BEFORE)
        if client in self.subscribed:
            self.ended += 1
            await client.close(1001, "planned")


async def missed(seconds: float, rate: float, every: float) -> None:
    """Run each case, and print how many events were in no row."""
    with running_postgres() as postgres, running_valkey() as valkey, tempfile.TemporaryDirectory() as directory:
        print(f"{rate:g} events/s for {seconds:g} s, a connection is ended after {every:g} s or a little more")
        for case in CASES:
            servers = {"database_url": postgres.url, "redis_url": valkey.url, "directory": Path(directory)}
            async with listeners_of(case, every, servers) as (feed, running_ones):
                await _publish(feed, seconds, rate)
                await _settled(running_ones)
                gaps = sum(len(one.heard.of(SourceGap)) for one in running_ones)
            rows = [row for row in await rows_of(postgres.url) if row["event_id"].startswith(feed.event_id(0)[:2])]
            lost = feed.published - len(rows)
            print(
                f"{case.name:<38}{feed.connections:4} connections, {feed.published:6,} events, {lost:5,} missed "
                f"({100 * lost / feed.published:.2f} %), {gaps} gaps declared",
                flush=True,
            )


@contextlib.asynccontextmanager
async def listeners_of(
    case: Case, every: float, servers: dict[str, Any]
) -> AsyncIterator[tuple[Scheduled, list[RunningListener]]]:
    """Serve the feed of one case, and run its listeners, with the product's own delays between connections."""
    async with contextlib.AsyncExitStack() as stack:
        feed = Scheduled(case, every)
        await stack.enter_async_context(running(feed))
        listeners = []
        for seat in range(case.listeners):
            profile = servers["directory"] / f"case{CASES.index(case)}-{seat}.toml"
            profile.write_text(
                f'url = "{feed.url}/{seat}"\nkeep = {{ id = "*" }}\nid = "id"\nagain = {{ again = true }}\n'
            )
            made = running_listener(
                ws_url="ws://127.0.0.1:9/",
                source=str(profile),
                instance_id=f"{seat}",
                reconnect_first="1",
                log_level="error",
                **servers,
            )
            listeners.append(await stack.enter_async_context(made))
        await feed.until(case.listeners, case.listeners)
        yield feed, listeners


async def _publish(feed: Scheduled, seconds: float, rate: float) -> None:
    began, due = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        with contextlib.suppress(ConnectionClosed):
            await feed.publish(int(now * rate) - due)
        due = int(now * rate)
        await asyncio.sleep(0.005)


async def _settled(listeners: Sequence[RunningListener]) -> None:
    """Wait until nothing is in memory, once what was sent has arrived."""
    await asyncio.sleep(2.0)
    while any(one.health["in_memory"] for one in listeners):  # noqa: ASYNC110  nothing announces it
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
