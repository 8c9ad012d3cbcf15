"""A link of the fault proxy that dropped bytes passes nothing afterwards, so no connection has a hole."""

import asyncio

import pytest

from tests.support.fakes import as_a
from unlost.ops.faults.toxics.link import ToxicLink
from unlost.ops.faults.toxics.toxic import Attributes, ResetPeer, Timeout, Toxic


class Written:
    """As much of a stream's writer as a link uses."""

    def __init__(self) -> None:
        self.data = b""
        self.written = asyncio.Event()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data
        self.written.set()

    async def drain(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize(
    ("kind", "attributes"), [("timeout", Timeout(0)), ("reset_peer", ResetPeer(60_000))], ids=["silence", "reset"]
)
async def test_bytes_that_arrive_as_a_swallowing_toxic_goes_do_not_pass(
    kind: str, attributes: Attributes, turns: int
) -> None:
    reader, writer = asyncio.StreamReader(), Written()
    link = ToxicLink(reader, as_a(asyncio.StreamWriter, writer), reset=lambda: None, rng=lambda: 0.0)
    running = asyncio.create_task(link.run())
    reader.feed_data(b"before ")
    await writer.written.wait()
    link.set_toxics([Toxic(kind, kind, "downstream", 1.0, attributes)])
    reader.feed_data(b"swallowed ")
    for _ in range(10):
        await asyncio.sleep(0)
    reader.feed_data(b"after")
    for _ in range(turns):
        await asyncio.sleep(0)
    link.set_toxics([])
    async with asyncio.timeout(20):
        await running
    assert (writer.data, writer.closed) == (b"before ", True)
