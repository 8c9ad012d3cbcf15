"""Keys that a letter blocks: on a real PostgreSQL, and on the simulated one."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.simulation.by_hand import HandLink
from tests.simulation.hooks import Hooks
from tests.simulation.postgres import PostgresMemory
from tests.simulation.postgres_adapters import Session, SimulatedRegister, SimulatedStore
from tests.support.letters import letter
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import decode as decoded
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import decode
from unlost.dlq.record.sidecar import encode as encoded
from unlost.listener.core.cause import Reason
from unlost.listener.core.claim import Dead
from unlost.listener.core.event import Edited, parse
from unlost.listener.ports.dead_letters import Burial, LetterRegister, Tried
from unlost.listener.ports.rows import BEHIND, BLOCKED, INSERTED, OTHER_ROW, NewRow, Rows
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.healing import PostgresHealing
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

Sides = tuple[Rows, LetterRegister]
INSERTED_BY_A_PEER = """
    insert into unlost.events
        (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
    values ('a2', '{}', sha256(''), 'b', 'b', 1, 1, now())"""
WAITS_FOR_LOCK = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, timeout=5.0)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture(params=["real", "simulated"])
def sides(request: pytest.FixtureRequest) -> Sides:
    if request.param == "real":
        database = request.getfixturevalue("database")
        store = PostgresRows(database, instance_id="a", token="a")
        return store, PostgresLetterRegister(database, token="a")
    session = Session(PostgresMemory(time.monotonic, Hooks()), HandLink(), timeout=1.0)
    return SimulatedStore(session, token="a"), SimulatedRegister(session, token="a")


def row(event_id: str, key: str | None = "k", *, revives: bool = False) -> NewRow:
    event = parse(f'{{"event_id": "{event_id}", "payload": {{"n": 1}}}}', max_bytes=1 << 20)
    return NewRow(event, 1, 1, 1_700_000_000.0, revives, order_key=key)


def burial(event_id: str, key: str | None = "k") -> Burial:
    return Burial(event_id, row(event_id).event.digest, f"letter of {event_id}", order_key=key)


async def test_a_letter_blocks_its_key_and_no_other(sides: Sides):
    store, register = sides
    assert await register.enter([burial("e1")]) == ["buried"]
    rows = [row("e2"), row("other", "another"), row("free", None)]
    assert await store.insert(rows) == [BLOCKED, INSERTED, INSERTED]
    assert await store.insert([row("e1")]) == [Dead(same=True)]
    assert await store.any_stops(unsaid=True)
    assert not await store.any_stops(unsaid=False)
    assert await store.blocked({"e2": "k", "x": "another", "e1": "k"}) == {"e2"}


async def test_reading_stops_for_letters_that_say_so_while_they_block_a_key(sides: Sides):
    store, register = sides
    await register.enter([replace(burial("e1"), stops=False), replace(burial("free", None), stops=True)])
    assert not await store.any_stops(unsaid=True)
    await register.enter([replace(burial("e2"), stops=True)])
    assert await store.any_stops(unsaid=False)
    await store.insert([row("e1", revives=True)])
    await store.insert([row("e2", revives=True)])
    assert not await store.any_stops(unsaid=False), "its event is a row"


async def test_rows_of_one_key_are_stored_up_to_the_first_that_cannot_be(sides: Sides):
    store, register = sides
    assert await store.insert([row("a1"), row("b1", "b"), row("a2"), row("free", None), row("a3")]) == [INSERTED] * 5
    other = replace(row("a4"), event=parse('{"event_id": "a4", "payload": {"n": 2}}', max_bytes=99))
    assert await store.insert([other]) == [INSERTED]
    rows = [row("a3", "b"), row("a4"), row("a5"), row("a6"), row("c1", "c"), row("b2", "b")]
    again = [INSERTED, OTHER_ROW, BEHIND, BEHIND, INSERTED, BEHIND]
    assert await store.insert(rows) == again, "a row of ours that was lost on the way back counts as inserted"
    await register.enter([burial("a5")])
    assert await store.insert([row("a5"), row("a6")]) == [Dead(same=True), BEHIND]
    assert await store.insert([row("a6"), row("a7")]) == [BLOCKED, BEHIND]
    assert await store.insert([row("b2", "b"), row("b3", "b")]) == [INSERTED, INSERTED]
    other = replace(row("d3", "d"), event=parse('{"event_id": "d3", "payload": {"n": 2}}', max_bytes=99))
    assert await store.insert([other]) == [INSERTED]
    rows = [row("d1", "d"), row("a7"), row("f1", "f"), row("d2", "d"), row("d3", "d"), row("d4", "d"), row("f2", "f")]
    mixed = [INSERTED, BLOCKED, INSERTED, INSERTED, OTHER_ROW, BEHIND, INSERTED]
    assert await store.insert(rows) == mixed, "one blocked key or one conflict delays no other key"
    assert await store.one("d4") is None


async def test_a_row_that_another_inserts_at_the_same_moment_undoes_the_run(database: Database, database_url: str):
    store = PostgresRows(database, instance_id="a", token="a")
    peer = await asyncpg.connect(database_url)
    transaction = peer.transaction()
    await transaction.start()
    await peer.execute(INSERTED_BY_A_PEER)
    inserting = asyncio.create_task(store.insert([row("a1"), row("a2"), row("a3"), row("b1", "b"), row("b2", "b")]))
    async with asyncio.timeout(20):
        while not await peer.fetchval(WAITS_FOR_LOCK):  # noqa: ASYNC110  PostgreSQL does not signal it
            await asyncio.sleep(0.01)
    await transaction.commit()
    assert await inserting == [INSERTED, BEHIND, BEHIND, INSERTED, BEHIND]
    assert await store.insert([row("a2"), row("a3")]) == [OTHER_ROW, BEHIND]
    await peer.close()


async def test_a_run_is_one_statement_without_a_transaction_around_it(database_url: str):
    database, said = Database(database_url, connections=1, kept_open=1), list[str]()
    await migrate(database)
    async with database.acquire("test") as connection:
        connection.add_query_logger(lambda one: said.append(one.query))
    store = PostgresRows(database, instance_id="a", token="a")
    assert await store.insert([row("a1"), row("a2"), row("b1", "b")]) == [INSERTED] * 3
    assert sum("INSERT INTO" in one for one in said) == 1
    assert not [one for one in said if "BEGIN" in one]
    await database.close()


async def test_letters_become_rows_in_their_order_and_the_last_opens_the_key(sides: Sides):
    store, register = sides
    assert await register.enter([burial("e1"), burial("e3"), burial("e2")]) == ["buried"] * 3
    for event_id in ("e2", "e3"):
        assert await store.insert([row(event_id, revives=True)]) == [BLOCKED]
    assert await store.insert([row("e1", revives=True)]) == [INSERTED]
    assert await store.insert([row("e2", revives=True), row("new")]) == [BLOCKED, BLOCKED]
    assert await store.insert([row("e3", revives=True)]) == [INSERTED]
    assert await store.insert([row("e2", revives=True)]) == [INSERTED]
    assert await store.insert([row("new")]) == [INSERTED]


STATES_OF_A_KEY: dict[str, dict[str, tuple[object, int]]] = {
    # what is tried: what it answers, and how many letters block the key more than before
    "open": {"new event": (INSERTED, 0), "letter": ("buried", 1)},
    "one letter": {"new event": (BLOCKED, 0), "letter": ("buried", 1), "event of the first": (INSERTED, -1)},
    "letters": {
        "new event": (BLOCKED, 0), "letter": ("buried", 1), "event of the first": (INSERTED, -1),
        "event of another": (BLOCKED, 0),
    },
}  # fmt: skip
TRIED = ("new event", "letter", "event of the first", "event of the first", "event of another")
_keys = itertools.count()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(TRIED), st.integers(1, 9)), max_size=30))
async def test_the_states_of_a_key_and_what_each_step_leads_to(sides: Sides, steps: list[tuple[int, str, int]]):
    store, register = sides
    keys: list[tuple[str, list[str]]] = [(f"k{next(_keys)}", []) for _ in range(2)]
    for number, (which, what, chance) in enumerate(steps):
        key, letters = keys[which]
        possible = STATES_OF_A_KEY[("open", "one letter", "letters")[min(2, len(letters))]]
        if what not in possible:
            continue
        answer, more = possible[what]
        event_id = f"{key} {number}"
        if what == "letter":
            assert await register.enter([burial(event_id, key)]) == [answer]
            letters.append(event_id)
        elif what == "new event":
            assert await store.insert([row(event_id, key)]) == [answer]
        else:
            event_id = letters[0] if what == "event of the first" else letters[1 + chance % (len(letters) - 1)]
            assert await store.insert([row(event_id, key, revives=True)]) == [answer]
            del letters[: -more or 0]
        blocked = {f"asked {one}" for one, waiting in keys if waiting}
        assert await store.blocked({f"asked {one}": one for one, _ in keys}) == blocked


async def test_edited_letters_keep_the_order_of_their_key(database: Database):
    store, register = PostgresRows(database, instance_id="a", token="a"), PostgresLetterRegister(database, token="a")
    await register.enter([burial("e1"), burial("e2")])
    first, second = (replace(row(one, revives=True), edited=Edited(2, row(one).event.digest)) for one in ("e1", "e2"))
    assert await store.insert([second]) == [BLOCKED]
    assert await store.insert([first]) == [INSERTED]
    assert await store.insert([row("new")]) == [BLOCKED], "the second is still a letter"
    assert await store.insert([second]) == [INSERTED]
    assert await store.insert([row("new")]) == [INSERTED]
    assert [(await store.one(one) or {})["letter_version"] for one in ("e1", "e2", "new")] == [2, 2, None]


async def test_a_handler_does_no_work_for_a_blocked_key_and_an_undone_one_opens_nothing(sides: Sides):
    store, register = sides
    await register.enter([burial("e1")])
    worked: list[str] = []

    async def fails(_: Any) -> None:
        worked.append("e1")
        raise ValueError

    async def works(_: Any) -> None:
        worked.append("work")

    assert await store.insert_with(row("e2"), works) == BLOCKED
    with pytest.raises(ValueError, match=r"^$"):
        await store.insert_with(row("e1", revives=True), fails)
    assert await store.insert_with(row("e2"), works) == BLOCKED
    assert await store.insert_with(row("e1", revives=True), works) == INSERTED
    assert await store.insert_with(row("e2"), works) == INSERTED
    assert worked == ["e1", "work", "work"]


async def test_entering_a_letter_again_changes_no_place_and_a_row_that_was_late_opens_the_key(sides: Sides):
    store, register = sides
    await register.enter([burial("e1"), burial("e2")])
    await register.enter([burial("e2"), burial("e1")])
    assert await store.blocked({"e1": "k", "e2": "k"}) == {"e2"}
    await store.insert([replace(row("e1", None), revives=True)])  # as of a transaction that was open before the letter
    assert await register.enter([burial("e1")]) == ["stored"]
    assert await store.blocked({"e2": "k", "new": "k"}) == {"new"}


def keyed(event_id: str, reason: Reason = "exhausted", **more: Any) -> Letter:
    text = f'{{"event_id": "{event_id}", "payload": {{"n": 1}}}}'.encode()
    made = letter(event_id, reason=reason, **more)
    return replace(made, event=text, event_id=event_id, handler="h", order_key="k")


class Fleet:
    def __init__(self, database: Database) -> None:
        self.table = LetterTable(database, token="t")
        self.letters = TableLetters(database)
        self.store = PostgresRows(database, instance_id="a", token="a")
        self.healing = PostgresHealing(database, token="b:1", instance="b", handler="h", attempts=9)

    async def put(self, *letters: Letter) -> None:
        await self.table.add("a", [Listed(one, encode(one), burial_of(one), 0.0) for one in letters])

    async def heal(self, what: str = "stored") -> list[str]:
        tried = []
        for group in await self.healing.groups(9):
            taken = await self.healing.take(group, 9)
            ended = [Tried(one.letter_id, what, "why", delay=0.0) for one in taken]  # type: ignore[arg-type]
            for one in taken:
                assert (one.claimed, one.order_key) == (True, "k")
                if what == "stored":
                    name = one.letter_id[-2:]
                    assert await self.store.insert([row(name, revives=True)]) == [INSERTED]
            await self.healing.ended(group, ended, probe_failed=False)
            await self.healing.leave(group, 0, 0.0)
            tried += [one.letter_id[-2:] for one in taken]
        return tried


async def test_a_letter_in_the_list_says_whether_it_stops_reading(database: Database):
    fleet = Fleet(database)
    await fleet.put(keyed("e1"), keyed("e2", "blocked"))
    assert await fleet.store.any_stops(unsaid=True), "as those of before letters said so"
    assert not await fleet.store.any_stops(unsaid=False)
    stops = replace(keyed("e3", "blocked"), stops=True)
    found = decoded(encode(stops))
    assert found == stops
    await fleet.put(found)
    assert await fleet.store.any_stops(unsaid=False)
    (key,) = await fleet.letters.keys(9)
    assert (key["event_id"], key["letters"], key["stops"]) == ("e1", 3, True), "one of those behind the first stops"
    await fleet.letters.change(Selection(ids=("e3",)), "archived", "old", "me", followers_go=True)
    assert (await fleet.letters.keys(9))[0]["stops"] is None
    assert not await fleet.store.any_stops(unsaid=False)


async def test_parked_letters_heal_one_after_another_behind_the_one_that_blocks(database: Database):
    fleet = Fleet(database)
    await fleet.put(keyed("e1"), keyed("e2", "blocked"), keyed("e3", "blocked"))
    sums = await fleet.table.sums()
    assert (sums.waiting, sums.healing, sums.needing_human) == (3, 3, 0)
    assert sums.blocked_keys == 1
    assert abs((sums.blocked_since or 0.0) - time.time()) < 60
    assert await fleet.heal("failed") == ["e1"], "only the first may be tried"
    assert await fleet.heal() == ["e1"]
    assert await fleet.heal("behind") == ["e2"], "as if another letter had come before it"
    assert [await fleet.heal() for _ in range(3)] == [["e2"], ["e3"], []]
    assert await fleet.store.insert([row("e4")]) == [INSERTED]
    assert (await fleet.table.sums()).blocked_since is None


async def test_a_letter_that_waits_behind_another_counts_no_try(database: Database):
    fleet = Fleet(database)
    await fleet.put(keyed("e1"), keyed("e2"))
    (group,) = await fleet.healing.groups(9)
    first, second = await fleet.healing.take(group, 9)
    await fleet.healing.ended(
        group, [Tried(first.letter_id, "failed", "w", delay=0.0), Tried(second.letter_id, "behind", "w")],
        probe_failed=False,
    )  # fmt: skip
    await fleet.healing.leave(group, 0, 0.0)
    (group,) = await fleet.healing.groups(9)
    assert [(one.letter_id, one.tries) for one in await fleet.healing.take(group, 9)] == [(first.letter_id, 1)]


async def test_a_letter_that_is_settled_elsewhere_blocks_no_more_once_it_is_resolved(database: Database):
    fleet = Fleet(database)
    await fleet.put(keyed("e1"), keyed("e2", "blocked"))
    (group,) = await fleet.healing.groups(9)
    (one,) = await fleet.healing.take(group, 9)
    await fleet.healing.ended(group, [Tried(one.letter_id, "settled", "w")], probe_failed=False)
    assert await fleet.store.blocked({"e2": "k"}) == set()


async def test_an_archived_letter_keeps_blocking_unless_its_followers_are_let_go(database: Database):
    fleet = Fleet(database)
    await fleet.put(keyed("e1"), keyed("e2", "blocked"))
    first = Selection(ids=("e1",))
    assert await fleet.letters.change(first, "archived", "old", "me") == 1
    assert await fleet.store.blocked({"e2": "k"}) == {"e2"}
    await fleet.letters.change(first, "restored", "", "me")
    assert await fleet.letters.blocking(first) == 1
    assert await fleet.letters.change(first, "archived", "old", "me", followers_go=True) == 1
    assert await fleet.store.blocked({"e2": "k"}) == set()
    assert await fleet.letters.blocking(first) == 0
    assert await fleet.heal() == ["e2"]


async def test_followers_that_were_let_go_stay_so_when_the_letter_is_registered_again(database: Database):
    fleet, one = Fleet(database), keyed("e1")
    await fleet.put(one)
    await fleet.letters.change(Selection(ids=("e1",)), "archived", "old", "me", followers_go=True)
    (record,) = (await fleet.letters.history([one.letter_id]))[one.letter_id]
    assert record.followers == "go"
    assert decode(encoded(record)) == record, "the file of its listener has it too"
    burial = burial_of(one)
    assert burial is not None
    async with database.acquire("test") as connection:
        await connection.execute("DELETE FROM unlost.buried")  # as it is pruned after DEDUP_WINDOW
    register = PostgresLetterRegister(database, token="a")
    assert await register.enter([burial]) == ["buried"]
    assert await fleet.store.blocked({"e2": "k"}) == set()
    async with database.acquire("test") as connection:  # an older backup is restored, which knows no such record
        await connection.execute(
            "TRUNCATE unlost.letter_records, unlost.letters, unlost.letter_details, unlost.letter_lines, unlost.buried"
        )
    await fleet.put(one)
    assert await fleet.store.blocked({"e2": "k"}) == {"e2"}
    await fleet.table.note([record], shared=True)
    assert await fleet.store.blocked({"e2": "k"}) == set()
