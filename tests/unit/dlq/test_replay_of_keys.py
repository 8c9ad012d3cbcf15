"""A replay runs letters of one key one after another, whatever order it takes them in."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

import pytest
from msgspec.structs import replace

from tests.support.letters import letter
from unlost.dlq.commands.render import print_report
from unlost.dlq.record.sidecar import OPEN, Record
from unlost.dlq.replay.outcome import FailedAgain, NowStored, Outcome, StillBlocked
from unlost.dlq.replay.plan import ReplayLimits, ReplayReport
from unlost.dlq.replay.replaying import Replay
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.event import Event


class Keyed:
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


class Taken:
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


@pytest.mark.parametrize(
    ("order", "taken", "failing", "runs", "stored", "behind"),
    [
        ("abc", "abc", "", "abc", 3, ""),
        ("abc", "bac", "", "bac", 1, "bc"),
        ("abc", "abc", "b", "ab", 1, "c"),
        ("abc", "bc", "", "bc", 0, "bc"),
    ],
)
async def test_letters_of_a_key(order: str, taken: str, failing: str, runs: str, stored: int, behind: str):
    rerun, letters = Keyed(order, failing), Taken(taken)
    replay = Replay(rerun, letters, ReplayLimits(), lambda _: None)  # type: ignore[arg-type]
    report: ReplayReport = await replay.run()
    assert (rerun.runs, report.stored, report.behind, letters.freed) == (runs, stored, len(behind), behind)
    assert report.exit_code() == (1 if behind else 0)


def test_a_letter_behind_another_of_its_key_is_reported_as_blocked(capsys: pytest.CaptureFixture[str]):
    print_report(ReplayReport(behind=1), 1)
    said = capsys.readouterr().out
    assert "blocked      1 by an earlier letter of the same key, see dlq keys" in said
    assert "not reached" not in said
