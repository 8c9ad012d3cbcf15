"""Configuration mistakes in a group, found by comparing what each member declares in the membership. Pure.

These mistakes break no promise, so they stop nothing. Members with different Redis databases share claims only in
PostgreSQL, which is slow. If two processes have one INSTANCE_ID, no log line, metric or row shows which of them wrote
it. A restart or a failover looks the same for some seconds, so only a lasting difference is a mistake.
"""

from collections.abc import Iterator, Sequence

from unlost.listener.claims.quorum import Places
from unlost.listener.ports.membership import MembershipView

LASTS_SECONDS = 10.0
"""Longer than a killed process stays in the membership, and than peers need to notice that a Redis is another one."""


def differences(view: MembershipView) -> Iterator[str]:
    """Yield one sentence for each mistake in this view."""
    mine = _instance(view.token)
    if any(member.instance_id == mine for member in view.members):  # a replay is no member, and may borrow the name
        yield f"another process of this group has the same INSTANCE_ID, {mine}: give each listener one of its own"
    for token, places in sorted(view.peers.items()):
        peer = _instance(token)
        ours, theirs = _redis(view.mine or frozenset()), _redis(places)
        if ours and theirs and not ours & theirs:
            where = "another database of this Redis" if _servers(ours) & _servers(theirs) else "another Redis"
            yield f"listener {peer} keeps its claims in {where} than this one: give both the same REDIS_URL"


class Members:
    """Remembers since when each difference has been seen without interruption."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._now = 0.0

    def seen(self, view: MembershipView, now: float) -> None:
        """Record a view of the membership."""
        self._now = now
        self._since = {one: self._since.get(one, now) for one in differences(view)}

    def warnings(self) -> Sequence[str]:
        """Return the differences that last."""
        return [one for one, since in self._since.items() if self._now - since >= LASTS_SECONDS]


def _instance(token: str) -> str:
    return token.rpartition(":")[0]


def _redis(places: Places) -> Places:
    return frozenset(place for place in places if place.startswith("redis:"))


def _servers(places: Places) -> frozenset[str]:
    """Return the run ids in names like ``redis:<run id>.<mark>+<run id>.<mark>``."""
    return frozenset(one.partition(".")[0] for place in places for one in place.removeprefix("redis:").split("+"))
