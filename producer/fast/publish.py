"""The fast path: plain requests to publish one event are parsed and answered here. All others go to uvicorn.

This class stands in front of uvicorn's own protocol on each connection. A request is *plain* if it is an HTTP/1.1 POST
to ``PATH`` with a small body, and its head contains nothing that matters to us except the length of the body. While no
other request is in progress on its connection, a plain request is taken from the bytes as they come, and answered in
one write. Anything else (other paths, chunks, upgrades, foreign pages, errors) goes to uvicorn byte for byte, and so
does what follows until that is answered. A plain request leaves no doubt, so no error is reported here.

Answers keep the order of requests. One event per connection is in progress at a time. If a client does not read its
answers, its requests are not read either. On shutdown, a request in progress is answered, then the connection closes.
"""

import asyncio
import re
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from unlost.ops.kit.telemetry.admission import Admission
from unlost.ops.kit.telemetry.guarded import BODY_SECONDS, GuardedProtocol, Owed
from unlost.producer.publish.single import RETRY, UNAVAILABLE, PublishOne

PATH = "/publish"
LONGEST_HEAD = 4 * 1024
LONGEST_BODY = 64 * 1024
MOST_HEADS = 256
HEAD_ENDS = b"\r\n\r\n"

PLAIN = re.compile(rb"POST %b HTTP/1\.1(?:\r\n[!#$%%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*)*" % PATH.encode())
LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,6})(?=\r|$)", re.IGNORECASE)
MEANS_MORE = re.compile(
    rb"\r\n(?:connection:(?! ?keep-alive(?:\r|$))|(?:proxy-connection|transfer-encoding|upgrade|expect|origin):)",
    re.IGNORECASE,
)
"""Headers that mean something to HTTP, or to the guard of this path (``producer/publish/origin.py``)."""

_called_length = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)


class Heads:
    """Finds the length of the body in a plain head. Most heads were seen before, so lengths are cached."""

    def __init__(self, *, max_bytes: int) -> None:
        self._longest = min(LONGEST_BODY, max_bytes)
        self._lengths: dict[bytes, int | None] = {}

    def body_length(self, head: bytes) -> int | None:
        """The length, or None if the head is not plain. ``head`` comes without its final line ends."""
        try:
            return self._lengths[head]
        except KeyError:
            if len(self._lengths) >= MOST_HEADS:
                self._lengths.clear()
            length = self._lengths[head] = _body_length(head, self._longest)
            return length


def _body_length(head: bytes, longest: int) -> int | None:
    if not PLAIN.fullmatch(head) or MEANS_MORE.search(head) or len(_called_length.findall(head)) != 1:
        return None
    found = LENGTH.search(head)
    return int(found[1]) if found and int(found[1]) <= longest else None


class FastPublishProtocol(GuardedProtocol):
    """One connection."""

    def __init__(
        self,
        single: PublishOne,
        heads: Heads,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, admission=admission)
        self._single = single
        self._heads = heads
        self._is_read = False
        """Uvicorn has begun to read a request, and has not ended."""
        self._rest = b""
        """Bytes received that belong neither to uvicorn nor to a request taken here."""
        self._waits = False
        """An event taken here is in progress."""
        self._is_last = False

    def on_message_begin(self) -> None:
        """Called by uvicorn's parser."""
        self._is_read = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Called by uvicorn's parser."""
        self._is_read = False
        super().on_message_complete()

    @property
    def _is_uvicorns(self) -> bool:
        return self._is_read or (self.cycle is not None and not self.cycle.response_complete)

    def receive(self, data: bytes) -> None:
        """Take plain requests, and pass on all others. A connection in the reserve may not publish."""
        if self._is_uvicorns or self._is_reserved:
            super().receive(data)
            return
        self._unset_keepalive_if_required()
        self._rest = self._rest + data if self._rest else data
        if self._waits or self.flow.write_paused:
            self.flow.pause_reading()
        else:
            self._take()

    def _take(self) -> None:
        """Take all plain and complete requests one after another, until one must be waited for."""
        while self._rest and not (self._waits or self.flow.write_paused or self.transport.is_closing()):
            head_size = self._rest.find(HEAD_ENDS, 0, LONGEST_HEAD)
            size = self._heads.body_length(self._rest[:head_size]) if head_size > 0 else None
            if size is None:
                self._pass_on()
                return
            start = head_size + len(HEAD_ENDS)
            body = self._rest[start : start + size]
            if len(body) < size:
                self._await_body()
                return
            self._rest = self._rest[start + size :]
            if self._owed is not Owed.NOTHING:
                self._is_whole()
            self._publish(body)

    def _await_body(self) -> None:
        """Wait for the rest of a body, under the same limits as for a body that uvicorn reads."""
        self.flow.resume_reading()
        if self._owed is not Owed.BODY:
            self._expect(Owed.BODY, BODY_SECONDS)
        self._came += len(self._rest) - self._held
        if not self._hold(len(self._rest)):
            self.refuse(503, "too much is being received; try again later")

    def _is_whole(self) -> None:
        self._hold(0)
        self._owed = Owed.NOTHING
        self._admission.prove(self)

    def _pass_on(self) -> None:
        rest, self._rest = self._rest, b""
        self.flow.resume_reading()
        super().receive(rest)

    def _publish(self, body: bytes) -> None:
        self._waits = True
        try:
            self._single.take(body, b"", self._reply, self._fail)
        except Exception as defect:  # noqa: BLE001  the border of a request: its connection ends, and no other
            self._fail(defect)

    def _reply(self, status: int, body: bytes) -> None:
        headers = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        if status == UNAVAILABLE:
            headers += b"%b: %b\r\n" % RETRY
        self._end(status, headers, body)

    def _fail(self, defect: Exception) -> None:
        """Answer as uvicorn does."""
        self.logger.error("Exception in ASGI application\n", exc_info=defect)
        self._is_last = True
        text = b"Internal Server Error"
        self._end(500, b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(text), text)

    def _end(self, status: int, headers: bytes, body: bytes) -> None:
        self._waits = False
        if not self.transport.is_closing():
            for name, value in self.server_state.default_headers:
                headers = b"%b: %b\r\n%b" % (name, value, headers)
            if self._is_last:
                headers += b"connection: close\r\n"
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], headers, body))
            if self._is_last:
                self.transport.close()
        self.on_response_complete()
        if self._rest:
            self.flow.pause_reading()  # else each answer would let more bytes in than it took
            self.loop.call_soon(self._take)

    def resume_writing(self) -> None:
        """The client reads answers again."""
        super().resume_writing()
        if self._rest:
            self.loop.call_soon(self._take)

    def shutdown(self) -> None:
        """The server stops."""
        if self._waits:
            self._is_last = True
            return
        if self._rest and not self._is_uvicorns and not self.transport.is_closing():
            self._pass_on()
        super().shutdown()
