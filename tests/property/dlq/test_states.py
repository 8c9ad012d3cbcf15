"""Each letter's history is a path of a small state machine, in any order of records, and in the fleet's list too."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.letters import letter
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import OPEN, Edit, LetterState, Record, Status, What, after, later_than
from unlost.dlq.record.query import Selection
from unlost.listener.ports.dead_letters import Tried
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.healing import PostgresHealing
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate

pytestmark = pytest.mark.database("migrated")

KEEP: tuple[What, ...] = ("edited", "noted", "assigned")
"""Records that change no status."""
FOLLOWS: dict[Status, dict[What, Status]] = {
    "open": {
        "failed": "failed", "retried": "open", "resolved": "resolved", "archived": "archived",
        "quarantined": "quarantined", "restored": "open", "reopened": "open",
    },
    "failed": {
        "failed": "failed", "retried": "failed", "resolved": "resolved", "archived": "archived",
        "quarantined": "quarantined", "restored": "open", "reopened": "open",
    },
    "archived": {
        "failed": "archived", "retried": "archived", "resolved": "resolved", "archived": "archived",
        "quarantined": "quarantined", "restored": "open", "reopened": "open",
    },
    "quarantined": {
        "failed": "quarantined", "retried": "quarantined", "resolved": "resolved", "archived": "archived",
        "quarantined": "quarantined", "restored": "open", "reopened": "open",
    },
    "resolved": {
        "failed": "resolved", "retried": "resolved", "resolved": "resolved", "archived": "resolved",
        "quarantined": "resolved", "restored": "resolved", "reopened": "open",
    },
}  # fmt: skip
for status, following in FOLLOWS.items():
    following |= dict.fromkeys(KEEP, status)
"""The state after a record that is newer than the present one."""
edits = st.builds(Edit, st.integers(2, 5), st.just(1), st.just("patch"), st.just(b"{}"))
records = st.builds(
    Record, st.just("l"), st.sampled_from([*FOLLOWS["open"]]), st.integers(0, 30).map(float), st.text(max_size=2),
    edit=st.none() | edits,
)  # fmt: skip


def test_the_table_has_every_state_and_every_record() -> None:
    assert FOLLOWS.keys() == {*get_args(Status)}
    for following in FOLLOWS.values():
        assert following.keys() == {*get_args(What)} - {"checked", "shipped"}


@given(st.lists(records, max_size=30))
def test_a_history_is_a_path_of_the_table_whenever_its_records_arrive(history: list[Record]) -> None:
    state = OPEN
    for record in history:
        following = after(state, record)
        assert following.status in (state.status, FOLLOWS[state.status][record.what])
        assert following.at is not None or following is state or record.what in ("reopened", *KEEP)
        state = following


@given(st.lists(records, max_size=30))
def test_a_record_that_saw_the_state_is_a_step_of_the_table(history: list[Record]) -> None:
    state = OPEN
    for record in history:
        following = after(state, replace(record, at=later_than(state, record.at)))
        assert following.status == FOLLOWS[state.status][record.what]
        state = following


@given(st.lists(records, max_size=12), st.randoms(use_true_random=False))
def test_a_letters_resolution_does_not_depend_on_the_order(history: list[Record], rng: random.Random) -> None:
    history = list({one.at: one for one in history}.values())
    other = rng.sample(history, len(history))
    ends = [_end(one) for one in (history, other, [*other, *history])]
    assert len({one.status == "resolved" for one in ends}) == 1
    assert len({(one.version, one.edited_at, one.assigned) for one in ends}) == 1, "the newest version and cause count"


def _end(history: list[Record]) -> LetterState:
    state = OPEN
    for record in history:
        state = after(state, record)
    return state


class Fleet:
    """Twelve letters of two handlers, in the fleet's list, and everything that is done to them there."""

    def __init__(self, database: Database, rng: random.Random) -> None:
        self.database = database
        self.table = LetterTable(database, token="t")
        self.list = TableLetters(database)
        self.rng = rng
        self.healing = PostgresHealing(database, token="b:1", instance="b", handler="one", attempts=4)

    async def fill(self) -> None:
        some = [replace(letter(f"e{n:02}"), handler=self.rng.choice(("one", "two@3", None))) for n in range(12)]
        await self.table.add("a", [Listed(one, encode(one), burial_of(one), 0.0) for one in some])

    def some(self) -> Selection:
        return Selection(ids=tuple(f"e{self.rng.randrange(12):02}" for _ in range(4)))

    async def change(self) -> None:
        what = self.rng.choice(("archived", "restored", "quarantined", "noted", "assigned"))
        await self.list.change(self.some(), what, "why", "ana")  # type: ignore[arg-type]

    async def replay(self) -> None:
        async with self.list.replaying(self.some(), 0, "test") as taking:
            for entry in await taking.take(3):
                what: What = "resolved" if self.rng.random() < 0.2 else "failed"
                at = later_than(entry.state, 1_700_000_000.0)
                await taking.record([Record(entry.letter.letter_id, what, at, "said", by="ana")])

    async def heal(self) -> None:
        for group in await self.healing.groups(9):
            letters = await self.healing.take(group, self.rng.randrange(1, 4))
            fails = self.rng.random() < 0.6
            tried = [
                Tried(one.letter_id, "failed", "no", None, 0.0, True)
                if fails
                else Tried(one.letter_id, "stored", "yes")
                for one in letters
            ]
            if self.rng.random() < 0.3:
                await self.healing.untried([one.letter_id for one in letters])
            elif tried:
                await self.healing.ended(group, tried, probe_failed=fails)
            await self.healing.leave(group, 0, 0.0)

    async def come_late(self) -> None:
        known = [f"0123456789ab-e{n:02}" for n in range(12)]
        what: What = self.rng.choice((*FOLLOWS["open"],))
        edit = Edit(self.rng.randrange(2, 5), 1, "patch", b"{}") if what == "edited" else None
        late = Record(self.rng.choice(known), what, 1_700_000_000.0 + self.rng.random(), edit=edit)
        await self.table.note([late], shared=True)

    async def edit(self) -> None:
        patch = [{"op": "replace", "path": "/payload/n", "value": self.rng.randrange(3)}]
        change = PatchChange(json.dumps(patch).encode())
        await edit(self.list, self.some(), change, by="ana", why="", about="test")

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.database.acquire() as connection:
            return [tuple(row) for row in await connection.fetch(sql)]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.mark.parametrize("seed", range(6))
