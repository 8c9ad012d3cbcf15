"""Files and the fleet's list keep the same promises about letters."""

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.support.letters import invalid, letter, write
from unlost.dlq.edit.change import EventChange, FunctionChange, PatchChange
from unlost.dlq.edit.editing import EditReport, edit, rehearse
from unlost.dlq.record.containment import alternatives
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import Edit, Record, fold
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import LetterEntry, as_values
from unlost.dlq.store.files import FileLetters
from unlost.dlq.store.port import CHANGEABLE, LetterStore, Locked
from unlost.listener.store.postgres import letter_store, taken_letters
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.shared_files import SharedFiles
from unlost.ops.audit.letters import listed_of

pytestmark = pytest.mark.database("migrated")

ALL = Selection()
LETTERS = [
    invalid("e", b"\xffno json"),
    letter(
        "a", message="no such order 17", type="order", at=1_700_000_010.0, payload={"order": {"id": 17}, "n": [1, 2]}
    ),
    letter(
        "b", message="no such order 4711", type="order", at=1_700_000_020.0, payload={"order": {"id": "17", "ok": True}}
    ),
    letter("c", reason="rejected", message="red", error_type="Reject", at=1_700_000_030.0),
    letter("d", message="slow", error_type="TimeoutError", type="bill", at=1_700_000_040.0, payload=[{"x": 3}, 4]),
]


class Files:
    def __init__(self, path: Path) -> None:
        self.path = path

    async def put(self, letters: Sequence[Letter]) -> LetterStore:
        return FileLetters([write(self.path, list(letters))])

    def another(self) -> LetterStore:
        return FileLetters([self.path])


class Table:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def put(self, letters: Sequence[Letter]) -> LetterStore:
        await LetterTable(self.database, token="t").add("a", [Listed(one, encode(one), None) for one in letters])
        return TableLetters(self.database)

    def another(self) -> LetterStore:
        return TableLetters(self.database)


@pytest.fixture(params=["files", "table"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Files | Table]:
    if request.param == "files":
        yield Files(tmp_path / "letters.jsonl")
        return
    database = Database(request.getfixturevalue("database_url"))
    await migrate(database)
    yield Table(database)
    await database.close()


@pytest.fixture
async def store(place: Files | Table) -> LetterStore:
    return await place.put(LETTERS)


async def ids(store: LetterStore, **wanted: object) -> list[str]:
    page = await store.latest(Selection(**wanted), 0)  # type: ignore[arg-type]
    return [one.letter.letter_id[-1] for one in page.entries]


async def test_letters_come_back_as_they_were_in_order_of_time(store: LetterStore) -> None:
    page = await store.latest(ALL, 0)
    assert [one.letter for one in page.entries] == LETTERS
    times = [one.letter.last_at for one in page.entries]
    assert times == sorted(times)
    short = await store.latest(ALL, 2)
    assert (short.entries, short.count) == (page.entries[-2:], 5)
    every = [one async for some in store.each(ALL) for one in some]
    assert {one.letter.letter_id for one in every} == {one.letter_id for one in LETTERS}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"reasons": frozenset({"rejected", "invalid"})}, "ec"),
        ({"error_classes": frozenset({"permanent"})}, "e"),
        ({"types": frozenset({"order", "bill"})}, "abd"),
        ({"error_types": frozenset({"TimeoutError"})}, "d"),
        ({"since": 1_700_000_020.0, "until": 1_700_000_040.0}, "bc"),
        ({"ids": ("a",)}, "a"),
        ({"ids": ("0123456789ab-b",)}, "b"),
        ({"ids": ("6789ab-c", "d")}, "cd"),
        ({"ids": ("789ab-c",)}, ""),
        ({"ids": ("0123456789ab-",)}, ""),
        ({"ids": ("e",)}, ""),
        ({"ids": ("nobody",)}, ""),
        ({"statuses": frozenset({"archived"})}, ""),
        ({"fingerprint": LETTERS[1].fingerprint}, "ab"),
        ({"fingerprint": LETTERS[1].fingerprint[:5]}, "ab"),
        ({"fingerprint": "x"}, ""),
        ({"types": frozenset({"order"}), "since": 1_700_000_015.0}, "b"),
        ({"begins": "0123456789ab-"}, "eabcd"),
        ({"begins": "0123456789ab-d"}, "d"),
        ({"begins": "a"}, "a"),
        ({"begins": "%"}, ""),
        ({"text": "SUCH ORDER 4"}, "b"),
        ({"text": "timeouterror: sl"}, "d"),
        ({"text": "%"}, ""),
        ({"payload": alternatives("order.id=17")}, "ab"),
        ({"payload": alternatives('order.id="17"')}, "b"),
        ({"payload": alternatives('{"order": {"id": 17}}')}, "a"),
        ({"payload": alternatives("order.ok=true")}, "b"),
        ({"payload": alternatives("order.ok=1")}, ""),
        ({"payload": alternatives('{"n": [2]}')}, "a"),
        ({"payload": alternatives("n=1"), "types": frozenset({"bill"})}, ""),
        ({"payload": alternatives("n=1")}, "c"),
        ({"payload": alternatives('[{"x": 3}]')}, "d"),
    ],
)
async def test_each_filter_selects_the_same(store: LetterStore, wanted: dict[str, object], found: str) -> None:
    assert sorted(await ids(store, **wanted)) == sorted(found)


