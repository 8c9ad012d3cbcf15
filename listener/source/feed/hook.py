"""The class to inherit from for feeds that a profile cannot describe.

``SOURCE=package.module:Class`` names a class that inherits from ``Feed``. A profile is one implementation of it. An
object of the class lives as long as the listener; ``opening`` begins each connection. ``read`` must depend only on the
message and on earlier ones: it makes no calls and reads no clock.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from unlost.listener.core.errors import Transient
from unlost.listener.core.gap import Gap


class FeedStopped(Transient):
    """Raised by ``opening`` or ``opened``: retrying soon is pointless."""


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. ``compression``, ``proxy`` and the files of TLS are as in a profile's ``[wire]``."""

    url: str
    headers: Mapping[str, str] = {}
    subprotocols: Sequence[str] = ()
    proxy: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    compression: bool = False
    binary: bytes = b""
    """A prefix that marks binary messages for ``read``."""


class FeedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event. ``payload`` is JSON text. Without an id, it is identified by a hash of type and payload.

    ``cursor``: where to continue after it. ``sequence``: what is counted, and this event's number.
    """

    id: str | None
    payload: bytes | Raw
    type: str | None = None
    cursor: str | None = None
    sequence: tuple[str, int] | None = None


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A message, or a part of one, that should be an event but cannot be: it becomes a dead letter."""

    raw: bytes
    why: str


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message to the feed, sent at once. ``acknowledges``: it acknowledges what was read; a trial holds it back."""

    text: str
    acknowledges: bool = False


class Beat(msgspec.Struct, frozen=True, gc=False):
    """From now on, send what ``Feed.beat`` returns every ``seconds``."""

    every: float


class Keepalive(msgspec.Struct, frozen=True, gc=False):
    """The feed sends something at least every ``within`` seconds: a connection that is silent for longer is dead."""

    within: float


class Again(msgspec.Struct, frozen=True, gc=False):
    """Open a new connection, at this address if one is given, and leave this one after that."""

    why: str = "the feed asked for a new connection"
    url: str | None = None


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Retrying soon is pointless: the listener is not ready, reports why, and tries again after minutes."""

    why: str


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """The number of a message without events: what is counted, and its number."""

    sequence: tuple[str, int]


class Missed(msgspec.Struct, frozen=True, gc=False):
    """Events since the last connection will never arrive: a gap."""

    why: str


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A message must be acknowledged: ``Feed.settled`` gets this value once its events are rows or letters."""

    value: Any


Action = FeedEvent | Refused | Send | Beat | Keepalive | Again | Stop | Numbered | Missed | Receipt


class Fetching(msgspec.Struct, frozen=True, kw_only=True):
    """When the events of a gap are fetched: seconds after it was declared, until it is how old, and how many tries."""

    after: float = 5.0
    within: float = 86_400.0
    tries: int = 8


class NotFetchable(Transient):
    """Raised by ``fetch``: the events of this gap can never be fetched."""


class FetchedInPart(Transient):
    """Raised by ``fetch`` after what it has returned: a limit was reached, and more may be missing."""


class NewConnection(Protocol):
    """A connection that was just opened."""

    async def send(self, text: str) -> None:
        """Send a message."""
        ...

    async def receive(self) -> bytes:
        """Return the next message. ``Feed.read`` gets it afterwards, in its order."""
        ...

    @property
    def after(self) -> str | None:
        """The cursor after which the feed is to continue."""
        ...


class Feed(ABC):
    """A feed: inherit from it."""

    resumes: bool = False
    """Whether missed events are sent later: after a cursor, or because they were not acknowledged."""
    overlaps: bool = False
    """Whether a feed that is asked to continue after a cursor sends the event with that cursor again, before later
    ones. If none comes, it has lost events: a gap. This is known only of cursors that end with a number."""
    acknowledges: bool = False
    """Whether each message with events has a receipt. One without is never acknowledged, and that is stated."""
    shared: bool = False
    """Whether each message goes to one of several connections."""
    key: str = ""
    """The path of the key in whose order events are processed, as in ``ORDER_BY``: ``payload.account_id``."""
    stop_on: Sequence[int] = ()
    """Close codes after which retrying soon is pointless."""
    fresh: float | None = None
    """Seconds of silence after which a gap is declared."""
    renew: float | None = None
    """Seconds after which a connection is replaced by a new one, before the feed ends it."""
    beats_every: float | None = None
    """Seconds between heartbeats, if that is known before the feed says it."""
    opened_within: float = 30.0
    """Seconds that ``opening`` and ``opened`` may take together."""
    fetching: Fetching | None = None
    """When ``fetch`` is called for a gap. None: never."""
    trust: tuple[str, str] = ("ca of its Opening", "cert of its Opening")
    """The names of what says whom to trust, and which certificate to show, for messages when TLS fails."""
    recovered: bool = False
    """Whether the newest connection goes on where the one before ended: then nothing was missed between them."""
    numbers_each_connection: bool = False
    """Whether the numbers of events begin anew with each connection."""
    numbers_each_process: bool = False
    """Whether they begin anew with each process, as those of a session do that a restart cannot resume."""

    @abstractmethod
    async def opening(self, after: str | None) -> Opening:
        """Return how to connect, and how to continue after this cursor."""

    async def opened(self, connection: NewConnection) -> None:  # noqa: B027 - most feeds need not
        """Subscribe, and do whatever else must be done before messages are read."""

    @abstractmethod
    def read(self, message: bytes) -> Iterable[Action]:
        """Return what one message becomes; nothing for a control message."""

    def settled(self, receipt: Any) -> Send | None:  # noqa: ARG002 - the hook's form
        """Return the acknowledgement of a message whose events are all rows or letters."""
        return None

    def beat(self) -> Send | None:
        """Return the heartbeat that is sent now."""
        return None

    def fetch(self, gap: Gap) -> AsyncIterator[Iterable[Action]]:
        """Fetch what a declared gap has missed, page by page. Known events may be among them."""
        raise NotFetchable(f"{type(self).__name__} fetches nothing, so not {gap.gap_id} either")


LONGEST_WHY = 250
_encode = msgspec.json.Encoder().encode


def body_of(event: FeedEvent) -> bytes:
    """Return an event in our envelope. The payload stays the text that the feed sent."""
    payload = bytes(event.payload)
    kind = b"" if event.type is None else b'"type":%b,' % _encode(event.type)
    if event.id is None:
        return b'{%b"payload":%b}' % (kind, payload)
    return b'{"event_id":%b,%b"payload":%b}' % (_encode(event.id), kind, payload)


def refused_body(refused: Refused) -> bytes:
    """Return a body that is not a valid event and names the reason: it becomes a letter, reason ``invalid``."""
    try:
        msgspec.json.decode(refused.raw, type=Raw)
        payload = bytes(refused.raw)
    except msgspec.DecodeError:
        payload = _encode(refused.raw.decode(errors="replace"))
    return b'{"event_id":null,"refused":%b,"payload":%b}' % (_encode(refused.why[:LONGEST_WHY]), payload)
