"""The registrar: in the end an event is one row, or one waiting letter. With real files and a real PostgreSQL."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from unlost.dlq.commands.compact import compact
from unlost.dlq.record import reopening as reopening_module
from unlost.dlq.record.file import DeadLetterFile, Located, read_letters, replay_guard
from unlost.dlq.record.letter_state import OPEN, Record
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states
from unlost.listener.app.dead_letter_sink import FileDeadLetterSink
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import Dead
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Failure, Transient
from unlost.listener.core.event import Event, parse
from unlost.listener.core.facts import Fact, LettersReopened, LettersResolved
from unlost.listener.core.in_flight import InFlight, invalid_claim
from unlost.listener.pipeline import registrar as registrar_module
from unlost.listener.pipeline.registrar import Registrar
from unlost.listener.ports.dead_letters import Burial, Resolved, Standing, StoreLoss
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

LOOK_AGAIN = 0.3


def event(event_id: str) -> Event:
    return parse(f'{{"event_id": "{event_id}", "payload": 1}}', max_bytes=1000)


def flight(event_id: str, reason: str = "exhausted") -> InFlight:
    one = event(event_id)
    condemned = InFlight(one, invalid_claim(one.digest), None, received_at=time.time(), received_clock=0.0)
    if reason != "invalid":
        condemned.request = type(condemned.request)(event_id, one.digest)
    condemned.cause = DeadLetterCause(reason, "store")  # type: ignore[arg-type]
    condemned.attempts.append(Failure(time.time(), "store", "transient", "Trouble", "it failed"))
    return condemned


class Noted:
    """A register that records its answers."""

    def __init__(self, yard: "Yard", register: PostgresLetterRegister) -> None:
        self._yard = yard
        self._register = register

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        standings = await self._register.enter(burials)
        self._yard.standings.append(standings)
        self._yard.looked.set()
        return standings

    async def loss(self, after: str) -> StoreLoss | None:
        return await self._register.loss(after)

    async def gone(self, letters: Sequence[Resolved]) -> list[Resolved]:
        gone = await self._register.gone(letters)
        self._yard.checked.append(len(letters))
        return gone


class Yard:
    """One instance's letters, and the registrars of its starts."""

    def __init__(self, database: Database, path: Path) -> None:
        self.database = database
        self.path = path
        self.file = DeadLetterFile(path)
        self.sink = FileDeadLetterSink(self.file, path, instance="a", degraded=lambda: False)
        self.store = PostgresRows(database, instance_id="a", token="a:1")
        self.resolved: asyncio.Queue[LettersResolved] = asyncio.Queue()
        self.reopened: asyncio.Queue[LettersReopened] = asyncio.Queue()
        self.checked: list[int] = []
        """How many resolved letters each query to PostgreSQL was about."""
        self.standings: list[list[Standing]] = []
        self.looked = asyncio.Event()
        self.registrar = self._registrar()

    def _registrar(self) -> Registrar:
        return Registrar(
            register=Noted(self, PostgresLetterRegister(self.database, token="a:1")), letters=self.sink,
            reopened=lambda: None, look_again_after=LOOK_AGAIN, clocks=Clocks(time.time, time.monotonic),
            facts=self._hear,
        )  # fmt: skip

    def _hear(self, fact: Fact) -> None:
        if isinstance(fact, LettersReopened):
            self.reopened.put_nowait(fact)
            return
        assert isinstance(fact, LettersResolved)
        self.resolved.put_nowait(fact)

    async def bury(self, *flights: InFlight) -> None:
        self.registrar.put(await self.sink.bury(flights))

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
            if not running.cancelled():
                running.result()

    async def until_sure(self) -> None:
        while self.registrar.unsure:  # noqa: ASYNC110  nothing announces the end of a second check
            await asyncio.sleep(0.02)

    def waiting(self) -> list[str | None]:
        """The events whose letters a replay would take."""
        known = states(self.path)
        letters = [one.letter for one in read_letters(self.path) if isinstance(one, Located)]
        return [letter.event_id for letter in letters if known.get(letter.letter_id, OPEN).waits]


