"""Notices that a JetStream stream removed messages before a consumer had delivered them. Pure.

Nobody counts them. Between two observations a consumer passes some messages and delivers some. Those before the
stream's first message that it did not deliver were removed. Redeliveries count as deliveries, so they are taken off:
each listener knows its own. Those of its peers may hide as many from this listener, but not from the peers.
"""

from dataclasses import dataclass

from unlost.listener.ports.source import Dropped


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """The state of a server at one moment: the stream's first message, the last one delivered, and all deliveries.

    ``pending``: how many messages are still to be delivered. ``stream``: which stream it is, also if one of the same
    name is made again.
    """

    first: int
    delivered: int
    deliveries: int
    pending: int = 0
    stream: str = ""

    @property
    def passed(self) -> int:
        """The last message that can no longer be delivered for the first time."""
        return max(self.delivered, self.first - 1)


def removed_between(
    before: ConsumerState, now: ConsumerState, stream: str, *, redelivered: int = 0, filtered: bool = False
) -> Dropped | None:
    """Return what was removed unread between two observations, if anything is known to be.

    ``redelivered``: how many of the deliveries were not the first of their message. ``filtered``: the consumer is for
    some of the messages, so how many of the removed ones it would have delivered is unknown.
    """
    removed = now.first - 1 - before.passed
    delivered = now.deliveries - before.deliveries - redelivered
    undelivered = before.pending - delivered - now.pending if filtered else now.passed - before.passed - delivered
    missing = min(undelivered, removed)
    if missing <= 0:
        return None
    return Dropped(
        None if filtered else missing, f"{stream}@{before.passed}", f"{stream}@{now.first}", f"{now.stream} {now.first}"
    )


def redelivery(reply: str) -> int | None:
    """Return the number that a delivery has in its consumer, if it is not the first of its message.

    ``reply``: the address for the acknowledgement, which has 9 parts, or 11 and more from newer servers.
    """
    parts = reply.split(".")
    at = 4 if len(parts) == 9 else 6
    if len(parts) < 9 or parts[at] == "1" or not parts[at + 2].isdigit():
        return None
    return int(parts[at + 2])