async def test_a_page_says_how_many_letters_there_are_beyond_it(store: LetterStore) -> None:
    await store.change(Selection(ids=("a",)), "archived", "old", "ana")
    group = LETTERS[1].fingerprint
    for selection, count in (
        (ALL, 5),
        (Selection(statuses=frozenset({"open", "archived"})), 5),
        (Selection(statuses=frozenset({"open"})), 4),
        (Selection(fingerprint=group), 2),
        (Selection(fingerprint=group, statuses=frozenset({"archived"})), 1),
        (Selection(fingerprint=group[:3], statuses=frozenset({"open"})), 1),
        (Selection(types=frozenset({"order"})), 2),
    ):
        page = await store.latest(selection, 1)
        assert (len(page.entries), page.count) == (1, count)


async def test_sums_are_of_what_is_selected(store: LetterStore) -> None:
    groups = await store.groups(ALL)
    assert [(one.letters, one.waiting) for one in groups] == [(2, 2), (1, 1), (1, 1), (1, 1)]
    assert (groups[0].fingerprint, groups[0].reason) == (LETTERS[1].fingerprint, "exhausted")
    assert (groups[0].first_at, groups[0].last_at) == (1_700_000_010.0, 1_700_000_020.0)
    some = Selection(types=frozenset({"order"}), until=1_700_000_015.0)
    assert [one.letters for one in await store.groups(some)] == [1]
    sums = await store.statistics(ALL)
    assert (sums.letters, sums.waiting, sums.by_state) == (5, 5, {"open": 5})
    assert sums.by_reason == {"exhausted": 3, "rejected": 1, "invalid": 1}
    assert (await store.statistics(some)).letters == 1


async def test_archived_and_quarantined_letters_are_listed_with_their_author_and_can_be_restored(
    store: LetterStore,
) -> None:
    orders = Selection(types=frozenset({"order"}))
    assert await store.change(orders, "archived", "test orders", "anna@desk") == 2
    assert await store.change(orders, "archived", "again", "anna@desk") == 0
    state = (await store.latest(Selection(ids=("a",)), 0)).entries[0].state
    assert (state.status, state.detail, state.by) == ("archived", "test orders", "anna@desk")
    assert [one.waiting for one in await store.groups(orders)] == [0]
    plan = await store.plan(ALL, 0)
    assert (plan.letters, plan.over) == (2, {"archived": 2, "rejected": 1})
    assert await store.change(Selection(ids=("a",)), "restored", "", "ben") == 1
    assert await store.change(Selection(ids=("d",)), "quarantined", "kills", "ben") == 1
    assert await ids(store, statuses=frozenset({"quarantined"})) == ["d"]
    assert (await store.plan(ALL, 0)).letters == 2
    assert (await store.plan(ALL, 1)).letters == 1
    assert (await store.statistics(ALL)).by_state == {"open": 3, "archived": 1, "quarantined": 1}


