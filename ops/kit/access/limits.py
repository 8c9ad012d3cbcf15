"""The limits of one identity: events and bytes per second, open streams, replays. No input or output.

A rate is a bucket that fills up within ``BURST`` seconds. A request passes while something is in it, and then takes all
that it needs, so the next one may have to wait longer. Over time the rate is exact, and a large batch needs no large
bucket. Each process counts for itself.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec

BURST = 1.0
SOON = 0.001

Rate = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The limits of an identity. None: the server's default holds. 0: there is no limit."""

    events: Rate | None = None
    """Published per second."""
    bytes: Rate | None = None
    """Of published events, per second."""
    streams: Count | None = None
    """Open at once."""
    replays: Count | None = None
    """Run by one console at once."""

    def over(self, defaults: "Limits") -> "Limits":
        """Return these limits, with the defaults where there is none."""
        chosen = {
            name: getattr(defaults if getattr(self, name) is None else self, name) for name in self.__struct_fields__
        }
        return Limits(**chosen)


NONE = Limits()


class Quota:
    """The rest that an identity may still use."""

    __slots__ = ("_at", "_bytes", "_events", "is_limited", "limits")

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.is_limited = bool(limits.events or limits.bytes)
        self._events, self._bytes = self._full
        self._at = now

    @property
    def _full(self) -> tuple[float, float]:
        return max(1.0, (self.limits.events or 0) * BURST), max(1.0, (self.limits.bytes or 0) * BURST)

    def wait(self, now: float) -> float:
        """Seconds until it may publish again; 0 if it may."""
        if not self.is_limited:
            return 0.0
        events, size = self._full
        passed, self._at = now - self._at, now
        self._events = min(events, self._events + passed * (self.limits.events or 0))
        self._bytes = min(size, self._bytes + passed * (self.limits.bytes or 0))
        return max(_wait(self._events, self.limits.events), _wait(self._bytes, self.limits.bytes))

    def charge(self, events: int, size: int) -> None:
        """Take what is published now."""
        self._events -= events
        self._bytes -= size

    def may_open(self, streams: int) -> bool:
        """Whether an identity with so many streams may open one more."""
        return not self.limits.streams or streams < self.limits.streams


def _wait(left: float, rate: float | None) -> float:
    return max(SOON, -left / rate) if rate and left <= 0 else 0.0


MOST_QUOTAS = 20_000


class Quotas:
    """The quota of each identity, by its name. If there are too many, the oldest is forgotten."""

    def __init__(self, defaults: Limits, clock: Callable[[], float]) -> None:
        self._defaults = defaults
        self._clock = clock
        self._of: dict[str, Quota] = {}

    def of(self, name: str, limits: Limits) -> Quota:
        """Return the quota of an identity. Changed limits hold at once."""
        chosen = limits.over(self._defaults)
        known = self._of.get(name)
        if known is not None and known.limits == chosen:
            return known
        if len(self._of) >= MOST_QUOTAS:
            del self._of[next(iter(self._of))]
        fresh = self._of[name] = Quota(chosen, self._clock())
        return fresh

    def keep(self, names: frozenset[str]) -> None:
        """Forget identities that are gone."""
        self._of = {name: quota for name, quota in self._of.items() if name in names}
