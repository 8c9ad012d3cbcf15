"""Letters that heal in PostgreSQL: which listener may try which, what counts as a try, and what needs a human."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import pytest
from msgspec.structs import replace

from tests.support.letters import letter
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.event import Edited, parse
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import STORED, InFlight
from unlost.listener.pipeline import healer
from unlost.listener.pipeline.healer import Healer
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.ports.dead_letters import Tried
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres import healing as store_healing
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.healing import BYTES_AT_ONCE, PostgresHealing
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports

pytestmark = pytest.mark.database("migrated")

OURS, OTHER = "shop:handle", "shop:renamed"
TRIES = 3
CLOCKS = Clocks(time.time, time.monotonic)


class Bed:
    """The fleet's list, and listeners that heal."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.table = LetterTable(database, token="t")

    async def put(self, *letters: Letter, heal_after: float | None = 0.0) -> None:
        await self.table.add("a", [Listed(one, encode(one), burial_of(one), heal_after) for one in letters])

    def healing(self, handler: str | None = OURS, name: str = "b") -> PostgresHealing:
        return PostgresHealing(self.database, token=f"{name}:1", instance=name, handler=handler, attempts=TRIES)

    async def joins(self, name: str, handler: str | None) -> PostgresMembership:
        member = PostgresMembership(
            self.database, token=f"{name}:1", instance_id=name, handler=handler, changes_handler=True
        )
        await member.declare(frozenset())
        return member

    async def run(self, sql: str) -> list[tuple[object, ...]]:
        async with self.database.acquire() as connection:
            return [tuple(row) for row in await connection.fetch(sql)]

    async def until(self, sql: str) -> None:
        while not await self.run(sql):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def break_the_next_record(self, record: Callable[[], object]) -> None:
        """Cut the connection on which it is recorded how a letter ended."""
        async with self.database.acquire() as connection, connection.transaction():
            await connection.execute("lock unlost.letters in exclusive mode")
            record()
            await self.until(
                """select pg_terminate_backend(pid) from pg_locks
                where relation = 'unlost.letters'::regclass and not granted"""
            )

    async def healed_by(self, handler: str | None) -> list[str]:
        healing = self.healing(handler)
        return [one.letter_id[-1] for group in await healing.groups(9) for one in await healing.take(group, 9)]

    async def fleet(self) -> dict[str, object]:
        async with self.database.acquire() as connection:
            return await Reports(connection, self.database.group).letter_sums()


@pytest.fixture
async def bed(database_url: str) -> AsyncIterator[Bed]:
    database = Database(database_url)
    await migrate(database)
    yield Bed(database)
    await database.close()


def of(handler: str | None, name: str, **fields: object) -> Letter:
    return replace(letter(name, **fields), handler=handler)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("handler", "healed"),
    [(OURS, "anos"), (f"{OURS}@2", "anos"), (OTHER, "nos"), (None, "n")],
)
async def test_a_letter_is_for_its_handler_and_what_no_handler_saw_is_for_any(
    bed: Bed, handler: str | None, healed: str
):
    await bed.put(
        of(f"{OURS}@1", "a"), of(None, "n"), of(OURS, "o", reason="overflow"), of(f"{OURS}@1", "s", reason="stopped")
    )
    assert "".join(sorted(await bed.healed_by(handler))) == healed


async def test_a_letter_whose_handler_no_listener_runs_needs_a_human(bed: Bed):
    await bed.put(of(OURS, "a", at=1_700_000_000.0), of(OURS, "s", reason="stopped", at=1_700_000_001.0))
    await bed.put(of(OTHER, "b", at=1_700_000_002.0))
    assert (await bed.table.sums()).healing == 3, "nobody listens: who comes is not known"
    await bed.joins("b", f"{OTHER}@3")
    sums = await bed.table.sums()
    assert (sums.waiting, sums.healing, sums.needing_human, sums.oldest_at) == (3, 2, 1, 1_700_000_000.0)
    assert sums.next_at is not None
    fleet = await bed.fleet()
    assert fleet["healing"] == 2
    board = {one["reason"]: one["needing_human"] for one in await TableLetters(bed.database).board()}
    assert board == {"exhausted": 1, "stopped": 0}
    async with bed.database.acquire() as connection:
        kinds = await Reports(connection, bed.database.group).letter_kinds(9)
    assert [(reason, waiting) for _, reason, _, _, waiting in kinds] == [("exhausted", 1)]
    await bed.joins("a", OURS)
    sums = await bed.table.sums()
    assert (sums.healing, sums.oldest_at) == (3, None)