async def test_a_replay_takes_what_waits_a_few_at_a_time_and_what_is_recorded_is_known_at_once(
    store: LetterStore,
) -> None:
    async with store.replaying(ALL, 0, "first") as taking:
        taken = list(await taking.take(2))
        taken += await taking.take(9)
        assert await taking.take(9) == ([] if isinstance(store, FileLetters) else ())
        assert sorted(one.letter.letter_id[-1] for one in taken) == ["a", "b", "d", "e"]
        await taking.record([Record("0123456789ab-a", "resolved", time.time(), "stored", by="me")])
        now = time.time()
        failed = Record("0123456789ab-b", "failed", now, "no", "KeyError", "me")
        await taking.record([failed, Record("0123456789ab-b", "quarantined", now + 1e-6, "too often", by="me")])
        assert await ids(store, statuses=frozenset({"resolved"})) == ["a"]
    (b,) = (await store.latest(Selection(ids=("b",)), 0)).entries
    assert (b.state.status, b.state.replays, b.state.error_type, b.state.by) == ("quarantined", 1, "KeyError", "me")
    async with store.replaying(ALL, 0, "second") as taking:
        assert [one.letter.letter_id[-1] for one in await taking.take(9) if one.letter.reason != "invalid"] == ["d"]
    async with store.replaying(Selection(rejected=True), 1, "third") as taking:
        assert len(await taking.take(9)) == 1
        assert not await taking.take(9)


async def test_neither_a_state_nor_a_history_has_the_password_in_an_error(
    store: LetterStore, place: Files | Table
) -> None:
    why = "exhausted: cannot reach ws://user:hunter2@host/x?token=hunter2"
    async with store.replaying(ALL, 0, "first") as taking:
        (taken, *_) = await taking.take(9)
        letter_id = taken.letter.letter_id
        await taking.record([Record(letter_id, "failed", time.time(), why, "OSError", "me")])
    assert (await store.history([letter_id]))[letter_id][0].detail.startswith("exhausted: cannot reach ws://***@host/x")
    for one in (store, place.another()):
        assert "hunter2" not in str((await one.latest(ALL, 0)).entries)
        assert "hunter2" not in str(await one.history([letter_id]))


async def test_details_go_with_their_letters_whoever_deletes_them(table: Table) -> None:
    """A listener of an earlier version knows no details when it prunes."""
    await table.put(LETTERS)
    left = "SELECT count(*) FROM unlost.letter_details"
    async with table.database.acquire() as connection:
        await connection.execute("DELETE FROM unlost.letters WHERE event_id IN ('a', 'b')")
        assert await connection.fetchval(left) == len(LETTERS) - 2
        await connection.execute("UPDATE unlost.letters SET status = 'resolved', state_at = to_timestamp(1)")
    assert await LetterTable(table.database, token="t").prune(time.time()) == len(LETTERS) - 2
    async with table.database.acquire() as connection:
        assert await connection.fetchval(left) == 0


async def test_a_password_that_an_earlier_version_kept_is_not_shown(table: Table) -> None:
    store = await table.put(LETTERS)
    why = "exhausted: ws://user:hunter2@host/"
    async with table.database.acquire() as connection:
        await connection.execute("UPDATE unlost.letters SET status = 'failed', detail = $1", why)
        await connection.execute(
            "INSERT INTO unlost.letter_records (letter_id, at, what, detail, done_by, instance_id, shared) "
            "SELECT letter_id, now(), 'failed', $1, 'me', 'a', true FROM unlost.letters",
            why,
        )
        reports = Reports(connection, table.database.group)
        shown: list[object] = [await reports.letters_of("a"), await reports.records_of("a")]
    shown += [(await store.latest(ALL, 0)).entries, await store.history(["0123456789ab-a"])]
    assert all("ws://***@host/" in str(one) and "hunter2" not in str(one) for one in shown)


async def test_two_replays_share_the_letters_or_the_second_is_refused(place: Files | Table) -> None:
    store = await place.put(LETTERS)
    async with store.replaying(ALL, 0, "first") as first:
        taken = {one.letter.letter_id for one in await first.take(2)}
        beside = place.another().replaying(ALL, 0, "second")
        if isinstance(store, FileLetters):
            with pytest.raises(Locked, match="first"):
                await beside.__aenter__()
        else:
            async with beside as second:
                others = {one.letter.letter_id for one in await second.take(9)}
                assert (len(others), second.elsewhere) == (2, 2)
                assert not taken & others
                assert not await first.take(9)
    async with place.another().replaying(ALL, 0, "third") as third:
        assert len(await third.take(9)) == 4, "all locks ended with their holders"


async def leases(table: Table) -> int:
    async with table.database.acquire() as connection:
        return int(await connection.fetchval("select count(*) from unlost.letter_leases"))


