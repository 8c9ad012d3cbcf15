"""Turns: of several listeners that hear the same events, which asks first for which.

Each asks at once for its own share, and for its peers' a moment later and when nothing of its own waits: by then most
of it is settled, and one question ends what would have been asked for twice. Nothing but speed depends on it. A peer
that does not take its share (it died, it is slow, it hears other events) is waited for no more until it does, and who
has nothing else to do takes from it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from listener.pipeline.inbox import Inbox
from listener.pipeline.passage import Passage

GATHER = 0.02
WORTH_WAITING = 0.2
"""Waiting goes on while peers take at least this part of their share."""


class Turns:
    """Stands in front of the claiming's inbox."""

    def __init__(self, inbox: Inbox[Passage], *, is_own: Callable[[str], bool], peer_wait: float) -> None:
        """Make one, that waits for peers so many seconds; or never, with 0."""
        self._peer_wait = peer_wait
        self._inbox = inbox
        self._is_own = is_own
        self._later: deque[tuple[float, Passage]] = deque()
        self._waits = True

    def put_all(self, passages: Sequence[Passage]) -> None:
        """Have these claimed, each now or after its peer had a chance. What is revived, nobody else asks for."""
        own: list[Passage] = []
        of_peers: list[Passage] = []
        for passage in passages:
            passage.of_peer = not passage.revive and not self._is_own(passage.ask.event_id)
            (of_peers if passage.of_peer and self._peer_wait else own).append(passage)
        if own:
            self._inbox.put_all(own)
        if of_peers and self._waits:
            self._put_later(of_peers)
        elif of_peers:
            self._inbox.put_behind(of_peers)

    def _put_later(self, passages: Sequence[Passage]) -> None:
        loop = asyncio.get_running_loop()
        if not self._later:
            loop.call_later(self._peer_wait, self._pass_on)
        due = loop.time() + self._peer_wait
        self._later.extend([(due, passage) for passage in passages])

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER
        due = []
        while self._later and self._later[0][0] <= until:
            due.append(self._later.popleft()[1])
        self._inbox.put_behind(due)
        if self._later:
            loop.call_at(self._later[0][0], self._pass_on)

    def heard(self, won: Sequence[bool]) -> None:
        """Of peers' events that were asked for the first time, which were won."""
        if won:
            self._waits = won.count(False) >= len(won) * WORTH_WAITING
