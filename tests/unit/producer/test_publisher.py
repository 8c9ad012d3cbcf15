"""Group commit: one commit at a time, and everything that waits meanwhile goes into the next."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from unlost.producer.journal.port import JournalError, Placed, Written
from unlost.producer.journal.publications import DIGEST_BYTES, Publication, Publications
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.publish.publisher import ENOUGH, MOST_WAITING, GroupCommit, Overloaded


def publication(name: str) -> Publication:
    return Publication(name, bytes(DIGEST_BYTES), b"{}")


class SlowJournal(SqliteJournal):
    """Commits when the test allows it, and fails when the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.let = threading.Event()
        self.sizes: list[int] = []
        self.error: Exception | None = None

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        self.let.wait(30)
        self.sizes.append(sum(map(len, groups)))
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().append(groups, at)

    def append_at_once(self, groups: Sequence[Publications], at: float) -> None:
        """Never here: it would block the test's loop."""


class Scene:
    """A publisher, and what it reported."""

    def __init__(self, journal: SlowJournal) -> None:
        self.journal = journal
        self.numbers: list[int] = []
        self.errors: list[JournalError] = []
        self.publisher = GroupCommit(
            journal,
            placed=lambda newest, entries: self.numbers.extend(entry.number for entry in entries),
            committed=lambda count, seconds: None,
            failed=self.errors.append,
        )
        self.run = asyncio.create_task(self.publisher.run())

    def place(self, *names: str, together: object = None, owner: object = None) -> "asyncio.Future[Sequence[Placed]]":
        publications = [publication(name) for name in names]
        return self.publisher.place(publications, together=together, owner=owner)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(SlowJournal(tmp_path / "journal.sqlite3"))
    yield scene
    scene.journal.let.set()
    scene.run.cancel()
    with contextlib.suppress(asyncio.CancelledError, ZeroDivisionError):
        await scene.run
    scene.journal.close()


