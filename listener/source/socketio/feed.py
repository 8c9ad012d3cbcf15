"""A namespace of a Socket.IO server (protocol 5, Engine.IO 4), over WebSocket.

The connection is ours: its limits, backpressure, TLS and pauses are those of any feed. An event that asks for an
acknowledgement gets it once it is a row or a letter. A server with connection state recovery sends what a lost
connection has missed, as long as this process lives; then no gap is declared.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from unlost.listener.core.errors import Transient
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Feed,
    FeedEvent,
    FeedStopped,
    Missed,
    NewConnection,
    Opening,
    Receipt,
    Refused,
    Send,
    Stop,
)
from unlost.listener.source.feed.profile import SHA256
from unlost.listener.source.feed.slots import Slots, word
from unlost.listener.source.feed.templates import MissingValue
from unlost.listener.source.feed.variables import Variables
from unlost.listener.source.socketio import packets
from unlost.listener.source.socketio.address import SocketIOAddress
from unlost.listener.source.socketio.packets import (
    BadPacket,
    Packet,
    ack_packet,
    arguments_of,
    connect_packet,
    namespace_of,
    read_packet,
)

OPEN, CLOSE, PING, MESSAGE = b"0", b"1", b"2", b"4"
"""Kinds of Engine.IO's packets."""
BINARY = b"b"
"""Stands before a binary message, as in Engine.IO's own form for texts."""
EVENTS = (packets.EVENT, packets.BINARY_EVENT)
LONGEST_OFFSET = 256
SHOWN = 200


class _Welcome(msgspec.Struct):
    sid: str = ""
    pid: str | None = None


class _Unfinished:
    """A binary event whose attachments are still to come."""

    def __init__(self, header: bytes, packet: Packet) -> None:
        self.header = header
        self.packet = packet
        self.bytes = 0


