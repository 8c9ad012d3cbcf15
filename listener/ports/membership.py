"""Which listeners of a group are alive, and in which places each of them replicates what it holds.

A failed call raises ``Transient`` (it may have taken effect, or may still do so) or ``Permanent`` (it can never succeed
as it is).
"""

from typing import Protocol

import msgspec

from unlost.listener.core.store_mark import StoreMark


class Member(msgspec.Struct, frozen=True):
    """Another listener, its handler's name, and whether it works with it."""

    token: str
    instance_id: str
    handler: str | None
    agreed: bool = True


class MembershipView(msgspec.Struct, frozen=True):
    """The membership as ``token`` saw it. ``mine`` is None if this listener has no live row."""

    token: str
    mine: frozenset[str] | None
    peers: dict[str, frozenset[str]]
    postgres_place: str
    store: StoreMark
    agreed: bool = True
    """Whether this listener may work with its handler."""
    members: tuple[Member, ...] = ()
    """The other listeners, without replays."""

    @property
    def share(self) -> tuple[int, int]:
        """This listener's number among all that work, from 0 on, and their count. All see the same order."""
        idle = {one.token for one in self.members if not one.agreed}
        tokens = sorted(({*self.peers} - idle) | {self.token})
        return tokens.index(self.token), len(tokens)

    def others(self, handler: str | None) -> list[Member]:
        """Return the listeners that work with another handler than this, always in the same order."""
        others = [one for one in self.members if one.agreed and one.handler != handler]
        return sorted(others, key=lambda one: one.instance_id)


class Membership(Protocol):
    """The live listeners, and the places in which each replicates what it holds."""

    life_seconds: float
    """How long a row lives after a refresh."""
    handler: str | None
    """The name of this listener's handler."""
    routes: tuple[str, ...]
    """The routes of its handler, which others can read. They are set before it declares."""

    async def refresh(self, known: StoreMark | None = None) -> MembershipView:
        """Report that this listener is alive, unless its row has expired, and return a view of all.

        ``known``: the store as last seen. Its version is raised, unless the store went back since.
        """
        ...

    async def declare(self, places: frozenset[str]) -> MembershipView:
        """Write this listener's places, then read the view. If two declare at once, the second sees the first."""
        ...

    async def renew(self, generation: str, version: int, *, unconfirmed: bool = False) -> None:
        """Replace the store's generation by one with a higher version than this, unless a peer has already.

        ``unconfirmed``: nothing shows that the store went back, and the new generation says so.
        """
        ...

    async def leave(self) -> None:
        """Delete this listener's row."""
        ...
