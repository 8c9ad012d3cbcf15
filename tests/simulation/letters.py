"""The judge of letters: one letter per event and no row beside it, with a few excusable exceptions.

Once a letter is in PostgreSQL's register, no row may follow it, except from a transaction that was open then. Before
that, a letter may stand beside a row, or beside a second letter, only under two conditions. First, each place that its
writer had declared had granted it the claim just before (``CONFIRMED``), or the writer was frozen after that. Second,
one of these applies:

    the row came first     the letter's writer was cut off from PostgreSQL while it held the event, and could not see it
    the row was late       the row's writer had claimed the event before the letter, and was then frozen, or its insert
                           hung on a wire to PostgreSQL that was in trouble
    nobody was informed    the letter's writer was killed, frozen, stopped, or cut off from all these places, after it
                           wrote and before it informed any of them
    a place forgot         the later owner claimed in a place that had been informed, and has lost its memory since
    a place did not hear   or in one that the letter's writer could not tell, because it was in trouble then
                           (``OPEN``), or because the writer was killed, frozen or stopped after telling the other place
    the store went back    and forgot the letter; Redis' knowledge is not trusted any more
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.listener import Start
    from unlost.listener.ports.dead_letters import Burial

CONFIRMED = 1.2
"""Seconds. At most this long takes asking all places, followed by a check of the disk."""
OPEN = 2.0
"""Seconds for which a breaker may stay open after trouble is over."""


class Letter:
    """One letter of a claimed event."""

    __slots__ = ("announced", "at", "confirmed", "letter_id", "process", "registered")

    def __init__(self, process: "Start", letter_id: str, at: float, *, confirmed: bool) -> None:
        self.process = process
        self.letter_id = letter_id
        self.registered: float | None = None
        self.at = at
        self.confirmed = confirmed
        self.announced: set[str] = set()
        """The places that know of the letter."""


class Claimed:
    """The grants of one claim to one process start."""

    __slots__ = ("at", "first", "won", "won_in")

    def __init__(self, now: float) -> None:
        self.first = self.won = now
        self.won_in = ""
        self.at: dict[str, float] = {}
        """When each place last granted it."""


class Letters:
    """All letters of claimed events, and the grants of their claims."""

    def __init__(self) -> None:
        self._claimed: dict[tuple[str, str], Claimed] = {}
        self._written: dict[str, list[tuple[bytes, Letter]]] = {}

        self._went_back = -math.inf

    def went_back(self, now: float) -> None:
        """PostgreSQL has forgotten letters, and Redis' knowledge of them is not trusted."""
        self._went_back = now

    def granted(self, place: str, token: str, claim_id: str, now: float, *, won: bool) -> None:
        """A place granted a claim, for the first time or again."""
        claimed = self._claimed.get((token, claim_id))
        if claimed is None:
            claimed = self._claimed[token, claim_id] = Claimed(now)
        claimed.at[place] = now
        if won:
            claimed.won, claimed.won_in = now, place

    def announced(self, place: str, token: str, claim_id: str) -> None:
        """The writer of a letter announced it to a place."""
        for _, letter in self._written.get(claim_id, ()):
            if letter.process.token == token:
                letter.announced.add(place)

    def of(self, claim_id: str, digest: bytes) -> list[Letter]:
        """The letters of this event."""
        return [letter for content, letter in self._written.get(claim_id, ()) if content == digest]

    def write(self, process: "Start", burial: "Burial", now: float) -> Letter:
        """A letter is written now."""
        confirmed = self._confirmed(process, burial.claim_id, now)
        letter = Letter(process, burial.letter_id, now, confirmed=confirmed)
        self._written.setdefault(burial.claim_id, []).append((burial.digest, letter))
        return letter

    def registered(self, claim_id: str, letter_id: str, now: float) -> None:
        """PostgreSQL knows of this letter."""
        for _, letter in self._written.get(claim_id, ()):
            if letter.letter_id == letter_id and letter.registered is None:
                letter.registered = now

    def _confirmed(self, process: "Start", claim_id: str, now: float) -> bool:
        claimed = self._claimed.get((process.token, claim_id))
        if claimed is None:
            return False
        granted = min(
            (claimed.at.get(place, -math.inf) for place in process.engine.manager.leases.places), default=-math.inf
        )
        return granted + CONFIRMED >= now or process.frozen_since(granted)

    def may_follow_a_row(self, letter: Letter, claim_id: str) -> bool:
        """Whether this letter may be written although a row exists."""
        if letter.at <= self._went_back + OPEN:
            return True
        writer = letter.process
        return letter.confirmed and writer.links[1].troubled_since(self._claimed[writer.token, claim_id].first)

    def may_follow_a_letter(self, later: Letter, letter: Letter, claim_id: str) -> bool:
        """Whether the later of two letters may be written."""
        if letter.at <= self._went_back + OPEN:
            return True
        return later.confirmed and self._may_be_followed(letter, later.process, claim_id, late=False)

    def may_be_beside(self, letter: Letter, by: "Start", claim_id: str) -> bool:
        """Whether this process may write a row although this letter exists."""
        if letter.at <= self._went_back + OPEN:
            return True
        if letter.registered is not None:
            return self._claimed[by.token, claim_id].won <= letter.registered  # its transaction was open then
        return self._may_be_followed(letter, by, claim_id, late=self._hung(by, claim_id))

    def _hung(self, by: "Start", claim_id: str) -> bool:
        claimed = self._claimed.get((by.token, claim_id))
        return claimed is not None and by.links[1].troubled_since(claimed.first)

    def _may_be_followed(self, letter: Letter, by: "Start", claim_id: str, *, late: bool) -> bool:
        claimed = self._claimed.get((by.token, claim_id))
        if not letter.confirmed or claimed is None:
            return False
        place = claimed.won_in
        if claimed.won <= letter.at:
            return late or by.frozen_since(claimed.first)
        writer = letter.process
        interrupted = not writer.alive or writer.stopping or writer.frozen_since(letter.at)
        if not letter.announced:
            return interrupted or all(link.troubled_since(letter.at) for link in writer.links)
        kind = place.partition(":")[0]
        if any(one.startswith(kind) for one in letter.announced):
            return place not in letter.announced
        return interrupted or writer.links[kind == "postgres"].troubled_since(letter.at - OPEN)