class SocketIOFeed(Feed):
    """A ``Feed``."""

    fresh = 60.0
    trust = ("ca=FILE in its address", "")

    def __init__(self, address: SocketIOAddress, *, max_bytes: int = 1024 * 1024) -> None:
        self._address = address
        self._max_bytes = max_bytes
        slots = Slots()
        self._word = None if address.event_id == SHA256 else word(address.event_id, slots, slots)
        self._fields = slots.fields()
        self._session: str | None = None
        """The private id of the server's session, if it can be recovered."""
        self._offset: str | None = None
        """The place of the last event in it."""
        self._unfinished: _Unfinished | None = None
        self._passes_binary = False
        """Whether binary messages belong to an event that was refused already."""

    async def opening(self, after: str | None) -> Opening:
        """See ``Feed``."""
        del after
        return Opening(url=self._address.url, ca=self._address.ca, binary=BINARY)

    async def opened(self, connection: NewConnection) -> None:
        """See ``Feed``. Joins the namespace, and asks for what the last connection has missed."""
        self._unfinished, self._passes_binary = None, False
        if not (await connection.receive()).startswith(OPEN):
            raise Transient("the server did not begin as Engine.IO 4 does")
        auth = self._auth()
        if self._session is not None and self._offset is not None:
            auth |= {"pid": self._session, "offset": self._offset}
        await connection.send(connect_packet(self._address.namespace, auth))
        welcome = await self._welcome(connection)
        self.recovered = welcome.pid is not None and welcome.pid == self._session
        self._session = welcome.pid
        if not self.recovered:
            self._offset = None

    def read(self, message: bytes) -> Iterable[Action]:
        """See ``Feed``."""
        kind = message[:1]
        if kind == BINARY:
            return self._attached(message[1:])
        if kind == PING:
            return (Send(f"3{message[1:].decode(errors='replace')}"),)
        unfinished, self._unfinished = self._unfinished, None
        self._passes_binary = False
        # It was not received in full, so it is not acknowledged either.
        lost = () if unfinished is None else (Refused(unfinished.header, "the event lacks attachments"),)
        if kind == MESSAGE:
            return (*lost, *self._packet(message))
        if kind == CLOSE:
            return (*lost, Missed("the server ended the session"), Again("the server ended the session"))
        return lost

    def settled(self, receipt: Any) -> Send:
        """See ``Feed``."""
        return Send(ack_packet(self._address.namespace, receipt))

    def _auth(self) -> dict[str, Any]:
        if self._address.auth is None:
            return {}
        try:
            return msgspec.json.decode(Variables({}).fill(f"file:{self._address.auth}"), type=dict[str, Any])
        except ValueError as error:
            raise Transient(f"{self._address.auth} must hold a JSON object: {error}") from None

    async def _welcome(self, connection: NewConnection) -> _Welcome:
        """Return the server's answer for our namespace."""
        while True:
            message = await connection.receive()
            if not message.startswith(MESSAGE):
                continue
            try:
                found = read_packet(message[1:])
                if namespace_of(found) != self._address.namespace:
                    continue
                if found.packet_type == packets.CONNECT_ERROR:
                    raise FeedStopped(self._refusal(found))
                if found.packet_type == packets.CONNECT:
                    return msgspec.json.decode(found.data or b"{}", type=_Welcome)
            except (BadPacket, msgspec.DecodeError) as error:
                raise Transient(f"the server's answer for the namespace makes no sense: {error}") from None

    def _packet(self, message: bytes) -> Iterable[Action]:
        try:
            found = read_packet(message[1:])
        except BadPacket as error:
            self._passes_binary = True
            return (Refused(message, str(error)),)
        if (namespace := namespace_of(found)) != self._address.namespace:
            self._passes_binary = True
            why = f"the event is of the namespace {namespace[:SHOWN]}; SOURCE can name it, too"
            return (Refused(message, why),) if found.packet_type in EVENTS else ()
        match found.packet_type:
            case packets.EVENT:
                return self._event(message, found, found.data)
            case packets.BINARY_EVENT:
                self._unfinished = _Unfinished(message, found)
                return self._finished() if not found.attachment_count else ()
            case packets.DISCONNECT:
                return (Missed("the server disconnected us"), Again("the server disconnected us from the namespace"))
            case packets.CONNECT_ERROR:
                return (Stop(self._refusal(found)),)
            case packets.CONNECT | packets.ACK | packets.BINARY_ACK:
                self._passes_binary = True
                return ()
            case _:
                return (Refused(message, "no packet of Socket.IO: it is of no known kind"),)

    def _attached(self, data: bytes) -> Iterable[Action]:
        unfinished = self._unfinished
        if unfinished is None:
            return () if self._passes_binary else (Refused(data, "a binary message that belongs to no event"),)
        unfinished.bytes += len(data)
        if unfinished.bytes > self._max_bytes:
            self._unfinished, self._passes_binary = None, True
            return self._refused(unfinished, f"its attachments have more than {self._max_bytes:,} bytes")
        unfinished.packet.attachments.append(data)
        return () if len(unfinished.packet.attachments) < unfinished.packet.attachment_count else self._finished()

    def _finished(self) -> Iterable[Action]:
        unfinished, self._unfinished = self._unfinished, None
        assert unfinished is not None
        packet = unfinished.packet
        try:
            data = packet.reconstruct_binary(packet.data or Raw(b"null"), packet.attachments)
        except (ValueError, RecursionError) as error:
            return self._refused(unfinished, str(error))
        return self._event(unfinished.header, packet, data)

    def _refused(self, unfinished: _Unfinished, why: str) -> Sequence[Action]:
        number = unfinished.packet.id
        return (Refused(unfinished.header, why), *(() if number is None else (Receipt(number),)))

    def _event(self, message: bytes, packet: Packet, data: Raw | None) -> Sequence[Action]:
        receipts = () if packet.id is None else (Receipt(packet.id),)
        try:
            arguments = arguments_of(data)
        except BadPacket as error:
            return (Refused(message, str(error)), *receipts)
        values = arguments.values
        # Events that ask for an acknowledgement have no place in the session.
        if self._session is not None and not receipts and (offset := _offset_of(values)) is not None:
            self._offset = offset
            values.pop()
        if self._address.events and arguments.name not in self._address.events:
            return receipts
        payload = values[0] if len(values) == 1 else Raw(b"[%b]" % b",".join(map(bytes, values)))
        try:
            found = self._fields.read(values[0]) if values else ()
            event_id = None if self._word is None else self._word(found, found)
        except (MissingValue, IndexError) as error:
            why = f"the event {arguments.name[:SHOWN]} has no id: {error if values else 'it has no argument'}"
            return (Refused(message, why), *receipts)
        return (FeedEvent(event_id, payload, arguments.name), *receipts)

    def _refusal(self, found: Packet) -> str:
        said = bytes(found.data or b"")[:SHOWN].decode(errors="replace")
        return f"the server refuses the namespace {self._address.namespace}: {said}"


def _offset_of(values: Sequence[Raw]) -> str | None:
    """Return the place of an event in its session: a text after the event's own arguments."""
    if not values or not bytes(values[-1]).startswith(b'"') or len(bytes(values[-1])) > LONGEST_OFFSET:
        return None
    return str(msgspec.json.decode(values[-1], type=str))
