"""The quorum rule: in which places this listener keeps its claims, and when it may start an event. Pure.

A *place* is where claims are kept. It is one Redis, named by its run id, or the claims table of PostgreSQL, named by
its incarnation. The table is unlogged: after a crash it is empty, so it is another place then.

The rule. Each listener declares the places in which it replicates everything it holds. It claims each new event in
all of them. It starts an event only while its places intersect those of every live peer. It replicates first and
declares second. It gives up a place only if it still intersects every peer, and refreshes its view after each change of
its own. So two listeners that could run the same event share a place, and that place grants the event to only one.

    normal          every listener declares the one Redis
    one loses it    it replicates in PostgreSQL, declares that alone, and waits until it intersects all peers;
                    the peers see a peer without their place, replicate in PostgreSQL too, and declare both
    Redis is back   it is replicated and declared beside PostgreSQL; once all share it, PostgreSQL is given up
"""

from collections.abc import Iterable

import msgspec

Place = str
Places = frozenset[Place]


class View(msgspec.Struct, frozen=True):
    """One listener's knowledge when it decides."""

    declared: Places
    peers: tuple[Places, ...]
    redis: Place | None
    postgres: Place


class Step(msgspec.Struct, frozen=True):
    """Replicate everything held in the places ``replicate``, then declare ``declare``.

    Nothing may start before an urgent step is done.
    """

    replicate: tuple[Place, ...]
    declare: Places
    urgent: bool


def intersects(declared: Places, peers: Iterable[Places]) -> bool:
    """Return whether these places share at least one with each peer."""
    return all(declared & peer for peer in peers)


def next_step(view: View) -> Step | None:
    """Return the change to make now, if any."""
    reachable = {view.postgres} | ({view.redis} if view.redis else set())
    if not view.declared:
        return _move(view, frozenset({view.redis or view.postgres}), urgent=True)
    lost = view.declared - reachable
    if lost:  # replicate in PostgreSQL what the lost place kept
        return _move(view, (view.declared & reachable) | {view.postgres}, urgent=True)
    # A peer lacks one of our places: PostgreSQL is the place that both can share.
    if view.postgres not in view.declared and any(not view.declared <= peer for peer in view.peers):
        return _move(view, view.declared | {view.postgres}, urgent=True)
    if view.redis is None:
        return None
    if view.redis not in view.declared:
        return _move(view, view.declared | {view.redis}, urgent=False)
    if view.postgres in view.declared and all(view.redis in peer for peer in view.peers):
        return Step((), view.declared - {view.postgres}, urgent=False)
    return None


def _move(view: View, target: Places, *, urgent: bool) -> Step:
    return Step(tuple(sorted(target - view.declared)), target, urgent)
