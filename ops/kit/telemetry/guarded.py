"""Uvicorn's connection, with bounds on the memory and the time that a peer can cost.

httptools does not limit any part of a head, and uvicorn does not limit how long a request takes to arrive. The limits:

- A head has at most ``MAX_HEAD`` bytes and ``MAX_FIELDS`` fields (431), and must arrive within ``HEAD_SECONDS`` (408).
  The bytes between the chunks of a chunked body, and its trailers, have the same size limit.
- A body must arrive at ``LEAST_RATE`` bytes a second or faster. A peer may fall behind that rate by up to
  ``BODY_SECONDS`` (408). Time in which *we* do not read is not counted.
- The bytes of unanswered requests share one budget among all connections (503).
- Input is parsed in pieces of ``PIECE`` bytes, in turn with other connections (``pacer.py``). Parsing pauses while a
  request waits behind one that is being answered. After a refusal, at most ``LINGER_BYTES`` more are read.

Bytes are counted before the parser gets them, and the parser's own callbacks report where a head ends. So there is
only one parser, and nothing that could disagree with it about where a request begins.
"""

import asyncio
import contextlib
from collections import deque
from enum import Enum
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from unlost.ops.kit.telemetry.admission import Admission, Seating
from unlost.ops.kit.telemetry.pacer import PIECE, PacedFlow
from unlost.ops.kit.telemetry.refusal import refusal
from unlost.ops.kit.telemetry.tls import SUBJECT, subject_of

MAX_HEAD = 64 * 1024
MAX_FIELDS = 256
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
LEAST_RATE = 1024
LINGER_SECONDS = 2.0
LINGER_BYTES = 1024 * 1024
HEALTH = b"/health"


class _Refused(Exception):
    """Raised in a callback of the parser to stop the parser."""


