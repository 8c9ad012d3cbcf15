"""Shipping: the fleet's list has what stands in each listener's files, and each file what was done elsewhere."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.support.letters import letter
from unlost.dlq.commands.compact import compact
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.query import Selection
from unlost.dlq.record.shipped import last_shipped
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import LetterStore
from unlost.listener.app import shipping as module
from unlost.listener.app.shipping import Shipping
from unlost.listener.core.errors import Permanent
from unlost.listener.core.facts import AttemptFailed, Fact
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.system.postgres import PostgresServer

pytestmark = pytest.mark.database("migrated")

ALL = Selection()


class Yard:
    """One listener's files, the list, and the starts of its shipping."""

    def __init__(self, database: Database, path: Path, instance: str = "a") -> None:
        self.database, self.path, self.instance = database, path, instance
        self.table = LetterTable(database, token=f"{instance}:1")
        self.list = TableLetters(database)
        self.file = DeadLetterFile(path)
        self.facts: list[Fact] = []
        self.changed = asyncio.Event()
        self.shipping = self._shipping()
        self.asked: list[int] = []
        """How many letters each comparison with the list was about."""

    def _shipping(self) -> Shipping:
        return Shipping(
            self.path, self.table, instance=self.instance, heal_after=lambda _: None, facts=self.facts.append,
            changed=self.changed,
        )  # fmt: skip

    def bury(self, *names: str, **fields: object) -> None:
        self.file.append([letter(name, at=1_700_000_000.0 + len(name), **fields) for name in names])  # type: ignore[arg-type]
        self.changed.set()

    def record(self, *records: Record) -> None:
        with contextlib.closing(Sidecar(self.path)) as sidecar:
            sidecar.append(records)
        self.changed.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.shipping = self._shipping()
        absent = self.table.absent

        async def noted(letter_ids: Sequence[str]) -> set[str]:
            self.asked.append(len(letter_ids))
            return await absent(letter_ids)

        self.table.absent = noted  # type: ignore[method-assign]
        running = asyncio.create_task(self.shipping.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])
            self.table.absent = absent  # type: ignore[method-assign]

    async def listed(self, **wanted: object) -> list[str]:
        page = await self.list.latest(Selection(**wanted), 0)  # type: ignore[arg-type]
        return sorted(one.letter.letter_id.removeprefix("0123456789ab-") for one in page.entries)


