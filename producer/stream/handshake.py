"""A stream connection with limits on its handshake.

websockets limits the number and length of header lines, which still allows a head of one mebibyte, and the duration of
a handshake. It does not limit how many connections are in the middle of a handshake. Here the oldest of those is
dropped to admit a new one.
"""

import asyncio
import http
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import TooManyHeaders

from unlost.ops.kit.telemetry.admission import Admission, Seating
from unlost.ops.kit.telemetry.guarded import LINGER_SECONDS, MAX_HEAD
from unlost.ops.kit.telemetry.handshakes import Handshakes


class BoundedConnection(ServerConnection):
    """One client."""

    def __init__(self, *args: Any, admission: Admission, tls: Handshakes | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._tls = tls
        self._admission = admission
        self._head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a seat, or drop the connection if there is none. With TLS, that follows the handshake of TLS."""
        if self._tls is not None:
            tls, self._tls = self._tls, None
            tls.begin(transport, lambda: self)
            return
        super().connection_made(transport)
        if self._admission.enter(self) is Seating.NONE:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the seat."""
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes until the head is complete."""
        if self.request is not None:
            super().data_received(data)
            return
        self._head += len(data)
        if self._head > MAX_HEAD:
            self._refuse()
        else:
            super().data_received(data)
        if self.request is not None:
            self._admission.prove(self)
        elif self.protocol.handshake_exc is not None:
            self._linger()

    def _refuse(self) -> None:
        self.protocol.handshake_exc = TooManyHeaders(f"the head has more than {MAX_HEAD:,} bytes")
        status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.protocol.send_response(
            self.protocol.reject(status, f"the head of a request has {MAX_HEAD:,} bytes at most\n")
        )
        self.send_data()

    def _linger(self) -> None:
        """Stop reading, and give the client some time to read the refusal."""
        self.transport.pause_reading()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def drop(self) -> None:
        """Close without an answer."""
        self.transport.abort()

    def check(self) -> None:
        """Does nothing: websockets itself ends a handshake that takes too long."""