T = 1_700_000_000.0
BEFORE: dict[str, list[Record]] = {
    "a": [],
    "b": [
        Record("0123456789ab-b", "failed", T, "no", "ValueError"),
        Record("0123456789ab-b", "archived", T + 1, "old"),
    ],
    "c": [Record("0123456789ab-c", "resolved", T + 1, "stored")],
    "d": [Record("0123456789ab-d", "resolved", T, "stored"), Record("0123456789ab-d", "reopened", T + 99, "lost")],
    "e": [Record("0123456789ab-e", "resolved", T, "stored"), Record("0123456789ab-e", "reopened", T + 1, "lost")],
}
"""What happened to letters before a replay has stored their events."""


async def test_letters_are_resolved_together_as_the_function_for_single_records_decides(table: Table) -> None:
    store = await table.put(LETTERS)
    now = [Record(f"0123456789ab-{name}", "resolved", T + 50, "stored", by="ana") for name in BEFORE]
    await LetterTable(table.database).note([one for some in BEFORE.values() for one in some], shared=True)
    async with store.replaying(Selection(rejected=True), 0, "test", CHANGEABLE["noted"]) as taking:
        assert len(await taking.take(9)) == len(LETTERS)
        await taking.record(now)
    assert await leases(table) == 0
    for one in (await store.latest(ALL, 0)).entries:
        letter_id = one.letter.letter_id
        steps = [*BEFORE[letter_id[-1]], *(record for record in now if record.letter_id == letter_id)]
        assert one.state == fold(steps)[letter_id], letter_id
        assert steps[-1] in (await store.history([letter_id]))[letter_id]


async def test_a_replay_can_give_back_letters_that_it_did_not_run(place: Files | Table) -> None:
    store = await place.put(LETTERS)
    if isinstance(store, FileLetters):
        return
    async with store.replaying(ALL, 0, "first") as first:
        await first.free([one.letter.letter_id for one in await first.take(9)])
        async with place.another().replaying(ALL, 0, "second") as second:
            assert len(await second.take(9)) == 4
    await asyncio.sleep(0)


@pytest.fixture
async def table(database_url: str) -> AsyncIterator[Table]:
    database = Database(database_url)
    await migrate(database)
    yield Table(database)
    await database.close()


@pytest.mark.parametrize(("line", "why"), [("{", "cannot be read|checksum"), ("newer", "checksum|version")])
async def test_a_letter_of_the_list_that_cannot_be_read_is_shown_and_hides_no_other(table: Table, line: str, why: str):
    store = await table.put(LETTERS)
    async with table.database.acquire() as connection:
        await connection.execute(
            "update unlost.letter_lines set line = $1 where letter_id like '%b'",
            line.encode() if line == "{" else encode(LETTERS[2]).replace(b'"v":1', b'"v":9'),
        )
        (event,) = await listed_of(Reports(connection, table.database.group), "b")
    assert event["letter_id"].endswith("b")
    assert re.search(why, event["unreadable"])
    assert await ids(store) == list("eabcd")
    (shown,) = (await store.latest(Selection(ids=("b",)), 0)).entries
    assert re.search(why, shown.unreadable)
    assert (shown.letter.event_id, shown.letter.reason, shown.letter.event) == ("b", "exhausted", None)
    assert shown.letter.message == f"this letter cannot be read: {shown.unreadable}"
    assert as_values(shown)["unreadable"] == shown.unreadable
    assert [one.letter.letter_id[-1] for some in [s async for s in store.each(ALL)] for one in some] == list("eacd")
    (damage,) = store.damages
    assert "0123456789ab-b" in str(damage.file)
    async with store.replaying(ALL, 0, "test") as taking:
        taken = [one.letter.letter_id[-1] for one in await taking.take(2)]
        while some := await taking.take(2):
            taken += [one.letter.letter_id[-1] for one in some]
        assert (taken, taking.unreadable, taking.elsewhere) == (list("ead"), 1, 0)
    async with store.replaying(Selection(ids=("b",)), 0, "test") as taking:
        assert (await taking.take(2), taking.unreadable) == ((), 1)