class NextPart(Enum):
    """The part of a request that the peer must complete next."""

    HEAD = "head"
    BODY = "body"
    NOTHING = "nothing"


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._admission = admission
        self._owed = NextPart.HEAD
        self._patience = HEAD_SECONDS
        self._barren = 0
        """Bytes since the last complete head or piece of a body."""
        self._held = 0
        """Bytes that this connection counts in the budget."""
        self._came = 0
        """Bytes of a body since the last check."""
        self._refusal: tuple[int, str] | None = None
        self._is_refused = False
        self._is_reserved = False
        self._input: deque[bytes] = deque()
        """Pieces that have arrived and wait for their turn; they count in the budget."""
        self._is_paced = False  # whether this connection is in the pacer's queue
        self._lingered = 0
        """Bytes that arrived after a refusal."""
        self.subject = ""  # of the client's certificate, if it has one

    # -- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a seat."""
        super().connection_made(transport)
        self.subject = subject_of(transport.get_extra_info("peercert"))
        self.flow: PacedFlow = PacedFlow(transport, self._go_on)
        place = self._admission.enter(self)
        self._is_reserved = place is Seating.RESERVE
        if place is Seating.NONE:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the seat."""
        self._hold(0)
        self._drop_input()
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse small input at once; queue large input, to be parsed in turn with other connections."""
        if self._is_refused:
            self._lingered += len(data)
            self._await_turn()
        elif len(data) <= PIECE and not (self._input or self.pipeline):  # bytes keep their order
            self.receive(data)
        elif self._admission.hold(len(data)):
            self._input.extend(data[start : start + PIECE] for start in range(0, len(data), PIECE))
            self._await_turn()
        else:
            self.refuse(503, "too much is being received; try again later")

    def receive(self, data: bytes) -> None:
        """Give these bytes to the parser, and then check the limits."""
        if self._owed is NextPart.NOTHING:
            self._expect(NextPart.HEAD, HEAD_SECONDS)
        self._parse(data)

    def advance(self) -> bool:
        """Parse one queued piece; return whether another one could be parsed now."""
        if self._may_take:
            piece = self._input.popleft()
            self._admission.hold(-len(piece))
            self.receive(piece)
        if not self._input and self._lingered < LINGER_BYTES:
            self.flow.go_on()
        self._is_paced = self._may_take
        return self._is_paced

    @property
    def _may_take(self) -> bool:
        return bool(self._input) and not (self.flow.read_paused or self.pipeline or self.transport.is_closing())

    def _await_turn(self) -> None:
        self.flow.wait()
        if not self._is_paced:
            self._is_paced = True
            self._admission.pacer.add(self)

    def _go_on(self) -> None:
        """Continue with queued input, if nothing prevents it any more."""
        if self._may_take:
            self._await_turn()

    def _drop_input(self) -> None:
        self._admission.hold(-sum(map(len, self._input)))
        self._input.clear()

    def _parse(self, piece: bytes) -> None:
        self._barren += len(piece)
        super().data_received(piece)
        if self._is_refused:
            return
        if self._barren >= MAX_HEAD:
            self.refuse(431, f"the head of a request has {MAX_HEAD:,} bytes at most")
        elif self._owed is NextPart.HEAD and not self._hold(self._barren):
            self.refuse(503, "too much is being received; try again later")

    def drop(self) -> None:
        """Close without a response."""
        self._is_refused = True
        self.transport.abort()

    def shutdown(self) -> None:
        """Close, because the server stops."""
        if self._is_refused:
            self.transport.abort()
        else:
            super().shutdown()

    # -- the parser's callbacks -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins. Bytes before it, such as empty lines, stay counted unless another request owns them."""
        if self._owed is not NextPart.HEAD:
            self._expect(NextPart.HEAD, HEAD_SECONDS)
        super().on_message_begin()
        self.scope[SUBJECT] = self.subject  # type: ignore[literal-required]  # ASGI lets servers add keys

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field or a trailer field was parsed."""
        if len(self.headers) >= MAX_FIELDS:
            self._stop(431, f"a request has {MAX_FIELDS} header fields at most")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._hold(0)
        self._expect(NextPart.BODY, BODY_SECONDS)
        self._admission.prove(self)
        if self._is_reserved and not self.url.startswith(HEALTH):
            self._stop(503, "all connections are in use; try again later")
        super().on_headers_complete()
        if self._is_reserved:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of a body was parsed."""
        self._barren = 0
        self._came += len(body)
        if not self.cycle.response_complete and not self._hold(self._held + len(body)):
            self._stop(503, "too much is being received; try again later")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._owed = NextPart.NOTHING
        self._barren = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is complete."""
        if self._held and (self.cycle is None or self.cycle.response_complete):
            self._hold(0)
        super().on_response_complete()
        self._go_on()

    def _expect(self, owed: NextPart, seconds: float) -> None:
        self._owed = owed
        self._patience = seconds
        self._barren = self._came = 0

    def _hold(self, size: int) -> bool:
        fits = self._admission.hold(size - self._held)
        if fits:
            self._held = size
        return fits

    def _stop(self, status: int, why: str) -> None:
        self._refusal = status, why
        raise _Refused

    # -- refusals ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Once a second: refuse a peer that has kept us waiting for too long."""
        if self._is_refused:
            self._patience -= 1
            if self._patience <= 0:
                self.transport.abort()
            return
        if self._owed is NextPart.NOTHING or not self.flow.reads:
            return
        came, self._came = self._came, 0
        self._patience = min(self._patience - 1 + came / LEAST_RATE, BODY_SECONDS)
        if self._patience <= 0:
            self.refuse(408, f"the {self._owed.value} of the request did not arrive in time")

    def send_400_response(self, msg: str) -> None:
        """Uvicorn calls this when the parser has stopped, by an error of its own or at one of our limits."""
        self.refuse(*(self._refusal or (400, msg)))

    def refuse(self, status: int, why: str) -> None:
        """Send an error response, if it is this request's turn to be answered, and accept no more input."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._may_answer:
            self.transport.write(refusal(status, why, self.server_state.default_headers))
        self._is_refused = True
        self._hold(0)
        self._drop_input()
        self._give_up()
        self._linger()

    @property
    def _may_answer(self) -> bool:
        # Responses are sent in the order of requests: ours must not overtake the response to an earlier request.
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return self._owed is NextPart.BODY and not (self.pipeline or cycle.response_started)

    def _give_up(self) -> None:
        """Make the application see that its client has disconnected."""
        self.pipeline.clear()
        self._unset_keepalive_if_required()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _linger(self) -> None:
        """Keep reading for a while before closing.

        If we closed while bytes still arrive, TCP would reset the connection, and the peer might never read our
        response (RFC 9112, section 9.6).
        """
        self._patience = LINGER_SECONDS
        self.flow.resume_reading()
        with contextlib.suppress(OSError, RuntimeError):  # the peer may have gone by now
            self.transport.write_eof()
