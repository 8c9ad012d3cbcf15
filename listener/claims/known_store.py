"""Which store PostgreSQL is, as far as this listener and Redis know, and what to do when it went back.

Nothing that Redis remembers of another store is believed. A store that went back gets a new generation, of which no
place remembers anything. So does a store that Redis does not confirm to a new listener: it may have gone back, and
peers see which of both it was. ``core/store_mark.py`` decides whether PostgreSQL went back. This module carries the
decision out.
"""

from collections.abc import Callable

from unlost.listener.claims.backends import ClaimBackends
from unlost.listener.core.facts import Fact, Facts, StoreReplaced, StoreUnconfirmed, StoreWentBack
from unlost.listener.core.store_mark import Remembered, StoreMark, change
from unlost.listener.ports.membership import Membership, MembershipView


class KnownStore:
    """Used in each round of ``ClaimManager``, which passes on each view of the membership by ``see``."""

    def __init__(
        self, *, membership: Membership, backends: ClaimBackends, read_again: Callable[[], None], facts: Facts
    ) -> None:
        self._membership = membership
        self._backends = backends
        self._read_again = read_again
        """Called in the step that finds that PostgreSQL is another store, or went back."""
        self._facts = facts
        self.mark: StoreMark | None = None
        """The mark that was seen last."""
        self._confirmed = False
        """Whether this is known to be the same store as before: Redis confirmed it, or this process always saw it."""
        self._remembered: Remembered | None = None

    @property
    def name(self) -> str:
        """The store's short name, without its version; empty before the first look."""
        return "" if self.mark is None else self.mark.name

    @property
    def left_behind(self) -> bool:
        """Whether Redis shows that peers moved on to a PostgreSQL that this listener has not seen yet.

        Redis keeps this listener's claims under the previous store, where no peer looks any more.
        """
        mark, known = self.mark, self._remembered
        return mark is not None and known is not None and known.version > mark.version and known.name != mark.name

    @property
    def _further(self) -> int:
        return 0 if self._remembered is None else self._remembered.version

    async def refresh_membership(self) -> MembershipView:
        """Refresh the membership. Raise the store's version too, if the store is known."""
        view = await self._membership.refresh(self.mark if self._confirmed else None)
        return await self._renewed(view.store) if change(self.mark, view.store) == "back" else view

    async def _renewed(self, seen: StoreMark, *, unconfirmed: bool = False) -> MembershipView:
        """Start a new generation of the store, of which no place remembers anything."""
        reached = max(seen.version, self.mark.version if self.mark else 0)
        await self._membership.renew(seen.generation, reached, unconfirmed=unconfirmed)
        self._confirmed = True
        return await self._membership.refresh()

    async def look_for_redis(self) -> bool:
        """Use the Redis that answers, unless what it remembers of the store is a reason to doubt PostgreSQL.

        Return whether there is such a reason. A listener that has just started doubts every store that Redis does not
        confirm.
        """
        if (mark := self.mark) is None:
            return False
        found = await self._backends.look_for_redis(mark)
        if found is None:
            return not self._confirmed and self._backends.redis_is_away
        place, self._remembered = found
        is_new = mark.version == 0  # nobody has raised its version, so nobody remembers anything of it
        if (self._remembered is None and not self._confirmed and not is_new) or self._further > mark.version:
            return True
        self._backends.redis, self._confirmed = place, True
        return False

    async def look_again(self) -> MembershipView:
        """Refresh again: a peer may just have raised the version. Otherwise start a new generation, to be safe."""
        view = await self._membership.refresh()
        if self._remembered is not None and view.store.version >= self._further:
            return view
        return await self._renewed(view.store, unconfirmed=self._remembered is None)

    def see(self, seen: StoreMark) -> None:
        """Record the store as seen now. After a change, Redis's memory is not believed, and events are read again."""
        known, what = self.mark, change(self.mark, seen)
        if what == "back":
            self._backends.lost.set()  # the next round starts a new generation
            return
        self.mark = seen
        if known is None or what == "other":
            self._backends.file_under(seen.name)
        if known is not None and what == "other":
            self._read_again()
            self._facts(_said_of(known, seen))


def _said_of(known: StoreMark, seen: StoreMark) -> Fact:
    if seen.generation == known.generation:
        return StoreReplaced(seen.incarnation)
    return StoreUnconfirmed(seen.generation) if seen.unconfirmed else StoreWentBack(seen.generation)
