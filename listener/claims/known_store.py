"""The store that PostgreSQL is, as far as this listener and Redis know it, and what is done where it went back.

What Redis remembers of another store is not believed. A store that went back gets another generation, of which nobody
remembers anything. ``store/mark.py`` decides what a look at PostgreSQL means; this module carries it out.
"""

from collections.abc import Callable

from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.core.facts import Facts, StoreReplaced, StoreWentBack
from unlost.listener.core.store_mark import Remembered, StoreMark, change
from unlost.listener.ports.membership import Membership, MembershipView


class KnownStore:
    """Asked in each round of the desk, which passes on each look at the roll by ``see``."""

    def __init__(self, *, membership: Membership, backends: ClaimBackends, facts: Facts) -> None:
        self._membership = membership
        self._backends = backends
        self._facts = facts
        self.mark: StoreMark | None = None
        """As it was seen last."""
        self._vouched = False
        """Whether the store is known to be the one that it was: Redis said so, or it was seen all along."""
        self._remembered: Remembered | None = None
        self.on_other: Callable[[], None] = lambda: None
        """Called in the very step in which PostgreSQL turns out to be another store, or to have gone back."""

    @property
    def left_behind(self) -> bool:
        """Whether peers, as Redis tells, have gone on to a PostgreSQL that this listener has not seen yet.

        What Redis keeps for this listener is kept for the one before, so nobody heeds it.
        """
        mark, known = self.mark, self._remembered
        return mark is not None and known is not None and known.version > mark.version and known.name != mark.name

    @property
    def _further(self) -> int:
        return 0 if self._remembered is None else self._remembered.version

    async def look_at_roll(self) -> MembershipView:
        """Look, and take the store further if it is known."""
        look = await self._membership.refresh(self.mark if self._vouched else None)
        return await self._renewed(look.store) if change(self.mark, look.store) == "back" else look

    async def _renewed(self, seen: StoreMark) -> MembershipView:
        """Have the store begin another generation, of which nobody remembers anything."""
        await self._membership.renew(seen.generation, max(seen.version, self.mark.version if self.mark else 0))
        self._vouched = True
        return await self._membership.refresh()

    async def look_for_redis(self) -> bool:
        """Take Redis as it is, unless what it remembers of the store is a reason to doubt it; whether there is one.

        A listener that has just started doubts each store of which Redis does not say that it is the one it was.
        """
        if (mark := self.mark) is None:
            return False
        found = await self._backends.look_for_redis(mark)
        if found is None:
            return not self._vouched and self._backends.redis_is_away
        place, self._remembered = found
        is_new = mark.version == 0  # nobody has taken it further, so nobody remembers anything of it
        if (self._remembered is None and not self._vouched and not is_new) or self._further > mark.version:
            return True
        self._backends.redis, self._vouched = place, True
        return False

    async def look_again(self) -> MembershipView:
        """A peer may have taken the store so far just now; else it went back, or nobody can tell."""
        look = await self._membership.refresh()
        if self._remembered is not None and look.store.version >= self._further:
            return look
        return await self._renewed(look.store)

    def see(self, seen: StoreMark) -> None:
        """What Redis knows of another store is not believed, and what was read for it is read again."""
        known, what = self.mark, change(self.mark, seen)
        if what == "back":
            self._backends.lost.set()  # the next round gives it another generation
            return
        self.mark = seen
        if known is None or what == "other":
            self._backends.file_under(seen.name)
        if known is not None and what == "other":
            self.on_other()
            went_back = seen.generation != known.generation
            self._facts(StoreWentBack(seen.generation) if went_back else StoreReplaced(seen.incarnation))
