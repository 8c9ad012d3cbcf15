"""Decides by a profile what a message becomes: events, control, replies, or the end of its connection. Pure.

Each path of the profile gets an index when the profile is loaded, so one decoding of the needed fields is enough.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Raw

from unlost.listener.source.feed.conditions import Holds
from unlost.listener.source.feed.forms import CONSTANT
from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Beat,
    FeedEvent,
    Missed,
    Numbered,
    Receipt,
    Refused,
    Send,
    Stop,
)
from unlost.listener.source.feed.paths import EACH, Elements, Path, begins_at_the_whole, path_of
from unlost.listener.source.feed.profile import SHA256, Profile
from unlost.listener.source.feed.slots import (
    BAD_JSON,
    FURTHEST,
    Filling,
    Slots,
    Test,
    Values,
    Word,
    first_of,
    number_of,
    word,
)
from unlost.listener.source.feed.templates import Fill, MissingValue, identifier_of, template_of
from unlost.listener.source.feed.unpacking import UnpackError, unpacker_of

SHOWN = 200
"""How many bytes of a message an error quotes."""
LEAST_BYTES = 100
"""A message may carry as many events as the largest one has times so many bytes. Each costs time and memory."""
SPREAD = 4
"""How many times the bytes of the largest message its events may have: each may repeat a part of the whole message."""


class ProfileMapping:
    """A profile, ready to read messages. It remembers only the last values that heartbeats and openings need."""

    def __init__(self, profile: Profile, *, max_bytes: int = 1024 * 1024, most: float | None = None) -> None:
        """``most``: how many events one message may carry, if not as many as ``LEAST_BYTES`` says."""
        self._profile = profile
        self.read: Callable[[bytes], Iterable[Action]] = (
            self._read_packed if profile.decode or profile.lines else self._read
        )
        """Returns what a message becomes; nothing for a control message."""
        self._max_bytes = max_bytes
        self._most = max_bytes // LEAST_BYTES if most is None else most
        whole = Slots()
        self._unpack = unpacker_of(profile.decode, max_bytes) if profile.decode else None
        self._lines = profile.lines
        self._strip = profile.strip.encode()
        keep, self._drop = Test(profile.keep, whole), Test(profile.drop, whole)
        self._is_event: Holds = keep.holds if keep.given else self._is_not_dropped
        self._replies = [(Test(one.when, whole), Filling(one.send, whole)) for one in profile.reply]
        self._refusals = [(Test(one.when, whole), one.why) for one in profile.refuse]
        self._stop = Test([one for one in profile.stop_on if not isinstance(one, int)], whole)
        again = profile.again
        self._again = Test(again.when if again else [], whole)
        self._again_misses = bool(again and again.missed)
        self._again_url = whole.slot(path_of(again.url)) if again and again.url else None
        self._ack: Filling | None = Filling(profile.ack.send, whole) if profile.ack else None
        self._ack_at_once = bool(profile.ack and profile.ack.at_once)
        self._waits = [Test(one.wait, whole) for one in profile.open]
        self._beat = profile.heartbeat
        self._interval = (
            whole.slot(path_of(self._beat.every)) if self._beat and isinstance(self._beat.every, str) else None
        )
        self._remembered = {path: whole.slot(path) for path in _remembered(profile)}
        self._last: dict[Path, Any] = {}
        self._elements = Elements(path_of(profile.each)) if profile.each else None
        item = Slots() if profile.each else whole
        self._item = _Item(profile, item, whole)
        self._repeated = _repeated(profile, whole) if profile.each else []
        self._item_fields = item.fields() if profile.each else None
        self._fields = whole.fields()
        self._control_work = bool(
            self._replies or self._stop.given or self._again.given or self._remembered or self._interval is not None
        )

    def renew(self, fill: Fill) -> None:
        """Fill in what comes from outside in the messages to the feed, anew for each connection."""
        for _, send in self._replies:
            send.renew(fill)
        if self._ack is not None:
            self._ack.renew(fill)

    def _read_packed(self, message: bytes) -> Iterable[Action]:
        if self._unpack is not None:
            try:
                message = self._unpack(message)
            except UnpackError as error:
                return (Refused(message, str(error)),)
        if not self._lines:
            return self._read(message)
        actions: list[Action] = []
        room = self._room(message)
        for line in message.split(b"\n"):
            found = self._read(line.strip()) if line.strip() else ()
            actions += found
            room -= sum(map(_size, found)) if self._repeated else 0
            if len(actions) > self._most:
                return (self._too_many(message),)
            if room < 0:
                return (_too_large(message),)
        return actions

    def _room(self, message: bytes) -> int:
        """How many bytes the events of a message may have. The answer of a call may be larger than any message."""
        return SPREAD * max(self._max_bytes, len(message))

    def _too_many(self, message: bytes) -> Refused:
        return Refused(message, f"the message carries more than {self._most:,} events")

    def remembered(self) -> Mapping[Path, Any]:
        """Return the last values at the paths that messages to the feed need."""
        return self._last

    def answers(self, number: int, message: bytes) -> bool:
        """Whether a message is what a step of ``open`` waits for. If so, its values are remembered."""
        try:
            message = message if self._unpack is None else self._unpack(message)
            values = self._fields.read(message.removeprefix(self._strip))
        except (UnpackError, *BAD_JSON):
            values = _NOTHING
        if not self._waits[number].holds(message, values):
            return False
        self._remember(values)
        return True

    def _remember(self, values: Values) -> None:
        for path, slot in self._remembered.items():
            if values[slot] is not UNSET and values[slot] is not None:
                self._last[path] = values[slot]

    def _read(self, message: bytes) -> Sequence[Action]:
        text = message.removeprefix(self._strip) if self._strip else message
        actions: list[Action] = []
        bad: Exception | None = None
        try:
            values = self._fields.read(text)
        except BAD_JSON as error:
            values, bad = _NOTHING, error
        if (bad is not None or self._refusals) and (refused := self._refused(message, values, bad)) is not None:
            return (refused,)
        if self._control_work:
            self._do_control_work(message, values, actions)
        receipt = None if self._ack is None else self._receipt(values)
        if not self._is_event(message, values):
            if isinstance(receipt, Receipt):  # nothing is stored, so there is nothing to wait for
                actions.append(Send(receipt.value, acknowledges=True))
            elif receipt is not None:
                actions.append(receipt)
            if self._item.numbers_whole and (number := self._item.numbered(values, values)) is not None:
                actions.append(Numbered(number))
            return actions
        if receipt is not None:
            actions.append(receipt)
        if self._elements is None:
            actions.append(self._item.event(text, values, values))
        else:
            self._add_events(self._elements, text, values, actions)
        return actions

    def _refused(self, message: bytes, values: Values, bad: Exception | None) -> Refused | None:
        """Return the letter of a message whose events cannot be read. ``bad``: why it is not JSON."""
        for when, why in self._refusals:
            if when.holds(message, values):
                return Refused(message, why)
        if bad is not None and self._is_event(message, values):
            return Refused(message, f"the message is not JSON: {bad}")
        return None

    def _is_not_dropped(self, message: bytes, values: Values) -> bool:
        return not self._drop.holds(message, values)

    def _add_events(self, within: Elements, text: bytes, values: Values, actions: list[Action]) -> None:
        assert self._item_fields is not None
        try:
            elements = within.of(text)
        except BAD_JSON as error:
            actions.append(Refused(text, f"the message is not JSON: {error}"))
            return
        if elements is None:
            actions.append(Refused(text, f"no array stands at {self._profile.each}"))
            return
        if len(elements) > self._most:
            actions.append(self._too_many(text))
            return
        if self._repeated and len(elements) * sum(_length(values[at]) for at in self._repeated) > self._room(text):
            actions.append(_too_large(text))
            return
        if self._item.numbers_whole and (number := self._item.numbered(values, values)) is not None:
            actions.append(Numbered(number))
        read, event = self._item_fields.read, self._item.event
        actions += [event(one, read(one), values) for one in elements]

    def _receipt(self, values: Values) -> Receipt | Send | None:
        if self._ack is None or not self._ack.is_complete(values):
            return None
        text = self._ack.filled(values)
        return Send(text, acknowledges=True) if self._ack_at_once else Receipt(text)

    def _do_control_work(self, message: bytes, values: Values, actions: list[Action]) -> None:
        if self._remembered:
            self._remember(values)
        if self._interval is not None and (every := _seconds(values[self._interval])) is not None:
            assert self._beat is not None
            actions.append(Beat(every / 1000 if self._beat.unit == "ms" else every))
        if self._replies:
            actions += [Send(send.filled(values)) for when, send in self._replies if when.holds(message, values)]
        if self._stop.given and self._stop.holds(message, values):
            actions.append(Stop(f"the feed sent {_quoted(message)}"))
        if self._again.given and self._again.holds(message, values):
            url = values[self._again_url] if self._again_url is not None else None
            why = f"the feed sent {_quoted(message)}"
            actions += [Missed(why)] if self._again_misses else []
            actions.append(Again(why, url if isinstance(url, str) else None))


def _too_large(message: bytes) -> Refused:
    return Refused(message, f"the events of the message have more than {SPREAD} times as many bytes as it may have")


def _size(action: Action) -> int:
    """Return how much of a message an event holds."""
    if isinstance(action, FeedEvent):
        texts = (action.id, action.type, action.cursor, action.sequence[0] if action.sequence else None)
        return len(action.payload) + sum(len(text) for text in texts if text)
    return len(action.raw) if isinstance(action, Refused) else 0


class _Item:
    """Makes an event of one item of a message, or of the message itself."""

    def __init__(self, profile: Profile, item: Slots, whole: Slots) -> None:
        def bound(given: str | list[str] | None) -> Word | None:
            if given is None:
                return None
            return first_of([word(one, item, whole) for one in _listed(given)])

        self._id = None if profile.id == SHA256 else bound(profile.id)
        self._type, self._cursor = bound(profile.type), bound(profile.cursor)
        self._by = bound(profile.sequence.by) if profile.sequence else None
        self._payload, self._payload_whole = _payload(profile, item, whole)
        self._payload_path = profile.payload
        self._number: tuple[bool, int] | None = None
        if profile.sequence is not None:
            at = profile.sequence.at
            of_whole = begins_at_the_whole(at)
            self._number = of_whole, (whole if of_whole else item).slot(path_of(at))
        self.numbers_whole = self._number is not None and (self._number[0] or item is whole)
        """Whether the number belongs to the whole message, not to each event."""
        self._numbers_items = self._number is not None and not (self._number[0] and item is not whole)

    def event(self, text: bytes | Raw, values: Values, whole: Values) -> FeedEvent | Refused:
        """Make the event."""
        try:
            event_id = None if self._id is None else self._id(values, whole)
        except MissingValue as error:
            return Refused(bytes(text), f"the event has no id: {error}")
        try:
            kind = None if self._type is None else self._type(values, whole)
        except MissingValue:
            kind = None
        payload: Any = text
        if self._payload is not None:
            payload = (whole if self._payload_whole else values)[self._payload]
            if payload is UNSET:
                return Refused(bytes(text), f"the event has no payload: nothing stands at {self._payload_path}")
        return FeedEvent(
            event_id,
            payload,
            kind,
            None if self._cursor is None else _optional(self._cursor, values, whole),
            self.numbered(values, whole) if self._numbers_items else None,
        )

    def numbered(self, values: Values, whole: Values) -> tuple[str, int] | None:
        """Return what is counted, and the number."""
        if self._number is None:
            return None
        of_whole, slot = self._number
        number = (whole if of_whole else values)[slot]
        if (type(number) is not int or not -FURTHEST < number < FURTHEST) and (number := number_of(number)) is None:
            return None
        try:
            return "" if self._by is None else self._by(values, whole), number
        except MissingValue:
            return None


def _payload(profile: Profile, item: Slots, whole: Slots) -> tuple[int | None, bool]:
    """Return the index of the payload, and whether it is part of the whole message."""
    if profile.payload is None:
        return None, False
    if begins_at_the_whole(profile.payload):
        return whole.slot(path_of(profile.payload), raw=True), True
    return item.slot(path_of(profile.payload), raw=True), False


def _repeated(profile: Profile, whole: Slots) -> list[int]:
    """Return the indexes of the parts of the whole message that each of its events holds."""
    by = profile.sequence.by if profile.sequence else None
    given = [*_listed(profile.id), *_listed(profile.type), *_listed(profile.cursor), *_listed(by)]
    holes = [hole for one in given if not one.startswith(CONSTANT) for hole in identifier_of(one).holes]
    found = [whole.slot(path_of(hole)) for hole in holes if begins_at_the_whole(hole)]
    payload, of_whole = _payload(profile, Slots(), whole)
    return [*found, payload] if payload is not None and of_whole else found


def _listed(given: str | list[str] | None) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else given


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | Raw) else 0


def _optional(make: Word, values: Values, whole: Values) -> str | None:
    try:
        return make(values, whole) or None  # an empty cursor is none: it would take the place of the last one
    except MissingValue:
        return None


def _remembered(profile: Profile) -> list[Path]:
    """Return the paths that messages to the feed take from earlier messages."""
    texts = [one.send for one in profile.open if one.send]
    if profile.heartbeat:
        texts.append(profile.heartbeat.send)
    found = {path for text in texts for path in template_of(text).paths}
    return sorted((path for path in found if EACH not in path), key=str)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value) if isinstance(value, int | str) else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 < seconds < 1e9 else None


def _quoted(message: bytes) -> str:
    return message[:SHOWN].decode(errors="replace")


class _Nothing(Sequence[Any]):
    """The values of a message that is not JSON: none."""

    def __getitem__(self, _: Any) -> Any:
        return UNSET

    def __len__(self) -> int:
        return 0


_NOTHING = _Nothing()