async def test_letters_are_read_and_taken_up_to_so_many_bytes(table: Table, monkeypatch: pytest.MonkeyPatch):
    store = await table.put(LETTERS)
    two = max(len(encode(one)) for one in LETTERS) * 2 + 1
    monkeypatch.setattr(letter_store, "BYTES_AT_ONCE", two)
    monkeypatch.setattr(taken_letters, "BYTES_AT_ONCE", two)
    monkeypatch.setattr(letter_store, "LIST_BYTES", two)
    batches = ["".join(one.letter.letter_id[-1] for one in some) async for some in store.each(ALL)]
    assert batches == ["ea", "bc", "d"]
    page = await store.latest(ALL, 4)
    assert (["".join(one.letter.letter_id[-1] for one in page.entries)], page.count) == (["cd"], 5)
    assert (await store.latest(Selection(ids=("a", "b", "c", "d")), 9)).count == 4
    async with store.replaying(ALL, 0, "test") as taking:
        assert [one.letter.letter_id[-1] for one in await taking.take(9)] == ["e", "a"]
    monkeypatch.setattr(letter_store, "BYTES_AT_ONCE", 1)
    assert [len(some) async for some in store.each(ALL)] == [1] * 5


def patch(**values: object) -> PatchChange:
    return PatchChange(json.dumps([{"op": "replace", "path": "/payload", "value": values}]).encode())


async def edit_some(store: LetterStore, change: EventChange, **wanted: object) -> EditReport:
    return await edit(store, Selection(**wanted), change, by="ana", why="a typing error", about="test")  # type: ignore[arg-type]


async def one_of(store: LetterStore, name: str) -> LetterEntry:
    return (await store.latest(Selection(ids=(name,)), 0)).entries[0]


async def test_an_edit_makes_a_version_which_replays_take_and_the_original_is_kept(store: LetterStore) -> None:
    orders = {"types": frozenset({"order"})}
    dry = await rehearse(store, Selection(**orders), patch(n=2))  # type: ignore[arg-type]
    assert (dry.changed, (await one_of(store, "a")).edited) == (2, None)
    assert (await edit_some(store, patch(n=2), **orders)).changed == 2
    again = await edit_some(store, patch(n=2), **orders)
    assert (again.changed, again.unchanged) == (0, 2)
    assert (await edit_some(store, patch(n=3), ids=("a",))).changed == 1
    a = await one_of(store, "a")
    assert (a.letter, a.state.version, a.state.status) == (LETTERS[1], 3, "open")
    assert a.edited is not None
    assert json.loads(a.edited) == {"event_id": "a", "payload": {"n": 3}, "type": "order"}
    async with store.replaying(ALL, 0, "replay") as taking:
        taken = {one.letter.letter_id[-1]: (one.state.version, one.edited) for one in await taking.take(9)}
    assert taken["a"] == (3, a.edited)
    assert (taken["b"][0], taken["d"]) == (2, (1, None))
    history = (await store.history(["0123456789ab-a"]))["0123456789ab-a"]
    assert [(one.what, one.by, one.detail) for one in history] == [("edited", "ana", "a typing error")] * 2
    assert [(one.edit.version, one.edit.base) for one in history if one.edit] == [(2, 1), (3, 2)]
    assert as_values(a)["version"] == 3
    assert a.edited in {one.edited async for some in store.each(ALL) for one in some}


async def test_a_refused_edit_is_reported_and_holds_up_no_other(store: LetterStore) -> None:
    report = await edit_some(store, patch(n=2))
    assert (report.changed, report.refused, report.unreadable) == (4, 1, 0)
    ((letter_id, why),) = report.refusals
    assert (letter_id[-1], "there is no 'payload'" in why) == ("e", True)


async def test_notes_and_causes_stay_with_a_letter_and_change_no_status(store: LetterStore) -> None:
    assert await store.change(Selection(ids=("a", "b")), "noted", "asked the supplier", "ana") == 2
    assert await store.change(Selection(ids=("a",)), "assigned", "no sku", "ana") == 1
    a = await one_of(store, "a")
    assert (a.state.status, a.state.detail, a.state.assigned) == ("open", "", "no sku")
    assert await ids(store, assigned=frozenset({"no sku"})) == ["a"]
    assert await store.change(Selection(ids=("a",)), "archived", "over", "ben") == 1
    assert (await one_of(store, "a")).state.assigned == "no sku"
    history = (await store.history(["0123456789ab-a"]))["0123456789ab-a"]
    assert [(one.what, one.detail) for one in history] == [
        ("noted", "asked the supplier"), ("assigned", "no sku"), ("archived", "over"),
    ]  # fmt: skip


