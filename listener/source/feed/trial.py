"""Counts what messages of a feed become, and warns: for ``unlost source try`` and for tests. Stores nothing."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse
from unlost.listener.core.gap import Gap
from unlost.listener.source.feed.gaps import Hole, Numbers
from unlost.listener.source.feed.hook import Action, Feed, NewConnection, Opening, Send
from unlost.listener.source.feed.taking import Taking, acknowledgement, actions_of, taking_of
from unlost.ops.kit.telemetry.counted import counted

MOST_IDS = 200_000
"""How many ids are compared."""
MANY = 0.2
"""If a larger share of ids is repeated, a warning is given."""


class MessageResult(msgspec.Struct, frozen=True):
    """The result of one message, or of one part of it."""

    what: str
    """``event``, ``invalid`` (a dead letter), ``control``, ``sent``, ``ack``, or an order to the connection.

    An ``ack`` is what a listener sends at once, or once all events of the message are rows or dead letters. A trial
    sends none.
    """
    event_id: str | None = None
    type: str | None = None
    detail: str = ""
    payload: bytes = b""


class Trial:
    """Lets a feed read messages, and counts what they become."""

    def __init__(self, feed: Feed, *, max_bytes: int = 1024 * 1024) -> None:
        self._feed = feed
        self._max_bytes = max_bytes
        self._contents: dict[str, bytes] = {}
        self._numbers = Numbers()
        self.messages = 0
        self.connected = True
        """Whether there was a connection. Recorded frames need none."""
        self.kinds: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.hashed = self.repeated = self.conflicts = 0
        self.holes: list[Hole] = []
        self._last_number: tuple[str, int] | None = None
        self._last_cursor: str | None = None

    def read(self, message: bytes | str) -> Sequence[MessageResult]:
        """Read one message."""
        encoded = message.encode() if isinstance(message, str) else message
        return self.took(encoded, actions_of(self._feed, encoded))

    def took(self, message: bytes, actions: Sequence[Action]) -> Sequence[MessageResult]:
        """Count what a message became."""
        self.messages += 1
        acks = [one.text for one in actions if isinstance(one, Send) and one.acknowledges]
        found = list(self._became(message, taking_of(without_acks(actions))))
        found += [MessageResult("ack", detail=text) for text in acks]
        self.kinds.update(one.what for one in found)
        return found

    def warnings(self) -> list[str]:
        """Return what an operator should know before this feed is used."""
        events, ids = self.kinds["event"], len(self._contents)
        found = []
        if not self.connected:
            found.append("no connection was made; the reason stands above")
        elif not self.messages:
            found.append("the feed sent nothing: does it want a subscription (open)?")
        elif not events:
            found.append("nothing but control messages: do keep, drop and each fit what the feed sends?")
        if self.kinds["invalid"]:
            found.append(f"{self.kinds['invalid']:,} would be dead letters; the reasons stand above")
        if self.hashed:
            found.append("events have no ids, so a hash of the content is used: two equal events become one row")
        if self.conflicts:
            found.append(
                f"{self.conflicts:,} came with an id that another event has: they would be dead letters (conflict)"
            )
        if self.repeated > MANY * max(1, ids):
            found.append(
                f"{self.repeated:,} of {events:,} ids came again: is the id one of an event, not of its subject?"
            )
        if self.holes:
            skipped = counted(sum(hole.missing or 0 for hole in self.holes), "number was", "numbers were")
            found.append(f"{skipped} skipped: that would be a gap")
        return found

    def gap(self, now: float, seconds: float) -> Gap:
        """Return a gap as if the last message had been missed: to try whether its events can be fetched."""
        began = now - seconds
        if self._last_number is None:
            return Gap("trial", "trial", "disconnected", self._last_cursor, None, None, began, now)
        by, number = self._last_number
        named = Hole(by, number, number).named
        return Gap("trial", "trial", "sequence", named(number - 1), named(number + 1), 1, began, now)

    def fetched(self, actions: Iterable[Action]) -> str:
        """Say what a page of fetched events became."""
        taking, known = taking_of(list(actions)), 0
        for body in taking.bodies:
            with contextlib.suppress(InvalidEvent):
                known += parse(body, max_bytes=self._max_bytes).event_id in self._contents
        refused = f", {taking.refused:,} would be dead letters" if taking.refused else ""
        return f"{counted(len(taking.bodies), 'event')}, {known:,} with the id of one that was just read{refused}"

    def _became(self, message: bytes, taking: Taking) -> Iterable[MessageResult]:
        for body in taking.bodies:
            yield self._event(body)
        self._last_cursor = next((one for one in reversed(taking.cursors) if one is not None), self._last_cursor)
        for sequence, cursor in taking.numbers:
            self._last_number = sequence
            if (hole := self._numbers.take(*sequence, cursor)) is not None:
                self.holes.append(hole)
        for text in taking.sends:
            yield MessageResult("sent", detail=text)
        if taking.receipt is not None and (ack := acknowledgement(self._feed, taking.receipt.value)) is not None:
            yield MessageResult("ack", detail=ack.text)
        for order in taking.orders:
            said = [getattr(order, name) for name in ("why", "every", "within") if hasattr(order, name)]
            yield MessageResult(type(order).__name__.lower(), detail=str(*said))
        if not taking.bodies:
            yield MessageResult("control", detail=message.decode(errors="replace"))

    def _event(self, body: bytes) -> MessageResult:
        try:
            event = parse(body, max_bytes=self._max_bytes)
        except InvalidEvent as error:
            return MessageResult("invalid", error.event_id, None, str(error))
        self.types[event.type or "-"] += 1
        self.hashed += not body.startswith(b'{"event_id":')
        known = self._contents.get(event.event_id)
        if known is None and len(self._contents) < MOST_IDS:
            self._contents[event.event_id] = event.digest
        elif known is not None:
            self.repeated += 1
            self.conflicts += known != event.digest
        return MessageResult("event", event.event_id, event.type, "", event.payload)


def without_acks(actions: Sequence[Action]) -> list[Action]:
    """Return the actions without those that acknowledge what was read."""
    return [one for one in actions if not (isinstance(one, Send) and one.acknowledges)]


class WatchedFeed(Feed):
    """A feed that also passes its messages to a function, and acknowledges nothing."""

    def __init__(self, feed: Feed, seen: Callable[[bytes, Sequence[Action]], None]) -> None:
        self._feed = feed
        self._seen = seen
        self.resumes, self.shared, self.stop_on = feed.resumes, feed.shared, feed.stop_on
        self.renew, self.beats_every = feed.renew, feed.beats_every
        self.opened_within, self.trust = feed.opened_within, feed.trust

    async def opening(self, after: str | None) -> Opening:
        """See ``Feed``."""
        return await self._feed.opening(after)

    async def opened(self, connection: NewConnection) -> None:
        """See ``Feed``."""
        await self._feed.opened(connection)

    def read(self, message: bytes) -> Iterable[Action]:
        """See ``Feed``."""
        actions = actions_of(self._feed, message)
        self._seen(message, actions)
        return without_acks(actions)

    def beat(self) -> Send | None:
        """See ``Feed``."""
        return self._feed.beat()