async def test_listeners_without_a_handler_heal_nothing_of_a_handler(bed: Bed):
    await bed.put(of(OURS, "s", reason="stopped"))
    await bed.joins("b", None)
    assert (await bed.table.sums()).needing_human == 1


async def test_a_probe_that_fails_counts_for_the_letters_of_its_handler_alone(bed: Bed):
    await bed.put(of(OURS, "a"), of(OTHER, "b"))
    healing = bed.healing(OURS)
    for _ in range(TRIES):
        await bed.run("update unlost.letters set heal_at = now() where heal_at is not null")
        (group,) = await healing.groups(9)
        (one,) = await healing.take(group, 1)
        await healing.ended(group, [Tried(one.letter_id, "failed", "no", None, 0.0, True)], probe_failed=True)
        await healing.leave(group, 1, 0.0)
    waiting = "select event_id, heal_at is null from unlost.letters order by 1"
    assert await bed.run(waiting) == [("a", True), ("b", False)]
    assert await bed.healed_by(OTHER) == ["b"]
    (shown,) = await TableLetters(bed.database).groups(Selection())
    assert (shown.letters, shown.waiting) == (2, 2), "people see one group"


async def test_a_letter_that_was_not_tried_has_its_try_back(bed: Bed):
    await bed.put(of(OURS, "a"))
    before = await bed.run("select heal_base from unlost.letters")
    healing = bed.healing()
    for _ in range(2 * TRIES):
        (group,) = await healing.groups(9)
        (one,) = await healing.take(group, 9)
        assert await bed.healing(name="c").take(group, 9) == []
        await healing.untried([one.letter_id])
        await healing.leave(group, 0, 0.0)
    assert one.tries == 0
    assert await bed.run("select heal_base from unlost.letters where heal_at <= now()") == before
    assert await bed.run("select * from unlost.letter_leases") == []


async def test_settled_is_refuted_without_a_row_or_another_letter(bed: Bed):
    await bed.put(of(OURS, "a"), of(OURS, "s"))
    await bed.run(
        """insert into unlost.events
            (event_id, payload, payload_sha256, instance_id, claim_token, epoch, attempts, received_at)
        values ('s', '{}', sha256(''), 'a', 'a', 1, 1, now())"""
    )
    healing = bed.healing()
    (group,) = await healing.groups(9)
    taken = [one.letter_id for one in await healing.take(group, 9)]
    assert [one[-1] for one in await healing.refuted(taken)] == ["a"]


async def test_the_end_of_each_letter_is_recorded_if_it_was_looked_up_too(bed: Bed):
    await bed.put(of(OURS, "a"), of(OURS, "s"), of(OURS, "u"))
    healing = bed.healing()
    (group,) = await healing.groups(9)
    a, s, u = sorted([one.letter_id for one in await healing.take(group, 9)], key=lambda one: one[-1])
    assert sorted(await healing.refuted([a, s])) == sorted([a, s])
    tried = [Tried(a, "failed", "no", None, 60.0), Tried(s, "settled", "a row")]
    assert await healing.ended(group, tried, probe_failed=False) == [s]
    await healing.untried([u])
    assert await bed.run("select event_id, status, detail from unlost.letters order by 1") == [
        ("a", "open", "no"), ("s", "resolved", "a row"), ("u", "open", ""),
    ]  # fmt: skip
    assert await bed.run("select * from unlost.letter_leases") == []
    for gone in (a, s, u):
        with pytest.raises(KeyError):  # nothing of it is kept in memory
            await healing.refuted([gone])


