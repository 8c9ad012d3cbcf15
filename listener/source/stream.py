"""One connection to the source, whose messages are cut out of what the network brings, many at a time.

Owns where frames begin and end. Nearly all are whole messages, and become one without passing through the library
``websockets``, which would spend more on each than reading it costs. All else is the library's: the handshake, pings,
fragments, closing, and the refusal of what breaks the protocol or is too large; it is given just those frames' bytes.
Reading from the network pauses while enough waits.
"""

import asyncio
from collections import deque
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State

WHOLE = (0x81, 0x82)
"""How a frame begins that is a whole message: its last fragment too, text or bytes, no extension."""
ENOUGH_BYTES = 1024 * 1024


class Stream(ClientConnection):
    """See the module's head. Messages come from ``take``, not from ``recv``."""

    def __init__(self, protocol: ClientProtocol, *, largest: int, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._largest = largest
        self._uncut: list[bytes] = []
        self._missing = 0
        self._fragments = bytearray()
        self._within_fragments = False
        self._messages: deque[bytes] = deque()
        self._held = 0
        self._pausing = False
        self._waiter: asyncio.Future[None] | None = None

    async def take(self, most: int, size: int) -> list[bytes]:
        """Up to ``most`` messages of about ``size`` bytes together, at least one. ``ConnectionClosed`` at the end."""
        while not self._messages:
            if self.protocol.state is State.CLOSED:
                await self.recv()  # it has no message: it knows how the connection ended, and raises that
            self._waiter = self.loop.create_future()
            await self._waiter
        if len(self._messages) <= most and self._held <= size:
            taken = list(self._messages)
            self._messages.clear()
            self._held = 0
        else:
            taken = self._some(most, size)
        if self._pausing and self._held < ENOUGH_BYTES // 2:
            self._pausing = False
            self.transport.resume_reading()
        return taken

    def _some(self, most: int, size: int) -> list[bytes]:
        taken: list[bytes] = []
        until = self._held - size
        while self._messages and not (taken and (len(taken) >= most or self._held <= until)):
            taken.append(self._messages.popleft())
            self._held -= len(taken[-1])
        return taken

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what the network brings ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        while data and self.protocol.state is State.CONNECTING:
            # Line by line, so that no frame is in the library's hands when the handshake ends.
            end = data.find(b"\n") + 1 or len(data)
            super().data_received(data[:end])
            data = data[end:]
        if self.protocol.state is not State.OPEN:
            super().data_received(data)
            return
        self._uncut.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            data = b"".join(self._uncut)
            left = self._cut(data)
            self._uncut = [left] if left else []
            self._tell()
            if self._held >= ENOUGH_BYTES and not self._pausing:
                self._pausing = True
                self.transport.pause_reading()

    def _cut(self, data: bytes) -> bytes:
        """Take all whole frames; what is left of the data, of whose frame so many bytes are ``_missing``."""
        at, size = 0, len(data)
        while True:
            start = at + 2
            if start <= size and (length := data[at + 1]) > 125:
                if length > 127:  # masked, which no server may do
                    length = self._largest + 1
                else:
                    start += 2 if length == 126 else 8
                    length = int.from_bytes(data[at + 2 : start], "big")
            if start > size:
                self._missing = start - size
                return data[at:]
            stop = start + length
            if stop > size and length <= self._largest:
                self._missing = stop - size
                return data[at:]
            if length <= self._largest and data[at] in WHOLE and not self._within_fragments:
                self._messages.append(data[start:stop])
                self._held += length
            else:
                super().data_received(data[at:stop])
                if self.protocol.state is not State.OPEN:
                    super().data_received(data[stop:])
                    return b""
            at = stop

    def process_event(self, event: Event) -> None:
        """See ``websockets``: what the library made of the frames that it was given."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._fragments += event.data
            self._within_fragments = not event.fin
            if event.fin:
                self._messages.append(bytes(self._fragments))
                self._held += len(self._fragments)
                self._fragments.clear()
        else:
            super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_lost(exc)
        self._tell()
