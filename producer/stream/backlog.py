"""The backlog: events for clients that lag. A piece of the journal is read once for all clients near that position.

After an outage all listeners of a group come back at the same position and read the same million events.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

KEPT = 32
"""How many pieces are kept. A client further away than these causes a read of its own."""


class Backlog:
    """The pieces of the journal that were read last."""

    def __init__(self, read: Callable[[int], list[bytes]]) -> None:
        """``read`` returns some bodies after a number. It is called in a thread."""
        self._read = read
        self._pieces: OrderedDict[int, asyncio.Task[list[bytes]]] = OrderedDict()

    async def after(self, number: int) -> list[bytes]:
        """Some bodies after this number, in order, or an empty list. Raises whatever reading raises."""
        for before, piece in reversed(self._pieces.items()):
            if before <= number < before + len(_bodies(piece)):
                return _bodies(piece)[number - before :]
        piece = self._pieces.get(number) or self._begin(number)
        return await asyncio.shield(piece)  # one client's cancellation must not cancel the read for others

    def _begin(self, number: int) -> asyncio.Task[list[bytes]]:
        piece = asyncio.create_task(asyncio.to_thread(self._read, number), name="read the journal")
        piece.add_done_callback(lambda done: self._keep(number, done))
        self._pieces[number] = piece
        return piece

    def _keep(self, number: int, piece: asyncio.Task[list[bytes]]) -> None:
        if not _bodies(piece) and self._pieces.get(number) is piece:
            del self._pieces[number]
        while len(self._pieces) > KEPT:
            self._pieces.popitem(last=False)


def _bodies(piece: asyncio.Task[list[bytes]]) -> list[bytes]:
    """The bodies that were read; empty while reading, or if reading failed."""
    return [] if not piece.done() or piece.cancelled() or piece.exception() else piece.result()