async def test_letters_are_taken_up_to_so_many_bytes(bed: Bed):
    large = "x" * (BYTES_AT_ONCE // 3)
    await bed.put(*[of(OURS, name, at=at, text=large) for at, name in enumerate("abcd")])
    healing = bed.healing()
    (group,) = await healing.groups(9)
    assert [one.letter_id[-1] for one in await healing.take(group, 9)] == ["a", "b"]
    assert [one.letter_id[-1] for one in await healing.take(group, 9)] == ["c", "d"]
    huge = of(OURS, "e", text=large * 4)
    await bed.put(huge)
    assert [one.letter_id[-1] for one in await healing.take(group, 9)] == ["e"]


async def test_a_letter_that_cannot_be_read_is_left_to_a_human_and_holds_up_no_other(bed: Bed):
    await bed.put(of(OURS, "a", at=1.0), of(OURS, "b", at=2.0))
    await bed.run("update unlost.letter_lines set line = '{' where letter_id like '%a'")
    healing = bed.healing()
    (group,) = await healing.groups(9)
    assert [one.letter_id[-1] for one in await healing.take(group, 1)] == ["b"]
    assert await bed.run("select event_id from unlost.letters where heal_at is null") == [("a",)]


async def test_only_what_is_at_work_stays_leased(bed: Bed):
    await bed.put(of(OURS, "a", error_type="A"), of(OURS, "b", error_type="B"))
    healing, peer = bed.healing(), bed.healing(name="c")
    one, other = await healing.groups(9)
    (letter_id,) = [found.letter_id for found in await healing.take(one, 9)]
    await healing.take(other, 9)
    for sql in (
        "update unlost.letters set heal_at = now()",
        "update unlost.letter_groups set healer_until = now()",
        "update unlost.letter_leases set until = now()",
    ):
        await bed.run(sql)
    await healing.renew([one], [letter_id])
    (free,) = await peer.groups(9)
    assert free.fingerprint == other.fingerprint
    assert await peer.take(one, 9) == []
    assert len(await peer.take(free, 9)) == 1


async def test_a_group_whose_letters_a_replay_holds_is_not_taken_until_it_frees_one(bed: Bed):
    """Otherwise a listener would take and leave it without a pause, for as long as the replay lasts."""
    await bed.put(of(OURS, "a"))
    healing = bed.healing()
    async with TableLetters(bed.database).replaying(Selection(), 0, "a person") as taking:
        (held,) = await taking.take(1)
        assert await healing.groups(9) == []
        await taking.free([held.letter.letter_id])
        assert len(await healing.groups(9)) == 1


async def test_groups_have_their_turns(bed: Bed):
    """One that was left is behind all that waited meanwhile, although its letters are older."""
    await bed.put(of(OURS, "a", at=1_700_000_000.0, error_type="A"), of(OURS, "b", at=1_700_000_001.0, error_type="B"))
    healing = bed.healing()
    (first,) = await healing.groups(1)
    await healing.leave(first, 0, 0.0)
    (second,) = await healing.groups(1)
    assert first != second


async def keep(flights: Sequence[InFlight]) -> bool:
    return False


async def test_after_an_error_of_postgresql_a_letter_is_tried_again(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(healer, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(store_healing, "LEASE_SECONDS", 1.0)
    await bed.put(of(OURS, "a"))
    queue: BatchQueue[InFlight] = BatchQueue()
    heard: list[Fact] = []
    affinity = PeerAffinity(queue, peer_wait=0.0)
    intake = Intake(policy=Policy(), affinity=affinity, clocks=CLOCKS, facts=heard.append)
    tries = Healer(
        intake=intake, letters=bed.healing(), who="b", withdraw=keep, policy=HealPolicy(), clocks=CLOCKS,
        facts=heard.append,
    )  # fmt: skip
    running = asyncio.create_task(tries.run())
    async with asyncio.timeout(30):
        (flight,) = await queue.take(9)
        await bed.break_the_next_record(partial(intake.finish, [(flight, STORED)]))
        await bed.run("update unlost.letters set heal_at = now()")
        (flight,) = await queue.take(9)
        intake.finish([(flight, STORED)])
        await bed.until("select true from unlost.letters where status = 'resolved'")
    running.cancel()
    await asyncio.wait([running])


async def test_the_newest_version_heals_under_the_claim_of_its_event(bed: Bed):
    await bed.put(of(OURS, "a"), of(OURS, "s", reason="stopped"))
    change = PatchChange(b'[{"op": "replace", "path": "/payload/n", "value": 2}]')
    await edit(TableLetters(bed.database), Selection(), change, by="ana", why="", about="test")
    healing = bed.healing()
    found = {one.letter_id[-1]: one for group in await healing.groups(9) for one in await healing.take(group, 9)}
    for name in "as":
        original = parse(letter(name).event or b"", max_bytes=1_000).digest
        one = found[name]
        assert isinstance(one.frame, bytes)
        assert parse(one.frame, max_bytes=1_000).payload == b'{"n":2}'
        assert (one.claimed, one.edited) == (True, Edited(2, original)), "it gets no second letter"
