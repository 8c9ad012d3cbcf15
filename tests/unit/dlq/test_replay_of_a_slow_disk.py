"""A replay whose outcomes are recorded slowly takes no more letters than it can record soon."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from tests.support.letters import letter
from unlost.dlq.record.letter_state import OPEN, Record
from unlost.dlq.replay.outcome import NowStored, Outcome
from unlost.dlq.replay.plan import ReplayLimits
from unlost.dlq.replay.replaying import CAREFUL, Replay
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.event import Event

COUNT = 500


class AtOnce:
    """For ``Rerun``: each event is stored at once."""

    at_once = 4

    def start(
        self, event: Event, ended: Callable[[Outcome], None], edited: object = None, *, order_key: str | None = None
    ) -> None:
        asyncio.get_running_loop().call_soon(ended, NowStored())

    async def unable(self) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError


class SlowDisk:
    """For ``TakenLetters``: records nothing before ``go_on``."""

    elsewhere = unreadable = 0

    def __init__(self) -> None:
        self.left = [LetterEntry(letter(f"e{number}"), OPEN) for number in range(COUNT)]
        self.go_on = asyncio.Event()
        self.recorded = 0

    async def take(self, most: int) -> Sequence[LetterEntry]:
        taken, self.left = self.left[:most], self.left[most:]
        return taken

    async def record(self, records: Sequence[Record]) -> int:
        await self.go_on.wait()
        self.recorded += len(records)
        return 0

    async def free(self, letter_ids: Sequence[str]) -> None:
        raise AssertionError("nothing is left over")


async def test_letters_wait_while_outcomes_are_not_recorded() -> None:
    disk = SlowDisk()
    replay = Replay(AtOnce(), disk, ReplayLimits(), lambda _: None)  # type: ignore[arg-type]
    running = asyncio.create_task(replay.run())
    for _ in range(20 * COUNT):  # long enough for all, if nothing held them back
        await asyncio.sleep(0)
    assert CAREFUL <= COUNT - len(disk.left) <= CAREFUL + AtOnce.at_once
    disk.go_on.set()
    report = await running
    assert (report.stored, disk.recorded, disk.left) == (COUNT, COUNT, [])
