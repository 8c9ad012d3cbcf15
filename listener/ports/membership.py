"""Which listeners of a group are alive, and in which places each of them covers what it holds.

What fails raises ``Transient`` (the call may have taken effect all the same, or may do so later) or
``Permanent`` (it can never succeed as it stands).
"""

from typing import Protocol

import msgspec

from unlost.listener.core.store_mark import StoreMark


class Member(msgspec.Struct, frozen=True):
    """Another listener, what its handler is called, and whether it is at work with it."""

    token: str
    instance_id: str
    handler: str | None
    agreed: bool = True


class MembershipView(msgspec.Struct, frozen=True):
    """What the roll showed to ``token``. ``mine`` is None where this listener has no live row."""

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
        """This listener's number among all that work, from 0 on, and how many they are: the same seen by each."""
        idle = {one.token for one in self.members if not one.agreed}
        tokens = sorted(({*self.peers} - idle) | {self.token})
        return tokens.index(self.token), len(tokens)

    def others(self, handler: str | None) -> list[Member]:
        """Who is at work with another handler than this."""
        return [one for one in self.members if one.agreed and one.handler != handler]


class Membership(Protocol):
    """Which listeners live, and in which places each covers what it holds."""

    life_seconds: float
    """How long a row lives after it was refreshed."""
    handler: str | None
    """What this listener's handler is called."""

    async def refresh(self, known: StoreMark | None = None) -> MembershipView:
        """Say that this listener lives, unless its row has expired, and look at the others.

        ``known``: the store as it was seen last; unless it has gone back since, its version is raised.
        """
        ...

    async def declare(self, places: frozenset[str]) -> MembershipView:
        """Write this listener's places, then look; of two that declare at once, the second sees the first."""
        ...

    async def renew(self, generation: str, version: int) -> None:
        """Replace the store's generation, unless a peer has, by one that has come further than this version."""
        ...

    async def leave(self) -> None:
        """Take this listener's row away."""
        ...
