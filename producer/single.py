"""Publishing one: an ASGI application of its own, since nearly all requests come here and a framework's way to it would
cost them more than the work itself."""

from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp, Receive, Scope, Send

from producer.accept import STATUS, Answer, Refused, answer
from producer.batch import Told
from producer.journal.port import JournalTrouble, Publication
from producer.publisher import Overloaded, Publisher

Read = Callable[[bytes, bool], Publication]
"""Makes a publication of a body, to be delivered again or not; or raises ``Refused``."""

_encode = msgspec.json.Encoder().encode


class Single:
    """Answers a POST with what became of the event in its body."""

    def __init__(self, publisher: Publisher, told: Told, read: Read, *, max_bytes: int) -> None:
        self._publisher = publisher
        self._told = told
        self._read = read
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            body = await self._body(receive)
            if body is None:
                return
            one = self._read(body, asks_again(scope["query_string"]))
        except Refused as refused:
            told = answer(refused, refused.event_id)
        else:
            try:
                (placed,) = await self._publisher.publish([one])
            except (JournalTrouble, Overloaded) as error:
                self._told("unavailable", 1)
                told = Answer(UNSET, "unavailable", one.event_id, UNSET, str(error))
                await _send(send, 503, told, [(b"retry-after", b"1")])
                return
            told = answer(placed, one.event_id)
        self._told(told.status, 1)
        await _send(send, STATUS[told.status], told)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole of it; None where the client went away meanwhile."""
        body = bytearray()  # however small its pieces are, none is copied again with each that follows
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise Refused("too_large", f"the body has more than the {self._max_bytes:,} bytes that are allowed")
            if not message.get("more_body", False):
                return bytes(body)


class Shortcut:
    """Leads POSTs to one path past the router."""

    def __init__(self, app: ASGIApp, path: str, single: Single) -> None:
        self._app = app
        self._path = path
        self._single = single

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the one or the other."""
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST":
            await self._single(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def asks_again(query: bytes) -> bool:
    """Whether a known event shall be sent once more."""
    if not query:
        return False
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("redeliver", [""])
    return asked[-1].lower() in ("1", "true", "yes")


async def _send(send: Send, status: int, told: Answer, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = _encode(told)
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": own + (headers or [])})
    await send({"type": "http.response.body", "body": body})
