"""A replay takes letters from files on the event loop. Other tasks have their turns meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.letters import letter, write
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import Sidecar, states
from unlost.dlq.store import files
from unlost.dlq.store.entries import LetterEntry, entry_of
from unlost.dlq.store.files import A_FEW, FileLetters

COUNT = 5 * A_FEW


async def turns_during(work: asyncio.Future[Any]) -> int:
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    return turns


async def test_taking_and_recording_many_letters_keeps_no_other_task_waiting(tmp_path: Path) -> None:
    letters = [letter(f"e{number}") for number in range(2 * COUNT)]
    path = write(tmp_path / "letters.jsonl", letters)
    over, waiting = [[one.letter_id for one in some] for some in (letters[:COUNT], letters[COUNT:])]
    sidecar = Sidecar(path)
    sidecar.append([Record(one, "resolved", 1.0) for one in over])
    sidecar.close()
    async with FileLetters([path]).replaying(Selection(), COUNT - 1, "a test") as taking:
        take = asyncio.ensure_future(taking.take(COUNT))
        assert await turns_during(take) >= 2 * (COUNT - 1) // A_FEW, "also while it passes over resolved letters"
        taken = [one.letter.letter_id for one in take.result()]
        assert taken == waiting[: COUNT - 1], "the limit leaves one out"
        assert await taking.take(1) == []
        record = asyncio.ensure_future(taking.record([Record(one, "resolved", 2.0) for one in taken]))
        assert await turns_during(record) >= COUNT // A_FEW
    assert sum(state.status == "resolved" for state in states(path).values()) == 2 * COUNT - 1


async def test_many_bytes_of_unreadable_letters_do_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "letters.jsonl", [letter(f"e{number}") for number in range(9)])

    def read(*of: Any) -> LetterEntry:
        entry = entry_of(*of)
        return entry if entry.letter.event_id == "e8" else replace(entry, unreadable="no key")

    monkeypatch.setattr(files, "entry_of", read)
    monkeypatch.setattr(files, "BYTES_AT_ONCE", 1)
    async with FileLetters([path]).replaying(Selection(), 0, "a test") as taking:
        assert [one.letter.event_id for one in await taking.take(2)] == ["e8"]
        assert (await taking.take(2), taking.unreadable) == ([], 8)