@pytest.fixture
async def yard(database_url: str, tmp_path: Path) -> AsyncIterator[Yard]:
    database = Database(database_url, timeout=2.0)
    await migrate(database)
    yard = Yard(database, tmp_path / "letters.jsonl")
    yield yard
    yard.sink.close()
    await database.close()


async def test_a_letter_beside_its_row_is_resolved_and_the_others_wait(yard: Yard) -> None:
    await yard.store_row("stored")
    async with yard.running():
        await yard.bury(flight("stored"), flight("dead"), flight("frame", "invalid"))
        assert (await yard.resolved.get()).why == "already stored"
        await yard.until_sure()
    assert yard.waiting() == ["dead", "frame"]


async def test_two_letters_of_one_event_become_one(yard: Yard) -> None:
    async with yard.running():
        await yard.bury(flight("dead"), flight("dead"))
        assert (await yard.resolved.get()).why == "another letter of the same event waits"
        await yard.until_sure()
    assert yard.waiting() == ["dead"]


async def test_the_registrar_reads_letters_of_an_earlier_start_from_the_file(yard: Yard) -> None:
    await yard.bury(flight("stored"), flight("taken", "conflict"), flight("dead"))
    await yard.store_row("stored")
    async with yard.running(anew=True):
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == ["taken", "dead"]
    async with yard.running(anew=True):
        await yard.until_sure()
    assert yard.waiting() == ["taken", "dead"], "no letter is taken for another one when it is entered again"


async def test_a_transaction_that_was_under_way_is_seen_at_the_second_look(yard: Yard) -> None:
    begun, entered = asyncio.Event(), asyncio.Event()

    async def work(connection: object) -> None:
        begun.set()
        await entered.wait()

    late = asyncio.create_task(yard.store.insert_with(NewRow(event("e"), 1, 1, 0.0), work))
    await begun.wait()
    async with yard.running():
        await yard.bury(flight("e"))
        await yard.looked.wait()
        assert ["stored"] not in yard.standings, "the first check sees no row yet"
        assert yard.waiting() == ["e"]
        entered.set()
        await late
        assert (await yard.resolved.get()).why == "already stored"
    assert yard.standings[-1] == ["stored"]
    assert yard.standings[:-1] in ([["buried"]], [["buried"]] * 2), "it is also found in the file"
    assert yard.waiting() == []


async def test_the_sink_leaves_a_letter_that_a_replay_resolved(yard: Yard) -> None:
    burials = await yard.sink.bury([flight("stored"), flight("other")])
    replayed, other = (one.letter_id for one in burials)
    sidecar = Sidecar(yard.path)
    sidecar.append([Record(replayed, "resolved", time.time(), "stored")])
    sidecar.close()
    assert await yard.sink.resolve([replayed, other], "already stored") == [other]
    assert {state.detail for state in states(yard.path).values()} == {"stored", "already stored"}
    assert len(sidecar_path(yard.path).read_bytes().splitlines()) == 2


async def test_an_unclaimed_letter_is_resolved_when_a_peer_stored_the_event(yard: Yard) -> None:
    async with yard.running():
        await yard.bury(flight("beyond", "overflow"))
        await yard.store_row("beyond")
        assert (await yard.resolved.get()).why == "already stored"
    assert yard.waiting() == []


async def test_a_resolution_that_cannot_be_written_is_written_later(yard: Yard) -> None:
    await yard.store_row("stored")
    sidecar_path(yard.path).mkdir()
    async with yard.running():
        await yard.bury(flight("stored"))
        with pytest.raises(Transient):
            await yard.sink.resolve(["some letter"], "why")
        assert yard.registrar.unsure
        sidecar_path(yard.path).rmdir()
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == []


async def test_the_registrar_reads_letters_beyond_its_room_from_the_file(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrar_module, "MOST_HELD", 3)
    for number in range(8):
        await yard.store_row(f"e{number}")
    await yard.bury(*(flight(f"e{number}") for number in range(8)))
    async with yard.running():
        await yard.until_sure()
    assert yard.waiting() == []


