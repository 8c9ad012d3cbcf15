"""Whether all live listeners of a group have the same handler. Until they do, a new listener starts nothing."""

import asyncio
from collections.abc import Sequence

from unlost.listener.ports.membership import Member, MembershipView


class Agreement:
    """The handlers in the last view of the membership."""

    def __init__(self, handler: str | None) -> None:
        self._handler = handler
        self._view: MembershipView | None = None
        self._reached = asyncio.Event()
        self._was_reached = False
        self.displaced = asyncio.Event()
        """Set once peers took this listener for dead and work with another handler: it must restart."""

    @property
    def reached(self) -> bool:
        """Whether no live peer works with another handler."""
        return self._reached.is_set()

    @property
    def members(self) -> Sequence[Member]:
        """The other listeners of the group, as last seen."""
        return () if self._view is None else self._view.members

    async def wait(self) -> None:
        """Return once agreement is reached."""
        await self._reached.wait()

    def see(self, view: MembershipView) -> None:
        """Record a view of the membership."""
        self._view = view
        if view.agreed:
            self._was_reached = True
            self._reached.set()
            return
        self._reached.clear()
        if self._was_reached and view.mine is not None:
            self.displaced.set()

    def may_be_reached(self, view: MembershipView) -> bool:
        """Return whether every listener with another handler is gone, so that this one may declare itself again."""
        return not view.agreed and not view.others(self._handler)

    def why_not(self) -> str:
        """Return why nothing may start: mostly, which listener has another handler than this one."""
        if self.reached or self._view is None:
            return ""
        others = self._view.others(self._handler)
        if self._view.mine is None and not others:
            return "this listener's entry among the live listeners has expired, and it enters itself again"
        theirs = ", ".join(f"listener {one.instance_id} has {_named(one.handler)}" for one in others)
        return (
            f"another handler is at work: this listener has {_named(self._handler)}, {theirs or 'a peer had another'}; "
            "start it with the same, or with HANDLER_CHANGE=yes to change the group's"
        )


def _named(handler: str | None) -> str:
    return handler or "no handler"
