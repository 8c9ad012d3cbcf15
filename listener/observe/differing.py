"""Notices that events whose ids are hashes differ for each connection, so that each listener stores its own copy.

Listeners that receive the same events find their peers' events settled. If each of them stores everything that it
receives, the hashes differ: a sequence number, a send time or a retry counter is part of the content. Owns two counts.
Calls no server: the caller knows what the peers have stored.
"""

import re

from unlost.listener.core.facts import EventsDiffer, EventsDuplicate, EventsStored, Fact, Facts, FramesUnread

LEAST = 100
"""The least number of stored events that is judged."""
MOST_KNOWN = 0.02
LEAST_OF_PEERS = 0.25
"""Shares of the stored events: events that were settled before, and events that peers stored meanwhile."""
IN_A_ROW = 2
"""How many checks in a row must agree: one may fall between the end of a listener and the start of the next."""
_HASH = re.compile(r"[0-9a-f]{64}")


class Differing:
    """Counts events whose ids are hashes. Each judgement is about the time since the last one."""

    subscribes_to = frozenset((EventsStored, EventsDuplicate, FramesUnread))

    def __init__(self) -> None:
        self._stored = self._known = self._in_a_row = 0

    def __call__(self, fact: Fact) -> None:
        """Count a fact. In a batch, the first id represents all."""
        match fact:
            case EventsStored(event_ids=ids) if ids and _HASH.fullmatch(ids[0]):
                self._stored += len(ids)
            case EventsDuplicate(event_ids=ids) if ids and _HASH.fullmatch(ids[0]):
                self._known += len(ids)
            case FramesUnread(count=count):
                self._known += count
            case _:
                pass

    @property
    def suspects(self) -> bool:
        """Whether hardly anything was settled before, so that the peers' events should be counted."""
        return self._stored >= LEAST and self._known <= MOST_KNOWN * (self._stored + self._known)

    def judge(self, of_peers: int, facts: Facts) -> None:
        """Judge the time since the last judgement. ``of_peers``: events with hashes as ids that peers stored in it."""
        stored, known, suspects = self._stored, self._known, self.suspects
        self._stored = self._known = 0
        self._in_a_row = self._in_a_row + 1 if suspects and of_peers >= LEAST_OF_PEERS * stored else 0
        if self._in_a_row == IN_A_ROW:
            self._in_a_row = 0
            facts(EventsDiffer(stored, known, of_peers))