async def test_without_its_states_a_file_shows_which_resolved_letters_lost_their_rows(yard: Yard) -> None:
    """As after a documented restore of PostgreSQL."""
    await yard.store_row("kept")
    await yard.store_row("lost")
    async with yard.running():
        await yard.bury(flight("kept"), flight("lost"))
        await yard.resolved.get()
        await yard.until_sure()
    assert yard.waiting() == []
    async with yard.database.acquire() as connection:
        await connection.execute("DELETE FROM unlost.events WHERE event_id = 'lost'")
    yard.sink.close()
    sidecar_path(yard.path).rename(yard.path.with_name("aside"))
    yard.sink = FileDeadLetterSink(
        DeadLetterFile(yard.path), yard.path, instance="a", degraded=lambda: False
    )  # fmt: skip
    async with yard.running(anew=True):
        assert (await yard.resolved.get()).why == "already stored"
        await yard.until_sure()
    assert yard.waiting() == ["lost"]


class Restored:
    """A PostgreSQL that takes a backup, and is set back to it."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.membership = PostgresMembership(yard.database, token="a:1", instance_id="a")

    async def live(self) -> None:
        """Listeners raise the store's version, so that it has an earlier state to go back to."""
        await self.membership.refresh((await self.membership.refresh()).store)

    async def go_back(self, *event_ids: str) -> None:
        """Rows are lost, and a listener notices."""
        async with self.yard.database.acquire("restoring") as connection:
            await connection.execute("delete from unlost.events where event_id = any($1)", event_ids)
            await connection.execute("delete from unlost.buried")
        look = await self.membership.refresh()
        await self.membership.renew(look.store.generation, look.store.version + 1)
        self.yard.registrar.read_again()

    def resolve(self, *event_ids: str, at: float | None = None) -> None:
        """Record them as resolved, as a replay does after storing them."""
        letters = [one.letter for one in read_letters(self.yard.path) if isinstance(one, Located)]
        ids = [letter.letter_id for letter in letters if letter.event_id in event_ids]
        now = time.time() if at is None else at
        with contextlib.closing(Sidecar(self.yard.path)) as sidecar:
            sidecar.append([Record(one, "resolved", now, "stored") for one in ids])


@pytest.fixture
async def restored(yard: Yard) -> Restored:
    return Restored(yard)


async def replayed(restored: Restored, *event_ids: str) -> None:
    """Letters were written, and a replay has stored their events."""
    yard = restored.yard
    await restored.live()
    await yard.sink.bury([flight(one) for one in event_ids])
    for one in event_ids:
        await yard.store_row(one)
    restored.resolve(*event_ids)


async def test_letters_whose_rows_a_restore_took_wait_again_and_others_do_not(yard: Yard, restored: Restored):
    await replayed(restored, "kept", "lost")
    async with yard.running():
        await yard.until_sure()
        assert yard.waiting() == []
        await restored.go_back("lost")
        fact = await yard.reopened.get()
        await yard.until_sure()
        assert (len(fact.letter_ids), yard.waiting()) == (1, ["lost"])
        assert [one.replays for one in states(yard.path).values() if one.waits] == [0]
        settled = await yard.store.settled([flight("lost").request])
        assert isinstance(settled["lost"], Dead), "until a replay, no listener stores it beside its letter"
    async with yard.running(anew=True):
        await yard.until_sure()
    assert yard.waiting() == ["lost"], "a reopened letter is not reopened twice"
    assert yard.checked == [2], "no start checks it again"


async def test_a_restore_while_the_listener_was_down_is_noticed_at_its_start(yard: Yard, restored: Restored):
    await replayed(restored, "lost")
    await restored.go_back("lost")
    async with yard.running(anew=True):
        await yard.reopened.get()
        await yard.until_sure()
    assert yard.waiting() == ["lost"]


async def test_a_crash_of_postgres_has_resolved_letters_checked_too(yard: Yard, restored: Restored):
    await replayed(restored, "lost")
    async with yard.database.acquire("failing over to a standby that lacks the last commit") as connection:
        await connection.execute("delete from unlost.events")
        await connection.execute("delete from unlost.claims_place")
    await restored.membership.refresh()
    async with yard.running(anew=True):
        await yard.until_sure()
    assert yard.waiting() == ["lost"]