async def test_in_the_list_every_step_is_in_the_table_and_the_sums_are_right(database: Database, seed: int) -> None:
    fleet = Fleet(database, random.Random(seed))
    await fleet.fill()
    status: dict[Any, Status] = {f"0123456789ab-e{n:02}": "open" for n in range(12)}
    for _ in range(25):
        before = Counter(await fleet.rows("select letter_id, what from unlost.letter_records"))
        await fleet.rng.choice((fleet.change, fleet.replay, fleet.heal, fleet.come_late, fleet.edit))()
        steps = Counter(await fleet.rows("select letter_id, what from unlost.letter_records")) - before
        for letter_id, now in await fleet.rows("select letter_id, status from unlost.letters"):
            possible = {status[letter_id]} | {
                FOLLOWS[status[letter_id]][what] for one, what in steps if one == letter_id
            }
            assert now in possible
            status[letter_id] = now
        sums = """select fingerprint, handler_name, count(*) filter (where status = 'open'),
            count(*) filter (where status = 'failed'), count(*) filter (where status = 'resolved'),
            count(*) filter (where status = 'archived'), count(*) filter (where status = 'quarantined'), count(heal_at)
            from unlost.letters group by 1, 2 order by 1, 2"""
        kept = """select fingerprint, handler_name, open, failed, resolved, archived, quarantined, healing
            from unlost.letter_groups order by 1, 2"""
        assert await fleet.rows(sums) == await fleet.rows(kept)
        heals = "select count(*) from unlost.letters where heal_at is not null and status not in ('open', 'failed')"
        assert await fleet.rows(heals) == [(0,)], "what is over or put aside does not heal"
        newest = """select letter_id, l.version, n.edited, r.event from unlost.letters l join unlost.letter_lines n
            using (letter_id) left join lateral (
                select event from unlost.letter_records r where r.letter_id = l.letter_id and event is not null
                order by version desc, at desc limit 1) r on true"""
        assert all(edited == event for _, _, edited, event in await fleet.rows(newest))
    assert len({*status.values()}) > 1
