"""The healer: settles the events that an earlier start of this instance could not settle when it was stopped.

Letters with the reason ``stopped`` hold events that nobody refused. They are offered to the pipeline as if just
received, behind everything from the source, and go through the same claims and the same handler. The outcome (a row, a
peer's row, another letter) is on disk before the letter is marked as resolved. Only a few are in memory at a time. If
the process is killed in between, the next start begins again. If PostgreSQL went back and lost such rows, their letters
wait again and are settled again.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Facts, LettersResolved
from unlost.listener.core.in_flight import Buried, InFlight, Stored
from unlost.listener.pipeline.intake import Intake
from unlost.listener.ports.dead_letters import StoppedLetter, StoppedLetters

AGAIN_SECONDS = 5.0
Ended = asyncio.Queue[tuple[str, InFlight]]


class Healer:
    """Offers all waiting letters once, and again after each ``again``."""

    def __init__(self, *, intake: Intake, letters: StoppedLetters, who: str, facts: Facts) -> None:
        """Make one. ``who`` is recorded with what was resolved."""
        self._intake = intake
        self._letters = letters
        self._who = who
        self._facts = facts
        self._requested = asyncio.Event()
        self._requested.set()
        self._busy = True

    @property
    def done(self) -> bool:
        """Whether every letter that waited has ended."""
        return not self._busy and not self._requested.is_set()

    def again(self) -> None:
        """Offer the letters again: some may wait again."""
        self._requested.set()

    async def run(self) -> None:
        """Offer all waiting letters, each time this is requested, until cancelled."""
        while True:
            self._busy = False
            await self._requested.wait()
            self._busy = True
            self._requested.clear()
            try:
                async with contextlib.aclosing(self._letters.stopped()) as letters:
                    async for some in letters:
                        await self._heal(some)
            except Transient:
                await asyncio.sleep(AGAIN_SECONDS)
                self._requested.set()

    async def _heal(self, some: Sequence[StoppedLetter]) -> None:
        ended: Ended = asyncio.Queue()
        for one in some:
            await self._intake.wait_for_room()
            self._intake.offer_behind(one.frame, partial(_note, ended, one.letter_id))
        resolved: defaultdict[str, list[str]] = defaultdict(list)
        for _ in some:
            letter_id, flight = await ended.get()
            resolved[self._why(flight)].append(letter_id)
        for why, letter_ids in resolved.items():
            if waited := await self._letters.resolve(letter_ids, why):
                self._facts(LettersResolved(waited, why))

    def _why(self, flight: InFlight) -> str:
        match flight.end:
            case Stored():
                return f"stored by {self._who}"
            case Buried():
                return f"another letter of the same event waits, written by {self._who}"
            case _:
                return f"settled already, as {self._who} found"


def _note(ended: Ended, letter_id: str, flight: InFlight) -> None:
    ended.put_nowait((letter_id, flight))