async def test_a_replay_takes_a_quarantined_letter_only_if_it_is_named(store: LetterStore) -> None:
    await store.change(Selection(ids=("a",)), "quarantined", "kills", "ben")
    orders = Selection(types=frozenset({"order"}))
    for selection, found in (
        (orders, "b"),
        (Selection(ids=("a",)), "a"),
        (Selection(statuses=frozenset({"quarantined"})), "a"),
    ):
        assert (await store.plan(selection, 0)).letters == 1
        async with store.replaying(selection, 0, "test") as taking:
            assert [one.letter.letter_id[-1] for one in await taking.take(9)] == [found]


async def test_letters_that_were_chosen_ahead_belong_to_whoever_leases_them_first(table: Table) -> None:
    await table.put(LETTERS)
    async with table.another().replaying(ALL, 0, "first") as first:
        assert [one.letter.letter_id[-1] for one in await first.take(1)] == ["e"]
        async with table.another().replaying(ALL, 0, "second") as second:
            assert [one.letter.letter_id[-1] for one in await second.take(2)] == ["a"]
            assert [one.letter.letter_id[-1] for one in await first.take(9)] == ["b", "d"]
            assert not await second.take(9)
            assert (first.elsewhere, second.elsewhere) == (1, 3)


async def test_a_replay_takes_letters_that_come_while_it_runs(table: Table) -> None:
    store = await table.put(LETTERS)
    async with store.replaying(ALL, 0, "test") as taking:
        assert len(await taking.take(9)) == 4
        await table.put([letter("late", at=1_700_000_050.0)])
        assert [one.letter.event_id for one in await taking.take(9)] == ["late"]
        assert not await taking.take(9)


async def test_an_edit_and_a_replay_of_one_letter_never_meet(place: Files | Table) -> None:
    store = await place.put(LETTERS)
    async with store.replaying(Selection(ids=("a",)), 0, "a replay") as taking:
        assert len(await taking.take(9)) == 1
        if isinstance(store, FileLetters):
            with pytest.raises(Locked, match="a replay"):
                await edit_some(place.another(), patch(n=2), ids=("a",))
        else:
            report = await edit_some(place.another(), patch(n=2))
            assert (report.changed, report.elsewhere) == (3, 1)
            assert (await one_of(store, "a")).state.version == 1
    assert (await edit_some(place.another(), patch(n=2), ids=("a",))).changed == 1
    async with store.replaying(Selection(ids=("a",)), 0, "a replay") as taking:
        (a,) = await taking.take(9)
        assert a.state.version == 2
        await taking.record([Record(a.letter.letter_id, "resolved", time.time(), "version 2 stored")])
    assert (await edit_some(place.another(), patch(n=5), ids=("a",))).changed == 0, "it is resolved"


@pytest.mark.parametrize("files", [False, True], ids=["table", "files beside it"])
async def test_an_edit_that_comes_too_late_is_not_counted(table: Table, tmp_path: Path, files: bool) -> None:
    store = await table.put(LETTERS)
    if files:
        store = SharedFiles(FileLetters([write(tmp_path / "a.jsonl", LETTERS)]), table.database)
    async with store.replaying(ALL, 0, "an edit", CHANGEABLE["edited"]) as taking:
        taken = {one.letter.event_id: one for one in await taking.take(9)}
        late, stolen, mine = (taken[name].letter.letter_id for name in "abd")
        await LetterTable(table.database).note([Record(late, "resolved", time.time() + 1, "stored")], shared=False)
        async with table.database.acquire("test") as connection:
            await connection.execute("UPDATE unlost.letter_leases SET token = 'x' WHERE letter_id = $1", stolen)
        made = Edit(2, 1, "patch", b"{}")
        records = [Record(one, "edited", time.time(), edit=made) for one in (late, stolen, mine)]
        assert await taking.record(records) == 2
        assert taking.elsewhere == 2
    history = await store.history([late, stolen, mine])
    assert {one for one, some in history.items() if any(record.edit for record in some)} == {mine}


async def test_leases_are_renewed_while_a_function_of_an_edit_works(table: Table) -> None:
    store, loop, beat = await table.put(LETTERS), asyncio.get_running_loop(), threading.Event()

    def slow(payload: object) -> object:
        loop.call_soon_threadsafe(beat.set)
        assert beat.wait(5), "the loop is held up"
        return {"n": payload}

    report = await edit_some(store, FunctionChange("slow", slow), ids=("a",))
    assert (report.changed, report.refusals) == (1, [])