async def test_a_reopened_letter_is_resolved_and_reopened_as_often_as_it_takes(yard: Yard, restored: Restored):
    await replayed(restored, "lost")
    async with yard.running():
        for _ in range(2):
            await restored.go_back("lost")
            await yard.reopened.get()
            await yard.until_sure()
            async with yard.database.acquire("digging it out, as a replay does") as connection:
                await connection.execute("delete from unlost.buried")
            await yard.store_row("lost")
            yard.registrar.read_again()
            assert (await yard.resolved.get()).why == "already stored"
            await yard.until_sure()
            assert yard.waiting() == []


async def test_a_restore_rechecks_no_letter_resolved_long_before(yard: Yard, restored: Restored):
    """Its row may have been deleted by retention; otherwise it is in the backup."""
    await restored.live()
    await yard.sink.bury([flight("old")])
    restored.resolve("old", at=time.time() - 3 * 86_400)
    async with yard.running():
        await restored.go_back()
        await yard.until_sure()
    assert (yard.waiting(), yard.checked) == ([], [])


async def test_a_letter_that_waits_under_another_one_stays_resolved(yard: Yard, restored: Restored):
    await restored.live()
    async with yard.running():
        await yard.bury(flight("dead"), flight("dead"))
        await yard.resolved.get()
        await yard.until_sure()  # its first check is over: between the loss and its notice it would reopen one
        await restored.go_back()
        await yard.until_sure()
    assert (yard.waiting(), yard.checked, yard.reopened.empty()) == (["dead"], [1], True)


async def test_a_replay_that_runs_during_the_restore_is_waited_for(yard: Yard, restored: Restored):
    """It may mark a letter as resolved whose row it stored before the restore."""
    await restored.live()
    await yard.sink.bury([flight("lost")])
    guard = replay_guard(yard.path)
    assert guard.take("a replay")
    async with yard.running():
        await restored.go_back()
        while yard.registrar.unsure and not yard.standings:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        restored.resolve("lost")
        guard.release()
        await yard.reopened.get()
        await yard.until_sure()
    assert yard.waiting() == ["lost"]
    assert guard.take(), "the lock was released"
    guard.release()


async def test_a_large_sidecar_is_looked_through_in_parts(
    yard: Yard, restored: Restored, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reopening_module, "STATES_AT_ONCE", 300)
    ids = [f"e{number}" for number in range(20)]
    await replayed(restored, *ids)
    async with yard.running():
        await restored.go_back(*ids[::2])
        await yard.reopened.get()
        await yard.until_sure()
    assert sorted(map(str, yard.waiting())) == sorted(ids[::2])
    assert sum(yard.checked) == 20, "each letter is in exactly one part"


async def test_compact_keeps_what_was_reopened_and_that_it_was_checked(yard: Yard, restored: Restored):
    await replayed(restored, "kept", "lost")
    async with yard.running():
        await restored.go_back("lost")
        await yard.reopened.get()
        await yard.until_sure()
    compact(yard.path)
    assert yard.waiting() == ["lost"]
    async with yard.running(anew=True):
        await yard.until_sure()
    assert (yard.waiting(), yard.checked) == (["lost"], [2])


async def test_an_archived_letter_forbids_a_row_after_a_restore_too(yard: Yard, restored: Restored):
    await restored.live()
    await yard.sink.bury([flight("aside")])
    [letter] = [one.letter for one in read_letters(yard.path) if isinstance(one, Located)]
    with contextlib.closing(Sidecar(yard.path)) as sidecar:
        sidecar.append([Record(letter.letter_id, "archived", time.time(), "known")])
    async with yard.running():
        await restored.go_back()
        await yard.until_sure()
    assert isinstance((await yard.store.settled([flight("aside").request]))["aside"], Dead)


async def test_retention_forgets_losses_that_are_older_than_all_rows(yard: Yard, restored: Restored):
    await replayed(restored, "pruned")
    await restored.go_back()
    async with yard.database.acquire("growing old") as connection:
        await connection.execute("update unlost.losses set noticed_at = noticed_at - interval '8 days'")
        await connection.execute("update unlost.events set processed_at = processed_at - interval '8 days'")
    assert [count async for count in yard.store.prune(7 * 86_400.0)] == [1]
    async with yard.running(anew=True):
        await yard.until_sure()
    assert yard.waiting() == [], "its row was deleted on purpose"
