"""Stand-ins for a replay: one that runs letters of one key, and the letters that it takes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from msgspec.structs import replace

from tests.support.letters import letter
from unlost.dlq.record.letter_state import OPEN, Record
from unlost.dlq.replay.outcome import FailedAgain, NowStored, Outcome, StillBlocked
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.event import Event


class RerunOfOneKey:
    """For ``Rerun``: one key, whose letters become rows only in this order."""

    at_once = 16

    def __init__(self, order: str, failing: str) -> None:
        self.waiting, self.failing = list(order), failing
        self.at_work: set[str] = set()
        self.runs = ""

    def start(
        self, event: Event, ended: Callable[[Outcome], None], edited: object = None, *, order_key: str | None = None
    ) -> None:
        assert order_key == "k"
        assert not self.at_work, "two events of one key are in progress"
        self.at_work.add(event.event_id)
        self.runs += event.event_id
        asyncio.get_running_loop().call_soon(self._end, event.event_id, ended)

    def _end(self, event_id: str, ended: Callable[[Outcome], None]) -> None:
        self.at_work.clear()
        if self.waiting[0] != event_id:
            ended(StillBlocked())
        elif event_id in self.failing:
            ended(FailedAgain((), "exhausted"))
        else:
            self.waiting.remove(event_id)
            ended(NowStored())

    async def unable(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


class LettersOfOneKey:
    """For ``TakenLetters``."""

    elsewhere = unreadable = 0

    def __init__(self, ids: str) -> None:
        self._left = [LetterEntry(replace(letter(one), order_key="k"), OPEN) for one in ids]
        self.freed = self.recorded = ""

    async def take(self, most: int) -> Sequence[LetterEntry]:
        taken, self._left = self._left[:most], self._left[most:]
        return taken

    async def record(self, records: Sequence[Record]) -> int:
        self.recorded += "".join(one.letter_id[-1] for one in records)
        return 0

    async def free(self, letter_ids: Sequence[str]) -> None:
        self.freed += "".join(one[-1] for one in letter_ids)
