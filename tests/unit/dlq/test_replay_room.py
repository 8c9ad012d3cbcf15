"""A replay runs as many letters as its handler bears, also when the handler turns out to be slow meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from tests.support.letters import letter
from unlost.dlq.record.letter_state import OPEN, Record
from unlost.dlq.replay.outcome import NowStored, Outcome
from unlost.dlq.replay.plan import ReplayLimits
from unlost.dlq.replay.replaying import Replay
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.event import Event

BEFORE, AFTER, LETTERS = 100, 20, 110


class SlowerRerun:
    """For ``Rerun``: it bears fewer letters once it has many. They end one after another."""

    def __init__(self) -> None:
        self.at_once = BEFORE
        self._ends: list[Callable[[Outcome], None]] = []

    def start(
        self, event: Event, ended: Callable[[Outcome], None], edited: object = None, *, order_key: str | None = None
    ) -> None:
        self._ends.append(ended)
        if len(self._ends) == 1:
            asyncio.get_running_loop().call_soon(self._end_one)

    def _end_one(self) -> None:
        self.at_once = AFTER
        self._ends.pop(0)(NowStored())
        if self._ends:
            asyncio.get_running_loop().call_soon(self._end_one)

    async def unable(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


class Letters:
    """For ``TakenLetters``."""

    elsewhere = unreadable = 0

    def __init__(self) -> None:
        self._left = [LetterEntry(letter(f"e{number}"), OPEN) for number in range(LETTERS)]
        self.asked = list[int]()

    async def take(self, most: int) -> Sequence[LetterEntry]:
        self.asked.append(most)
        taken, self._left = self._left[:most], self._left[most:]
        return taken

    async def record(self, records: Sequence[Record]) -> int:
        return len(records)

    async def free(self, letter_ids: Sequence[str]) -> None:
        raise AssertionError(letter_ids)


async def test_a_handler_that_turns_out_to_be_slow_leaves_no_letters():
    letters = Letters()
    replay = Replay(SlowerRerun(), letters, ReplayLimits(), lambda _: None)  # type: ignore[arg-type]
    report = await replay.run()
    assert min(letters.asked) > 0
    assert report.stored == LETTERS
