"""Facts and their subscribers. The core states facts; metrics, logs, health and tests subscribe.

``BreakerChanged`` is the only fact that the core itself states. All others are in ``facts/``, by what they are about.
"""

from collections.abc import Callable

import msgspec


class Fact(msgspec.Struct, frozen=True):
    """Something that has happened."""


class BreakerChanged(Fact, frozen=True):
    """A circuit breaker changed its state. ``why``: the failure that opened it or kept it open."""

    name: str
    state: str
    why: str = ""


Facts = Callable[[Fact], None]


def broadcast(*subscribers: Facts) -> Facts:
    """Combine subscribers into one. A subscriber with an attribute ``subscribes_to`` gets only those kinds of facts."""
    by_kind: dict[type[Fact], tuple[Facts, ...]] = {}

    def publish(fact: Fact) -> None:
        kind = type(fact)
        concerned = by_kind.get(kind)
        if concerned is None:
            concerned = tuple(one for one in subscribers if kind in getattr(one, "subscribes_to", (kind,)))
            by_kind[kind] = concerned
        for subscriber in concerned:
            subscriber(fact)

    return publish
