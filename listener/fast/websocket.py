"""One connection to the source. It cuts messages out of the received bytes, many at a time.

Owns where frames begin and end. Nearly all frames are whole messages and bypass the library ``websockets``, which would
spend more on each than reading it costs. The library does everything else: the handshake, pings, fragments, closing,
and refusing what breaks the protocol. It gets only the bytes of those frames.

Bounded: reading from the network pauses while enough messages wait, and an empty message counts for something too. A
message larger than any event may be is never held: it is measured as it arrives, and only the measurements are passed
on.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State

from unlost.listener.core.oversized import Measure, Oversized
from unlost.listener.source.websocket.connection import Connection, WebSocketOptions
from unlost.listener.source.websocket.messages import TracedConnection, connect_to

WHOLE = (0x81, 0x82)
"""First bytes of a frame that is a whole message: final, text or binary, no extension (RFC 6455, section 5.2)."""
LAST, CONTROL, MASKED = 0x80, 0x08, 0x80
ENOUGH_BYTES = 1024 * 1024
MESSAGE_BYTES = 64
"""Roughly the memory that one message costs beside its own bytes."""
LONGEST_FRAME = 2**63 - 1
"""The protocol allows no more. The library gets this limit and refuses what exceeds it."""
CONTROL_TOO_LONG = bytes((126, 0, 126)) + bytes(126)
"""The rest of a control frame that the library refuses as too long, whatever its real length is."""


class FastConnection(TracedConnection):
    """A connection whose messages come from ``take``, not from ``recv``."""

    def __init__(self, protocol: ClientProtocol, *, largest: int, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._largest = largest
        self._uncut: list[bytes] = []
        self._missing = 0
        self._fragments = bytearray()
        self._within_fragments = False
        self._measure: Measure | None = None
        self._begins_oversized = False
        self._passing = 0
        self._passing_last = False
        self._messages: deque[bytes | Oversized] = deque()
        self._oversized = 0
        self._held = 0
        self._pausing = False
        self._waiter: asyncio.Future[None] | None = None
        self.received = 0
        """How many bytes have arrived: a sign of life while one message takes long."""

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return up to ``most`` messages, about ``size`` bytes together, at least one. An oversized one comes alone.

        Raises ``ConnectionClosed`` at the end.
        """
        while not self._messages:
            if self.protocol.state is State.CLOSED:
                await self.recv()  # there is no message: it raises how the connection ended
            self._waiter = self.loop.create_future()
            await self._waiter
        return self.take_now(most, size)

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return messages that had arrived when the connection ended; nothing if all were taken."""
        return self.take_now(most, size)

    def take_now(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return what is here now, which may be nothing."""
        taken: Sequence[bytes] | Oversized
        if not self._oversized and len(self._messages) <= most and self._held <= size:
            taken = list(self._messages)  # type: ignore[arg-type]  # none is oversized
            self._messages.clear()
            self._held = 0
        else:
            taken = self._some(most, size)
        if self._pausing and self._held < ENOUGH_BYTES // 2:
            self._pausing = False
            self.transport.resume_reading()
        return taken

    def _some(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        taken: list[bytes] = []
        until = self._held - size
        while self._messages and not (taken and (len(taken) >= most or self._held <= until)):
            first = self._messages[0]
            if isinstance(first, Oversized):
                if taken:
                    break
                self._oversized -= 1
                self._held -= len(first.head) + MESSAGE_BYTES
                self._messages.popleft()
                return first
            taken.append(first)
            self._held -= len(first) + MESSAGE_BYTES
            self._messages.popleft()
        return taken

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- called by the event loop ---------------------------------------------------------------

    @property
    def _reads(self) -> bool:
        """Whether frames still count: after our own close frame they do, until the source's arrives."""
        protocol = self.protocol
        return protocol.state is State.OPEN or (
            protocol.state is State.CLOSING and protocol.close_rcvd is None and protocol.parser_exc is None
        )

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self.received += len(data)
        while data and self.protocol.state is State.CONNECTING:
            # Line by line, so that the library holds no frame when the handshake ends.
            end = data.find(b"\n") + 1 or len(data)
            super().data_received(data[:end])
            data = data[end:]
        if not self._reads:
            super().data_received(data)
            return
        if self._passing:
            data = data[self._pass_by(data, 0) :]
            self._tell()
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
        """Take all whole frames; return the rest, whose frame lacks ``_missing`` bytes."""
        at, size = 0, len(data)
        while True:
            start = at + 2
            # RFC 6455, section 5.2: 126 and 127 mean that the length follows in 2 or 8 bytes.
            if start <= size and (length := data[at + 1]) > 125:
                if length >= MASKED:  # a server must not mask (RFC 6455, section 5.1)
                    return self._discard(data[at:])
                start += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : start], "big")
            if start > size:
                self._missing = start - size
                return data[at:]
            stop = start + length
            if length > self._largest:
                self._begin_oversized(data[at:start], length)
                stop = start + self._pass_by(data, start)
            elif stop > size:
                self._missing = stop - size
                return data[at:]
            elif data[at] in WHOLE and not self._within_fragments:
                self._messages.append(data[start:stop])
                self._held += length + MESSAGE_BYTES
            else:
                super().data_received(data[at:stop])
            if not self._reads:
                return self._discard(data[stop:])
            at = stop

    def _discard(self, data: bytes) -> bytes:
        """Leave to the library what does not count any more, or is not allowed."""
        super().data_received(data)
        return b""

    def _begin_oversized(self, header: bytes, length: int) -> None:
        """Let the library check the frame's head as if no data followed. Then the data is measured here."""
        if header[0] & CONTROL:
            super().data_received(header[:1] + CONTROL_TOO_LONG)
            return
        if length > LONGEST_FRAME:
            super().data_received(header)
            return
        self._begins_oversized = True
        super().data_received(header[:1] + b"\0")
        self._begins_oversized = False
        if self._reads:
            self._passing, self._passing_last = length, bool(header[0] & LAST)
            self._begin_measure()

    def _begin_measure(self) -> Measure:
        if self._measure is None:
            self._measure = Measure()
            self._measure.add(self._fragments)
            self._fragments.clear()
        return self._measure

    def _pass_by(self, data: bytes, start: int) -> int:
        """Measure the bytes of the oversized frame that is arriving; return how many there were."""
        if not self._passing:
            return 0
        with memoryview(data) as view:
            piece = view[start : start + self._passing]
            self._begin_measure().add(piece)
            self._passing -= len(piece)
            if not self._passing and self._passing_last:
                self._end_message()
            return len(piece)

    def _end_message(self) -> None:
        message: bytes | Oversized
        if self._measure is None:
            message = bytes(self._fragments)
            self._held += len(message) + MESSAGE_BYTES
            self._fragments.clear()
        else:
            message = self._measure.end()
            self._measure = None
            self._oversized += 1
            self._held += len(message.head) + MESSAGE_BYTES
        self._messages.append(message)

    def process_event(self, event: Event) -> None:
        """See ``websockets``: handles the frames that the library has parsed."""
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        self._within_fragments = not event.fin
        if self._begins_oversized:
            return
        if self._measure is not None or len(self._fragments) + len(event.data) > self._largest:
            self._begin_measure().add(event.data)
        else:
            self._fragments += event.data
        if event.fin:
            self._end_message()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_lost(exc)
        self._tell()


def open_stream(url: str, options: WebSocketOptions) -> AbstractAsyncContextManager[Connection]:
    """Open one connection to this address. Messages of more than ``max_frame`` bytes are measured, not held."""
    stream = functools.partial(FastConnection, largest=options.max_frame)
    opening = connect_to(url, options, max_size=LONGEST_FRAME, connection=stream)
    return cast("AbstractAsyncContextManager[Connection]", opening)