async def until(right: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not (await found if asyncio.iscoroutine(found := right()) else found):  # noqa: ASYNC110  facts of a server
            await asyncio.sleep(0.02)


async def all_is_shared(yard: Yard) -> bool:
    async with yard.database.acquire() as connection:
        return not await connection.fetchval("select count(*) from unlost.letter_records where not shared")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(module, "NOTE_EVERY_SECONDS", 0.0)


@pytest.fixture
async def yard(database_url: str, tmp_path: Path) -> AsyncIterator[Yard]:
    database = Database(database_url, timeout=2.0)
    await migrate(database)
    yard = Yard(database, tmp_path / "letters.jsonl")
    yield yard
    yard.file.close()
    await database.close()


async def shows(yard: Yard, *names: str, **wanted: object) -> None:
    async def right() -> bool:
        return await yard.listed(**wanted) == sorted(names)

    await until(right)


async def test_letters_and_their_states_are_listed_and_burials_registered(yard: Yard) -> None:
    yard.bury("x", "y")
    async with yard.running():
        await shows(yard, "x", "y")
        yard.bury("z")
        await shows(yard, "x", "y", "z")
        yard.record(Record("0123456789ab-y", "archived", time.time(), "known", by="anna"))
        await shows(yard, "y", statuses=frozenset({"archived"}))
    async with yard.database.acquire() as connection:
        buried = await connection.fetch("select event_id, letter_id from unlost.buried order by event_id")
        assert [tuple(row) for row in buried] == [(name, f"0123456789ab-{name}") for name in "xyz"]
    (y,) = (await yard.list.latest(Selection(ids=("y",)), 0)).entries
    assert (y.state.detail, y.state.by) == ("known", "anna")
    assert yard.shipping.behind_bytes() == 0
    assert not yard.shipping.remark()


async def test_a_restart_goes_on_where_the_last_start_came_to(yard: Yard) -> None:
    yard.bury(*(f"e{number}" for number in range(50)))
    async with yard.running():
        await shows(yard, *(f"e{number}" for number in range(50)))
        await until(lambda: last_shipped(yard.path).letters == yard.path.stat().st_size)
    yard.bury("late")
    yard.asked.clear()
    async with yard.running():
        await shows(yard, *(f"e{number}" for number in range(50)), "late")
    assert yard.asked == [1], "only what was added is read"


async def test_its_own_notes_make_no_more_notes(yard: Yard) -> None:
    yard.bury("x")
    async with yard.running():
        await until(lambda: last_shipped(yard.path).letters)
        size = sidecar_path(yard.path).stat().st_size
        await until(lambda: yard.shipping.listed.states >= size)
        assert sidecar_path(yard.path).stat().st_size == size


async def test_after_a_loss_everything_that_is_missing_is_listed_again(yard: Yard) -> None:
    membership = PostgresMembership(yard.database, token="a:1", instance_id="a")
    await membership.refresh((await membership.refresh()).store)
    yard.bury("kept", "lost")
    yard.record(Record("0123456789ab-lost", "resolved", time.time(), "stored"))
    async with yard.running():
        await shows(yard, "kept", "lost")
        async with yard.database.acquire("restoring") as connection:
            await connection.execute("delete from unlost.letters where event_id = 'lost'")
            await connection.execute("delete from unlost.letter_lines where letter_id like '%lost'")
        look = await membership.refresh()
        await membership.renew(look.store.generation, look.store.version + 1)
        await shows(yard, "kept", "lost")
        await shows(yard, "lost", statuses=frozenset({"resolved"}))


async def test_a_compacted_file_is_compared_and_nothing_is_listed_twice(yard: Yard) -> None:
    yard.bury("x", "y")
    yard.record(Record("0123456789ab-x", "resolved", time.time(), "stored"))
    async with yard.running():
        await shows(yard, "x", statuses=frozenset({"resolved"}))
        compact(yard.path)
        yard.bury("z")
        await shows(yard, "x", "y", "z")
    async with yard.database.acquire() as connection:
        sums = await connection.fetchrow("select sum(open) o, sum(resolved) r from unlost.letter_groups")
        assert tuple(sums or ()) == (2, 1)


async def test_changes_made_elsewhere_are_written_to_the_file_too(yard: Yard) -> None:
    yard.bury("x", "y")
    async with yard.running():
        await shows(yard, "x", "y")
        await yard.list.change(Selection(ids=("x",)), "archived", "from afar", "console")
        async with yard.list.replaying(ALL, 0, "elsewhere") as taking:
            (y,) = await taking.take(9)
            await taking.record([Record(y.letter.letter_id, "resolved", time.time(), "stored", by="ben")])
        await until(lambda: len(states(yard.path)) == 2)
        known = states(yard.path)
        assert (known["0123456789ab-x"].status, known["0123456789ab-x"].by) == ("archived", "console")
        assert (known["0123456789ab-y"].status, known["0123456789ab-y"].by) == ("resolved", "ben")
        await yard.list.change(Selection(ids=("x",)), "restored", "", "console")
        await until(lambda: states(yard.path)["0123456789ab-x"].status == "open")
        await until(lambda: all_is_shared(yard))


async def test_a_lost_disk_after_shipping_loses_nothing(yard: Yard, tmp_path: Path) -> None:
    yard.bury("x", "y")
    async with yard.running():
        await shows(yard, "x", "y")
    before = (await yard.list.latest(ALL, 0)).entries
    yard.file.close()
    yard.path.unlink()
    sidecar_path(yard.path).unlink(missing_ok=True)
    yard.file = DeadLetterFile(yard.path)
    async with yard.running():
        yard.bury("new")
        await shows(yard, "new", "x", "y")
    assert [one.letter for one in before] == [one.letter for one in (await yard.list.latest(ALL, 0)).entries][:2]


async def test_a_letter_that_postgres_refuses_stays_in_the_file_and_holds_back_no_other(yard: Yard) -> None:
    add = yard.table.add

    async def refusing(instance: str, letters: Sequence[Listed], records: Sequence[Record] = ()) -> None:
        if any(one.letter.event_id == "bad" for one in letters):
            raise Permanent("it is refused")
        await add(instance, letters, records)

    yard.table.add = refusing  # type: ignore[method-assign]
    yard.bury("x", "bad", "y")
    async with yard.running():
        await shows(yard, "x", "y")
        await until(lambda: yard.shipping.refused)
    assert [type(one) for one in yard.facts] == [AttemptFailed]
    assert "PostgreSQL refuses 1 dead letters" in yard.shipping.remark()


async def test_without_postgres_the_file_works_alone_and_shipping_catches_up(
    own_postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEHIND_SECONDS", 0.0)
    monkeypatch.setattr(module, "AT_ONCE", 20)
    database = Database(own_postgres.url, timeout=1.0, connect_timeout=1.0)
    await migrate(database)
    yard = Yard(database, tmp_path / "letters.jsonl")
    names = [f"e{number}" for number in range(100)]
    yard.bury(*names)
    async with yard.running():
        await until(lambda: yard.shipping.listed.letters > 0)
        own_postgres.kill()
        yard.bury("away")
        await until(lambda: yard.shipping.error)
        assert yard.shipping.behind_bytes() > 0
        assert "are not in the fleet's list yet" in yard.shipping.remark()
        own_postgres.start()
        await until(lambda: yard.shipping.behind_bytes() == 0)
        await shows(yard, *names, "away")
    yard.file.close()
    await database.close()


async def test_versions_made_beside_a_file_and_in_the_list_are_known_on_both_sides(yard: Yard) -> None:
    yard.bury("x", "y")

    async def version(store: LetterStore, name: str) -> tuple[int, bytes | None]:
        (one,) = (await store.latest(Selection(ids=(name,)), 0)).entries
        return one.state.version, one.edited

    async def edit_one(store: LetterStore, name: str, value: int) -> None:
        change = PatchChange(b'[{"op": "replace", "path": "/payload/n", "value": %d}]' % value)
        await edit(store, Selection(ids=(name,)), change, by="ana", why="", about="test")

    files = FileLetters([yard.path])
    async with yard.running():
        await shows(yard, "x", "y")
        await edit_one(files, "x", 2)
        await edit_one(yard.list, "y", 3)
        yard.changed.set()

        async def agree() -> bool:
            return all([await version(yard.list, one) == await version(files, one) for one in "xy"])

        await until(agree)
        assert (await version(files, "x"))[0] == (await version(yard.list, "y"))[0] == 2
        await edit_one(yard.list, "x", 4)
        yard.changed.set()
        await until(agree)
        assert await version(files, "x") == (3, b'{"event_id":"x","payload":{"n":4}}')
