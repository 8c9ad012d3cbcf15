"""The registrar: in the end an event is one row, or one letter that waits. Real files, a real PostgreSQL."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from dlq.file import DeadLetterFile, Located, read_letters
from dlq.sidecar import OPEN, Record, Sidecar, sidecar_path, states
from listener.errors import Failure, Transient
from listener.event import Event, parse
from listener.facts import Fact, LettersResolved
from listener.graveyard import FileGraveyard
from listener.pipeline import registrar as registrar_module
from listener.pipeline.intake import Clocks
from listener.pipeline.passage import Doom, Passage, invalid_claim
from listener.pipeline.registrar import Registrar
from listener.store.burials import Burial, BurialRegister, Standing
from listener.store.database import Database
from listener.store.events import EventStore, NewRow
from listener.store.migrations import migrate

LOOK_AGAIN = 0.3


def event(event_id: str) -> Event:
    return parse(f'{{"event_id": "{event_id}", "payload": 1}}', max_bytes=1000)


def passage(event_id: str, reason: str = "exhausted") -> Passage:
    one = event(event_id)
    doomed = Passage(one, invalid_claim(one.digest), None, received_at=time.time(), received_clock=0.0)
    if reason != "invalid":
        doomed.ask = type(doomed.ask)(event_id, one.digest)
    doomed.doom = Doom(reason, "store")  # type: ignore[arg-type]
    doomed.attempts.append(Failure(time.time(), "store", "transient", "Trouble", "it failed"))
    return doomed


class Noted:
    """A register whose answers are noted."""

    def __init__(self, yard: "Yard", register: BurialRegister) -> None:
        self._yard = yard
        self._register = register

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        standings = await self._register.enter(burials)
        self._yard.standings.append(standings)
        self._yard.looked.set()
        return standings


class Yard:
    """One instance's letters, and the registrars of its starts."""

    def __init__(self, database: Database, path: Path) -> None:
        self.database = database
        self.path = path
        self.file = DeadLetterFile(path)
        self.graveyard = FileGraveyard(self.file, path, instance="a", source="s", degraded=lambda: False)
        self.store = EventStore(database, instance_id="a", token="a:1")
        self.resolved: asyncio.Queue[LettersResolved] = asyncio.Queue()
        self.standings: list[list[Standing]] = []
        self.looked = asyncio.Event()
        self.registrar = self._registrar()

    def _registrar(self) -> Registrar:
        return Registrar(
            register=Noted(self, BurialRegister(self.database, token="a:1")), letters=self.graveyard,
            look_again_after=LOOK_AGAIN, clocks=Clocks(time.time, time.monotonic), facts=self._hear,
        )  # fmt: skip

    def _hear(self, fact: Fact) -> None:
        assert isinstance(fact, LettersResolved)
        self.resolved.put_nowait(fact)

    async def bury(self, *passages: Passage) -> None:
        self.registrar.put(await self.graveyard.bury(passages))

    async def store_row(self, event_id: str) -> None:
        await self.store.insert([NewRow(event(event_id), 1, 1, 0.0)])

    @contextlib.asynccontextmanager
    async def running(self, *, anew: bool = False) -> AsyncIterator[None]:
        if anew:
            self.registrar = self._registrar()
        running = asyncio.create_task(self.registrar.run())
        try:
            async with asyncio.timeout(20):
                yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def until_sure(self) -> None:
        while self.registrar.unsure:  # noqa: ASYNC110  nothing tells the end of a second look
            await asyncio.sleep(0.02)

    def waiting(self) -> list[str | None]:
        """Whose letters a replay would take."""
        known = states(self.path)
        letters = [one.letter for one in read_letters(self.path) if isinstance(one, Located)]
        return [letter.event_id for letter in letters if known.get(letter.letter_id, OPEN).waits]


@pytest.fixture
async def yard(database_url: str, tmp_path: Path) -> AsyncIterator[Yard]:
    database = Database(database_url, timeout=2.0)
    await migrate(database)
    yard = Yard(database, tmp_path / "letters.jsonl")
    yield yard
    yard.graveyard.close()
    await database.close()


async def test_a_letter_beside_its_row_is_resolved_and_the_others_wait(yard: Yard) -> None:
    await yard.store_row("stored")
    async with yard.running():
        await yard.bury(passage("stored"), passage("dead"), passage("frame", "invalid"))
        assert (await yard.resolved.get()).why == "already stored"
        await yard.until_sure()
    assert yard.waiting() == ["dead", "frame"]


