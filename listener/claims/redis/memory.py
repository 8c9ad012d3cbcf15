"""For how long settled events are remembered, by how full a Redis is. Pure.

Redis may forget settled events: their rows or burials are in PostgreSQL, which is queried before a handler runs. So as
Redis fills up, events are remembered for a shorter time, and no claim is refused.
"""

ROOMY, NEARLY_FULL, FULL = 0.6, 0.9, 0.95
"""Shares of the memory. Up to the first nothing changes. From the second on, old settled events are removed too. From
the third on, an event that is settled leaves nothing behind, and makes room for the next claim."""
ENOUGH = 0.85
"""Removal stops at this share."""
SHORTEST_SECONDS = 60.0
"""The shortest time: peers that read the same stream a little later still find an event settled."""


def remembered_seconds(fill: float, window: float) -> float:
    """Return how long an event that is settled now is remembered, at most ``window``."""
    shortest = min(SHORTEST_SECONDS, window)
    if fill >= FULL:
        return 0.0
    share = (NEARLY_FULL - fill) / (NEARLY_FULL - ROOMY)
    return float(shortest * (window / shortest) ** min(1.0, max(0.0, share)))
