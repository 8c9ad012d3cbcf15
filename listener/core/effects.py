"""Effects: calls to other systems that a handler records, and that are delivered after its transaction. Pure.

``event.effects`` only collects them. They are written with the row, and count only if that is committed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from unlost.listener.core.errors import Permanent

Kind = Literal["post", "publish"]
MOST_EFFECTS = 100
MOST_BYTES = 1024 * 1024
"""Limits for the effects of one event together."""
LONGEST_URL = 2_048
MOST_HEADERS = 32
LONGEST_HEADER = 4_096
PRODUCER = "producer"
"""Stands for the host of ``publish``, whose address is a setting."""
OURS = frozenset((
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
    "idempotency-key", "webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "proxy-authorization",
    "cookie",
))  # fmt: skip
"""Headers that delivery writes itself, and those that would keep a secret in the table."""
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
PORTS = {"https": 443, "http": 80}


class EffectRefused(Permanent):
    """An effect that can never be delivered as it is. The event becomes a dead letter."""


class NewEffect(msgspec.Struct, frozen=True):
    """An effect as a handler asked for it. ``queue``: those with the same one are delivered in order."""

    kind: Kind
    url: str
    host: str
    body: bytes
    headers: dict[str, str] = {}
    queue: str | None = None

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class Effect(msgspec.Struct, frozen=True):
    """An effect that is to be delivered now. ``key`` is the same in every attempt; ``attempts`` have failed so far.

    ``unreadable``: why a codec cannot decode it, so that it cannot be sent. ``taken_until``: when its lease ends, by
    PostgreSQL's clock. Its outcome is not recorded once it has been taken anew.
    """

    event_id: str
    number: int
    key: str
    kind: Kind
    url: str
    host: str
    headers: dict[str, str]
    body: bytes
    attempts: int
    unreadable: str = ""
    taken_until: float = 0.0


class DeliveryOutcome(msgspec.Struct, frozen=True):
    """The outcome of one delivery. ``alike``: failures with the same one have the same cause.

    ``after``: the receiver asked not to be called again for so many seconds.
    ``ours``: our settings do not allow it, and no receiver was called.
    """

    what: Literal["delivered", "again", "never"]
    why: str = ""
    alike: str = ""
    after: float = 0.0
    ours: bool = False


DELIVERED = DeliveryOutcome("delivered")


class Effects:
    """Collects the effects of one attempt. Nothing is sent before the row is committed."""

    __slots__ = ("_closed", "_recorded", "_size")

    def __init__(self, closed: str = "") -> None:
        self._closed = closed
        self._recorded: list[NewEffect] = []
        self._size = 0

    def post(
        self,
        url: str,
        *,
        json: Any = msgspec.UNSET,
        body: bytes | str = b"",
        headers: Mapping[str, str] | None = None,
        in_order: bool = False,
    ) -> None:
        """Send an HTTP POST after the commit, with ``json`` or ``body``, at least once.

        Each attempt has the same ``Idempotency-Key``. ``in_order``: after all earlier effects in order to this URL.
        """
        given = _headers(headers or {})
        if json is not msgspec.UNSET:
            body = msgspec.json.encode(json)
            given.setdefault("content-type", "application/json")
        url, host = _target(url)
        content = body.encode() if isinstance(body, str) else bytes(body)
        self._add(NewEffect("post", url, host, content, given, url.partition("?")[0] if in_order else None))

    def publish(self, event: Mapping[str, Any], *, in_order: bool = False) -> None:
        """Publish an event to the producer after the commit. Without an ``event_id`` it gets the effect's key."""
        if "payload" not in event:
            raise EffectRefused("publish(event) needs a mapping with a payload")
        body = msgspec.json.encode(dict(event))
        self._add(NewEffect("publish", "", PRODUCER, body, queue=PRODUCER if in_order else None))

    def taken(self) -> Sequence[NewEffect]:
        """Return what was recorded. Nothing can be recorded any more."""
        self._closed = self._closed or "the attempt has ended"
        return self._recorded

    def _add(self, effect: NewEffect) -> None:
        if self._closed:
            raise EffectRefused(f"event.effects cannot be used: {self._closed}")
        size = self._size + len(effect.body) + len(effect.url) + sum(map(len, effect.headers.values()))
        if len(self._recorded) >= MOST_EFFECTS or size > MOST_BYTES:
            raise EffectRefused(f"one event may have {MOST_EFFECTS} effects with {MOST_BYTES:,} bytes together")
        self._size = size
        self._recorded.append(effect)


NO_TRANSACTION = "this function does not run in the row's transaction; add a parameter `tx: Transaction`"
NO_EFFECTS = Effects(NO_TRANSACTION)
"""The effects of an attempt without a transaction: nothing would tie them to the row."""


def key_of(group: str, event_id: str, number: int) -> str:
    """Return the key of an effect. A digest: ids may have any character, and a signed id must have no dot."""
    whole = "\0".join((group, event_id, str(number)))
    return f"msg_{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def body_of(effect: NewEffect, key: str) -> bytes:
    """Return the bytes to send: an event without an id gets the key."""
    if effect.kind == "post":
        return effect.body
    event = msgspec.json.decode(effect.body, type=dict[str, msgspec.Raw])
    if bytes(event.get("event_id", b"null")) != b"null":
        return effect.body
    return msgspec.json.encode({"event_id": key, **{name: one for name, one in event.items() if name != "event_id"}})


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; ``EffectRefused`` if it is none for ``post``."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
        host = (parts.hostname or "").rstrip(".")
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise EffectRefused(f"post(url): no URL: {error}") from None
    if parts.scheme not in PORTS or not host:
        raise EffectRefused("post(url): it must be https://host/path")
    if parts.username is not None or parts.password is not None:
        raise EffectRefused("post(url): it holds a user or password, which would stand in the table; see EFFECT_TOKENS")
    return parts.scheme, host, port


def named(origin: tuple[str, str, int]) -> str:
    """Return host and port as they stand in a URL: without the port that belongs to the scheme."""
    scheme, host, port = origin
    where = f"[{host}]" if ":" in host else host
    return where if port == PORTS[scheme] else f"{where}:{port}"


def _target(url: str) -> tuple[str, str]:
    if len(url) > LONGEST_URL:
        raise EffectRefused(f"post(url): it has more than {LONGEST_URL:,} characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise EffectRefused("post(url): it holds spaces, backslashes or control characters")
    return url.partition("#")[0], named(origin_of(url))


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    if len(headers) > MOST_HEADERS:
        raise EffectRefused(f"post(headers=): more than {MOST_HEADERS}")
    given: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not lower or not TOKEN.issuperset(lower):
            raise EffectRefused(f"post(headers=): {name!r} is no name of a header")
        if lower in OURS:
            raise EffectRefused(f"post(headers=): {name} is not the handler's to set; see docs/how-to/effects.md")
        if len(value) > LONGEST_HEADER or not value.isprintable() or not value.isascii():
            raise EffectRefused(f"post(headers=): the value of {name} is too long, or has other than printable ASCII")
        given[lower] = value
    return given
