"""Requests to publish that are signed instead of carrying a token (``ops/kit/access/webhook.py``).

A request with a signature never passes as an anonymous one, also where no token is needed. Names and origins are
checked by the gate first, then the time, then the limits of the address. Only then is the body read, up to its limit,
and the signature compared. A sender is an identity with the right to publish, and has the producer's limits.

An event without an id gets that of the request. A sender that retries uses the same one, so a retry is a duplicate;
and a request that somebody records and sends again is one too.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unlost.listener.core.event import envelope
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Identity, Right
from unlost.ops.kit.access.middleware import PASSED, refused
from unlost.ops.kit.access.request import AccessRequest, Pass, Refusal
from unlost.ops.kit.access.webhook import SIGNATURE, BadSignature, claimed, identity_name, sender_of
from unlost.producer.publish.piece_buffer import PieceBuffer

RIGHTS: frozenset[Right] = frozenset({"publish"})


class Signed:
    """Verifies signed requests to one path, and passes all others on."""

    def __init__(
        self, others: ASGIApp, single: ASGIApp, path: str, gate: Gate, *, max_bytes: int,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._others = others
        self._single = single
        self._path = path
        self._gate = gate
        self._max_bytes = max_bytes
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._gate.senders is None or not self._is_signed(scope):
            await self._others(scope, receive, send)
            return
        headers = _headers(scope)
        asked = self._asked(scope, headers)
        called = self._gate.admit(asked)
        decided = called if isinstance(called, Refusal) else await self._verified(asked, headers, receive)
        if decided is None:
            return
        if isinstance(decided, Refusal):
            await refused(decided)(scope, receive, send)
            return
        passed, body = decided
        await self._single({**scope, PASSED: passed}, _replaying(body), send)

    def _is_signed(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self._path:
            return False
        return any(name == SIGNATURE.encode() for name, _ in scope["headers"])

    def _asked(self, scope: Scope, headers: Mapping[str, Sequence[str]]) -> AccessRequest:
        client = scope.get("client")
        origins = headers.get("origin", ())
        return AccessRequest(
            f"POST {self._path}, signed", client[0] if client else "", None, hosts=headers.get("host", ()),
            origin=", ".join(origins) if origins else None,
        )  # fmt: skip

    async def _verified(
        self, asked: AccessRequest, headers: Mapping[str, Sequence[str]], receive: Receive
    ) -> tuple[Pass, bytes] | Refusal | None:
        try:
            key, at, given = claimed(headers, self._now())
            if locked := self._gate.locked(asked):
                return locked
            body = await _body_within(receive, self._max_bytes)
            if body is None:
                return None
            if len(body) > self._max_bytes:
                why = f"the body has more than the {self._max_bytes:,} bytes that are allowed"
                return Refusal(413, "signature", why)
            name = sender_of(self._gate.senders or {}, key, at, given, body)
            identity = Identity(identity_name(name), RIGHTS)
        except BadSignature as error:
            return self._gate.guessed(asked, Refusal(401, "signature", str(error)))
        if refusal := self._gate.overdrawn(identity):
            self._gate.refused(asked, refusal)
            return refusal
        return Pass(identity), with_id(body, key)


def with_id(body: bytes, key: str) -> bytes:
    """The event with this id, unless it has one. Anything that is no event stays as it is, and is refused later."""
    try:
        fields = envelope.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body
    if "event_id" in fields:
        return body
    return b'{"event_id":%b%b%b' % (msgspec.json.encode(key), b"," if fields else b"", body.lstrip()[1:])


def _headers(scope: Scope) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return found


async def _body_within(receive: Receive, most: int) -> bytes | None:
    """The body, as far as it is allowed and one piece more; None if the client has gone."""
    body = PieceBuffer()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body.add(message.get("body", b""))
        if len(body) > most or not message.get("more_body", False):
            return body.take()


def _replaying(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
