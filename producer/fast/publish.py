"""The fast path: plain requests to publish one event are parsed and answered here. All others go to uvicorn.

This class stands in front of uvicorn's own protocol on each connection. A request is *plain* if it is an HTTP/1.1 POST
to ``PATH`` with a small body. Its head contains nothing that matters to us except the length of the body and, if one is
needed, a token that may publish. While no other request is in progress on its connection, a plain request is
read from the received bytes, and answered in one write. Anything else (other paths, chunks, upgrades, foreign pages,
errors) goes to uvicorn byte for byte, and so does everything after it until it is answered. A plain request is
certainly valid HTTP, so no error is reported here.

Answers keep the order of requests. One event per connection is in progress at a time. If a client does not read its
answers, its requests are not read either. On shutdown, a request in progress is answered, then the connection closes.
"""

import asyncio
import re
from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from unlost.ops.kit.access.gate import UNLIMITED, Gate
from unlost.ops.kit.access.limits import Quota
from unlost.ops.kit.access.request import bearer_of
from unlost.ops.kit.telemetry.admission import Admission
from unlost.ops.kit.telemetry.guarded import BODY_SECONDS, GuardedProtocol, NextPart
from unlost.producer.publish.single import RETRY, UNAVAILABLE, PublishOne

PATH = "/publish"
LONGEST_HEAD = 4 * 1024
LONGEST_BODY = 64 * 1024
MOST_HEADS = 256
HEAD_ENDS = b"\r\n\r\n"

PLAIN = re.compile(rb"POST %b HTTP/1\.1(?:\r\n[!#$%%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e]*)*" % PATH.encode())
LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,6})(?=\r|$)", re.IGNORECASE)
MEANS_MORE = re.compile(
    rb"\r\n(?:connection:(?! ?keep-alive(?:\r|$))"
    rb"|(?:proxy-connection|transfer-encoding|upgrade|expect|origin|webhook-signature):)",
    re.IGNORECASE,
)
"""Headers with a meaning for HTTP or for the gate (``ops/kit/access``), except those that are read here."""

_called_length = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_host = re.compile(rb"\r\nhost:[\t ]*([^\r]*)", re.IGNORECASE)
_authorization = re.compile(rb"\r\nauthorization:[\t ]*([^\r]*)", re.IGNORECASE)


class Plain(NamedTuple):
    """A plain head: the length of the body, and what its identity may still publish."""

    length: int
    quota: Quota


class PlainHeads:
    """Finds plain heads that may publish. Most heads were seen before, so they are cached.

    A refused head is never plain: uvicorn reads it, and the middleware refuses it, counts it and logs it. A change of
    the tokens empties the cache.
    """

    def __init__(self, *, max_bytes: int, gate: Gate | None = None) -> None:
        self._longest = min(LONGEST_BODY, max_bytes)
        self._gate = gate
        self._generation = 0
        self._known: dict[tuple[bytes, str], Plain | None] = {}

    def plain(self, head: bytes, subject: str = "") -> Plain | None:
        """None if the head is not plain. ``head`` comes without its final line ends.

        ``subject``: of the client's certificate.
        """
        gate = self._gate
        if gate is not None and gate.generation != self._generation:
            self._generation = gate.generation
            self._known.clear()
        try:
            return self._known[head, subject]
        except KeyError:
            if len(self._known) >= MOST_HEADS:
                self._known.clear()
            length = _body_length(head, self._longest)
            quota = None if length is None else _quota(head, subject, gate)
            found = None if length is None or quota is None else Plain(length, quota)
            self._known[head, subject] = found
            return found


def _quota(head: bytes, subject: str, gate: Gate | None) -> Quota | None:
    """The quota of an identity that may publish; None if the gate would not let this head pass."""
    if gate is None:
        return UNLIMITED
    hosts, given = _host.findall(head), _authorization.findall(head)
    if len(hosts) > 1 or len(given) > 1 or not all(gate.knows_host(one.decode("ascii").strip()) for one in hosts):
        return None
    identity = gate.identify(bearer_of(given[0].decode("ascii")) if given else "", subject)
    return gate.quota_of(identity) if identity is not None and identity.may("publish") else None


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
        heads: PlainHeads,
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
        """Take all complete plain requests one after another, until one must be awaited."""
        while self._rest and not (self._waits or self.flow.write_paused or self.transport.is_closing()):
            head_size = self._rest.find(HEAD_ENDS, 0, LONGEST_HEAD)
            plain = self._heads.plain(self._rest[:head_size], self.subject) if head_size > 0 else None
            if plain is None or (plain.quota.is_limited and plain.quota.wait(self.loop.time()) > 0):
                self._pass_on()  # the gate refuses it, if it is to be refused
                return
            size = plain.length
            start = head_size + len(HEAD_ENDS)
            body = self._rest[start : start + size]
            if len(body) < size:
                self._await_body()
                return
            self._rest = self._rest[start + size :]
            if self._owed is not NextPart.NOTHING:
                self._is_whole()
            self._publish(body, plain.quota)

    def _await_body(self) -> None:
        """Wait for the rest of a body, under the same limits as for a body that uvicorn reads."""
        self.flow.resume_reading()
        if self._owed is not NextPart.BODY:
            self._expect(NextPart.BODY, BODY_SECONDS)
        self._came += len(self._rest) - self._held
        if not self._hold(len(self._rest)):
            self.refuse(503, "too much is being received; try again later")

    def _is_whole(self) -> None:
        self._hold(0)
        self._owed = NextPart.NOTHING
        self._admission.prove(self)

    def _pass_on(self) -> None:
        rest, self._rest = self._rest, b""
        self.flow.resume_reading()
        super().receive(rest)

    def _publish(self, body: bytes, quota: Quota) -> None:
        self._waits = True
        try:
            self._single.take(body, b"", quota, self._reply, self._fail)
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
            self.flow.pause_reading()  # otherwise each answer would admit more bytes than it took
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