async def test_publications_during_a_commit_share_the_next_one(scene: Scene) -> None:
    first = scene.place("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [scene.place(name) for name in "bcd"]
    scene.journal.let.set()
    placed = [await future for future in (first, *others)]
    assert [one.status for (one,) in placed] == ["accepted"] * 4
    assert scene.journal.sizes == [1, 3]
    assert scene.numbers == [1, 2, 3, 4]


async def test_events_of_one_turn_share_a_commit(scene: Scene) -> None:
    await asyncio.sleep(0)
    futures = [scene.place(name) for name in "abc"]
    scene.journal.let.set()
    await asyncio.gather(*futures)
    assert scene.journal.sizes == [3]


async def test_the_oldest_large_body_is_committed_whole_and_alone(scene: Scene) -> None:
    def part(of: str) -> "asyncio.Future[Sequence[Placed]]":
        return scene.place(*(f"{of}-{next(numbers)}" for _ in range(ENOUGH // 2)), together=of)

    numbers = count()
    first = scene.place("first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    parts = [part(of) for of in "ababba"]
    last = scene.place("last")
    scene.journal.let.set()
    await asyncio.gather(first, last, *parts)
    assert scene.journal.sizes == [1, ENOUGH // 2 * 3, ENOUGH // 2 * 3, 1]


async def test_an_owner_with_one_event_waits_for_one_commit_however_many_others_wait(scene: Scene) -> None:
    first = scene.place("first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    flood = [scene.place(*(f"{body}-{n}" for n in range(ENOUGH)), together=body, owner="flood") for body in "abc"]
    lone = scene.place("lone", owner="lone")
    scene.journal.let.set()
    await asyncio.gather(first, lone, *flood)
    assert scene.journal.sizes == [1, ENOUGH, 1 + ENOUGH, ENOUGH]


async def test_an_owner_that_floods_leaves_room_for_others(scene: Scene) -> None:
    first = scene.place("first")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    flood = [
        scene.place(*(f"{body}-{n}" for n in range(1_000)), owner="flood") for body in range(MOST_WAITING // 2_000)
    ]
    with pytest.raises(Overloaded):
        scene.place("more", owner="flood")
    lone = scene.place("lone", owner="lone")
    scene.journal.let.set()
    await asyncio.gather(first, lone, *flood)


async def test_an_error_reaches_those_it_concerns_and_nobody_else(scene: Scene) -> None:
    scene.journal.error = JournalError("no room")
    first = scene.place("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = scene.place("b")
    scene.journal.let.set()
    with pytest.raises(JournalError):
        await first
    assert [one.status for one in await second] == ["accepted"]
    assert [str(error) for error in scene.errors] == ["no room"]


async def test_the_publisher_finishes_what_it_took_before_it_ends(scene: Scene) -> None:
    placing = scene.place("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.run.cancel()
    await asyncio.sleep(0)
    assert not scene.run.done()
    scene.journal.let.set()
    with pytest.raises(asyncio.CancelledError):
        await scene.run
    assert [one.status for one in placing.result()] == ["accepted"]


async def test_a_defect_ends_the_publisher(scene: Scene) -> None:
    scene.journal.error = ZeroDivisionError()
    placing = scene.place("a")
    scene.journal.let.set()
    with pytest.raises(ZeroDivisionError):
        await scene.run
    with pytest.raises(ZeroDivisionError):
        await placing


class TalkativeJournal(SqliteJournal):
    """Records which call came from which thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.calls: list[str] = []

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        self.calls.append(f"append on {threading.current_thread().name}")
        return super().append(groups, at)

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:
        self.calls.append(f"at once on {threading.current_thread().name}")
        return super().append_at_once(groups, at)


@contextlib.asynccontextmanager
async def publishing(journal: SqliteJournal, *, quick: float) -> AsyncIterator[tuple[GroupCommit, list[int]]]:
    """A publisher with this limit for quick commits, and the numbers that it reported."""
    numbers = list[int]()
    publisher = GroupCommit(
        journal,
        placed=lambda newest, entries: numbers.extend(entry.number for entry in entries),
        committed=lambda count, seconds: None,
        failed=lambda error: None,
        quick=quick,
    )
    run = asyncio.create_task(publisher.run())
    yield publisher, numbers
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    journal.close()


async def published(publisher: GroupCommit, *names: str) -> list[str]:
    return [one.status for one in await publisher.publish([publication(name) for name in names])]


@pytest.mark.parametrize(
    ("quick", "calls"),
    [
        (60.0, ["append on journal-writer", *["at once on MainThread"] * 3, "append on journal-writer"]),
        (0.0, ["append on journal-writer"] * 4),
    ],
)
async def test_few_are_committed_where_they_stand_while_the_disk_is_quick(
    tmp_path: Path, quick: float, calls: list[str]
) -> None:
    journal = TalkativeJournal(tmp_path / "journal.sqlite3")
    async with publishing(journal, quick=quick) as (publisher, numbers):
        assert await published(publisher, "a") == ["accepted"]
        assert await published(publisher, "b", "c") == ["accepted"] * 2
        assert await published(publisher, "d") == ["accepted"]
        assert await published(publisher, "d", "e") == ["duplicate", "accepted"]
        assert journal.calls == calls
        assert numbers == [1, 2, 3, 4, 5]


async def test_entries_reach_the_tail_in_their_order_whoever_commits(tmp_path: Path) -> None:
    journal = TalkativeJournal(tmp_path / "journal.sqlite3")
    async with publishing(journal, quick=60.0) as (publisher, numbers):
        futures = []
        for number in range(60):
            size = ENOUGH if number % 7 == 3 else 1
            futures.append(publisher.place([publication(f"{number}-{one}") for one in range(size)]))
            if number % 5:
                await asyncio.sleep(0)
            if number % 11 == 10:
                await futures[-1]
        await asyncio.gather(*futures)
        assert numbers == list(range(1, sum([len(future.result()) for future in futures]) + 1))
        assert set(journal.calls) == {"append on journal-writer", "at once on MainThread"}
