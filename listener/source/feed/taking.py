"""The result of reading one message of a feed: bodies in our envelope, and orders to the connection. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from unlost.listener.source.feed.hook import (
    Action,
    Again,
    Beat,
    Feed,
    FeedEvent,
    Keepalive,
    Missed,
    Numbered,
    Receipt,
    Refused,
    Send,
    Stop,
    body_of,
    refused_body,
)

Order = Beat | Keepalive | Again | Stop | Missed
"""An order to the connection."""
LONGEST_NAME = 200
"""How many characters the name of what is counted may have. Many are kept, and gaps and pages show them."""
_HASH = 16


def counted_as(sequence: tuple[str, int]) -> tuple[str, int]:
    """Shorten the name of what is counted, if it is very long. Different names stay different."""
    by, number = sequence
    if len(by) <= LONGEST_NAME:
        return sequence
    digest = hashlib.sha256(by.encode(errors="surrogatepass")).hexdigest()[:_HASH]
    return f"{by[: LONGEST_NAME - _HASH - 1]}…{digest}", number


class Taking(msgspec.Struct):
    """One message. Each of ``bodies`` has its entry in ``cursors``. ``refused``: how many bodies are no events.

    ``numbers``: those of its events, with their cursors.
    """

    bodies: list[bytes] = []
    cursors: list[str | None] = []
    sends: list[str] = []
    numbers: list[tuple[tuple[str, int], str | None]] = []
    orders: list[Order] = []
    refused: int = 0
    receipt: Receipt | None = None

    def add(self, action: Action) -> None:
        """Add one action that the feed derived from the message."""
        match action:
            case FeedEvent():
                self.bodies.append(body_of(action))
                self.cursors.append(action.cursor)
                if action.sequence is not None:
                    self.numbers.append((counted_as(action.sequence), action.cursor))
            case Refused():
                self.refused += 1
                self.bodies.append(refused_body(action))
                self.cursors.append(None)
            case Send():
                self.sends.append(action.text)
            case Numbered():
                self.numbers.append((counted_as(action.sequence), None))
            case Receipt():
                if self.receipt is not None:
                    raise ValueError("one message has two receipts")
                self.receipt = action
            case Beat() | Keepalive() | Again() | Stop() | Missed():
                self.orders.append(action)
            case _:
                assert_never(action)


def actions_of(feed: Feed, message: bytes) -> Sequence[Action]:
    """Let the feed read a message. If its code fails, the message is refused, so it becomes a dead letter."""
    try:
        found = feed.read(message)
        return found if isinstance(found, list) else list(found)
    except Exception as error:  # noqa: BLE001 - a feed may be a user's own code
        return (Refused(message, f"the feed's read failed: {type(error).__name__}: {error}"),)


Single = tuple[bytes, FeedEvent]
"""A message that is one event and nothing else, as most are: its body, and the event."""


def take_in(feed: Feed, message: bytes) -> Taking | Single:
    """Let the feed read a message. One whose actions make no sense is refused, so it is not lost."""
    try:
        actions = actions_of(feed, message)
        if len(actions) == 1 and isinstance(event := actions[0], FeedEvent):
            return body_of(event), event
        taking = taking_of(actions)
    except Exception as error:  # noqa: BLE001 - a feed may be a user's own code
        taking = taking_of([Refused(message, f"the feed's read returned nonsense: {type(error).__name__}: {error}")])
    if not taking.bodies and taking.receipt is not None:  # nothing is to be stored, so nothing has to be waited for
        if (send := acknowledgement(feed, taking.receipt.value)) is not None:
            taking.sends.append(send.text)
        taking.receipt = None
    return taking


def has_events(feed: Feed, message: bytes) -> bool:
    """Return whether a message has an event that can be stored."""
    taking = take_in(feed, message)
    return isinstance(taking, tuple) or len(taking.bodies) > taking.refused


def taking_of(actions: Sequence[Action]) -> Taking:
    """Collect what a message became."""
    taking = Taking()
    for action in actions:
        taking.add(action)
    return taking


def acknowledgement(feed: Feed, value: Any) -> Send | None:
    """Return the acknowledgement for a receipt; None if the feed's code fails: then the message comes again."""
    try:
        send = feed.settled(value)
        return send if isinstance(send, Send) else None
    except Exception:  # noqa: BLE001 - a feed may be a user's own code
        return None
