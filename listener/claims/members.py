"""Mistakes in how the members of a group are set up, found by comparing what each declares on the roll. Pure.

Nothing breaks by them, so nothing stops: members on different Redis databases meet in PostgreSQL, which is slow; of two
processes with one INSTANCE_ID nobody can tell which one a log line, a metric or a row is of. A restart or a failover
looks alike for some seconds, so only what lasts is a mistake.
"""

from collections.abc import Iterator, Sequence

from unlost.listener.claims.quorum import Places
from unlost.listener.ports.membership import MembershipView

LASTS_SECONDS = 10.0
"""Longer than a killed process stays on the roll, and than peers take to see that a Redis is another one."""


def differences(look: MembershipView) -> Iterator[str]:
    """What is not as it should be in this look, in sentences."""
    mine = _instance(look.token)
    if any(member.instance_id == mine for member in look.members):  # a replay is none, and may borrow the name
        yield f"another process of this group has the same INSTANCE_ID, {mine}: give each listener one of its own"
    for token, places in sorted(look.peers.items()):
        peer = _instance(token)
        ours, theirs = _redis(look.mine or frozenset()), _redis(places)
        if ours and theirs and not ours & theirs:
            where = "another database of this Redis" if _servers(ours) & _servers(theirs) else "another Redis"
            yield f"listener {peer} keeps its claims in {where} than this one: give both the same REDIS_URL"


class Members:
    """Remembers since when each difference has been seen in every look."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._now = 0.0

    def seen(self, look: MembershipView, now: float) -> None:
        """The roll was looked at."""
        self._now = now
        self._since = {one: self._since.get(one, now) for one in differences(look)}

    def warnings(self) -> Sequence[str]:
        """Those that last."""
        return [one for one, since in self._since.items() if self._now - since >= LASTS_SECONDS]


def _instance(token: str) -> str:
    return token.rpartition(":")[0]


def _redis(places: Places) -> Places:
    return frozenset(place for place in places if place.startswith("redis:"))


def _servers(places: Places) -> frozenset[str]:
    """The run ids in names like ``redis:<run id>.<mark>+<run id>.<mark>``."""
    return frozenset(one.partition(".")[0] for place in places for one in place.removeprefix("redis:").split("+"))