async def test_two_letters_of_one_event_become_one(yard: Yard) -> None:
    async with yard.running():
        await yard.bury(passage("dead"), passage("dead"))
        assert (await yard.resolved.get()).why == "another letter of the same event waits"
        await yard.until_sure()
    assert yard.waiting() == ["dead"]


async def test_what_an_earlier_start_left_is_read_from_the_file(yard: Yard) -> None:
    await yard.bury(passage("stored"), passage("taken", "conflict"), passage("dead"))
    await yard.store_row("stored")
    async with yard.running(anew=True):
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == ["taken", "dead"]
    async with yard.running(anew=True):
        await yard.until_sure()
    assert yard.waiting() == ["taken", "dead"], "a letter is not taken for another's when it is entered again"


async def test_a_transaction_that_was_under_way_is_seen_at_the_second_look(yard: Yard) -> None:
    begun, entered = asyncio.Event(), asyncio.Event()

    async def work(connection: object) -> None:
        begun.set()
        await entered.wait()

    late = asyncio.create_task(yard.store.insert_with(NewRow(event("e"), 1, 1, 0.0), work))
    await begun.wait()
    async with yard.running():
        await yard.bury(passage("e"))
        await yard.looked.wait()
        assert yard.standings == [["buried"]], "the first look sees no row yet"
        assert yard.waiting() == ["e"]
        entered.set()
        await late
        assert (await yard.resolved.get()).why == "already stored"
    assert yard.standings == [["buried"], ["stored"]]
    assert yard.waiting() == []


async def test_what_a_replay_resolved_meanwhile_is_left_as_it_is(yard: Yard) -> None:
    burials = await yard.graveyard.bury([passage("stored"), passage("other")])
    replayed, other = (one.letter_id for one in burials)
    sidecar = Sidecar(yard.path)
    sidecar.append([Record(replayed, "resolved", time.time(), "stored")])
    sidecar.close()
    assert await yard.graveyard.resolve([replayed, other], "already stored") == [other]
    assert {state.detail for state in states(yard.path).values()} == {"stored", "already stored"}
    assert len(sidecar_path(yard.path).read_bytes().splitlines()) == 2


async def test_what_nobody_claimed_is_resolved_when_a_peer_stored_it(yard: Yard) -> None:
    async with yard.running():
        await yard.bury(passage("beyond", "overflow"))
        await yard.store_row("beyond")
        assert (await yard.resolved.get()).why == "already stored"
    assert yard.waiting() == []


async def test_what_cannot_be_noted_now_is_noted_later(yard: Yard) -> None:
    await yard.store_row("stored")
    sidecar_path(yard.path).mkdir()
    async with yard.running():
        await yard.bury(passage("stored"))
        with pytest.raises(Transient):
            await yard.graveyard.resolve(["some letter"], "why")
        assert yard.registrar.unsure
        sidecar_path(yard.path).rmdir()
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == []


async def test_what_finds_no_room_is_read_from_the_file(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar_module, "MOST_HELD", 3)
    for number in range(8):
        await yard.store_row(f"e{number}")
    await yard.bury(*(passage(f"e{number}") for number in range(8)))
    async with yard.running():
        await yard.until_sure()
    assert yard.waiting() == []


async def test_without_its_states_a_file_shows_which_resolved_letters_lost_their_rows(yard: Yard) -> None:
    """As after a restore of PostgreSQL, as documented."""
    await yard.store_row("kept")
    await yard.store_row("lost")
    async with yard.running():
        await yard.bury(passage("kept"), passage("lost"))
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == []
    async with yard.database.acquire() as connection:
        await connection.execute("DELETE FROM unlost.events WHERE event_id = 'lost'")
    yard.graveyard.close()
    sidecar_path(yard.path).rename(yard.path.with_name("aside"))
    yard.graveyard = FileGraveyard(
        DeadLetterFile(yard.path), yard.path, instance="a", source="s", degraded=lambda: False
    )  # fmt: skip
    async with yard.running(anew=True):
        assert (await yard.resolved.get()).why == "already stored"
        await yard.until_sure()
    assert yard.waiting() == ["lost"]
