"""A journal moves to another engine and back: every cursor, id and group stays, and a kill anywhere changes nothing."""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from tests.support.codecs import Keys
from unlost.ops.upkeep.journal import journal as journal_command
from unlost.producer.journal.coded import CodedJournal, is_coded_body
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.groups import Group
from unlost.producer.journal.jetstream import remains as in_stream
from unlost.producer.journal.jetstream.adapter import JetStreamJournal
from unlost.producer.journal.jetstream.moving import MovableStream
from unlost.producer.journal.migrating import migrate
from unlost.producer.journal.moves import BATCH_BYTES, BATCH_ROWS, History, MovableJournal, Moved, Row
from unlost.producer.journal.port import Journal, JournalError
from unlost.producer.journal.postgres import remains as in_server
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.journal.postgres.moving import MovableTables
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite import remains as in_file
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.journal.sqlite.moving import MovableFile
from unlost.producer.journal.timelines import Start

PLENTY = 10**12
PAIRS = [
    "sqlite-postgres", "sqlite-jetstream", "postgres-sqlite", "postgres-jetstream", "jetstream-sqlite",
    "jetstream-postgres", "sqlite-sqlite",
]  # fmt: skip
MOST_LIVE = 20_000
NOW = 4e9
"""A time of entries that is within any window."""


class Place:
    """Where a journal is or may be."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind = kind
        self.address = address

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """A producer's start on it."""
        match self.kind:
            case "sqlite":
                made: Journal = SqliteJournal(Path(self.address))
            case "jetstream":
                made = JetStreamJournal(self.address, attempts=1)
            case _:
                made = PostgresJournal(self.address, attempts=1)
        with closing(made):
            yield made

    @contextmanager
    def movable(self, *, is_live: bool = False) -> Iterator[MovableJournal]:
        """``is_live``: producers write to it, so it waits for what its server stores late."""
        match self.kind:
            case "sqlite":
                made: MovableJournal = MovableFile(Path(self.address))
            case "jetstream":
                made = MovableStream(self.address)
                made.settle = made.settle if is_live else 0.0
            case _:
                made = MovableTables(self.address)
        with closing(made):
            yield made


class Silent:
    """Shows nothing, and counts."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.numbers: list[int] = []

    def step(self, what: str) -> None:
        self.steps.append(what)

    def copied(self, number: int, newest: int) -> None:
        self.numbers.append(number)


@pytest.fixture(params=PAIRS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    kinds = request.param.split("-")
    return tuple(place_of(request, tmp_path, kind, number) for number, kind in enumerate(kinds))  # type: ignore[return-value]


def place_of(request: pytest.FixtureRequest, tmp_path: Path, kind: str, number: int) -> Place:
    match kind:
        case "sqlite":
            return Place(kind, str(tmp_path / f"{number}" / "journal.sqlite"))
        case "jetstream":
            return Place(kind, request.getfixturevalue("jetstream_url"))
    return Place(kind, request.getfixturevalue("database_url"))


def event(event_id: str, payload: str = "1", *, redeliver: bool = False) -> Publication:
    body = f'{{"event_id":"{event_id}","payload":{payload}}}'.encode()
    return Publication(event_id, hashlib.sha256(b"\x00%b\x00" % payload.encode()).digest(), body, redeliver)


def moved(old: Place, new: Place, *, insist: bool = False, is_live: bool = False) -> Silent:
    shown = Silent()
    with old.movable(is_live=is_live) as source, new.movable() as target:
        migrate(source, target, shown, insist=insist)
    return shown


def placed(journal: Journal, *events: Publication) -> list[tuple[str, str]]:
    return [(one.status, one.cursor) for one in journal.append([events], NOW).placed]


def cursors(journal: Journal) -> list[str]:
    before, newest = journal.bounds()
    return [journal.timelines.cursor(number) for number in range(before, newest + 1)]


def entries(journal: Journal) -> list[tuple[int, str, bytes, bytes, float]]:
    found: list[tuple[int, str, bytes, bytes, float]] = []
    after, newest = journal.bounds()
    while after < newest:
        some = journal.read(after, 400)
        assert not damaged_of(some)
        found += [(one.number, one.event_id, one.digest, one.body, one.at) for one in some]
        after = some[-1].number
    return found


def filled(place: Place) -> tuple[list[tuple[int, str, bytes, bytes, float]], list[str]]:
    """A journal with three starts, repetitions and groups. Returns its entries and cursors."""
    with place.journal() as journal:
        placed(journal, *(event(f"a{number}") for number in range(BATCH_ROWS + 3)))
        placed(journal, event("a1"), event("a2", redeliver=True))
    with place.journal():
        pass  # a timeline without entries
    with place.journal() as journal:
        placed(journal, *(event(f"b{number}") for number in range(4)))
        placed(journal, event("b1", redeliver=True))
        journal.remember([Group("slow@1f6a03bc", 3, 5.0), Group("quick", 505, 6.0)])
        journal.probe(7.0)
        return entries(journal), cursors(journal)


def test_a_journal_that_has_moved_is_the_same_journal(places: tuple[Place, Place]) -> None:
    old, new = places
    before, named = filled(old)
    assert len(before) == BATCH_ROWS + 3 + 1 + 4 + 1
    moved(old, new)
    with new.journal() as journal:
        assert entries(journal) == before
        assert cursors(journal) == named
        bounds = journal.bounds()
        assert [journal.timelines.start_after(one, bounds) for one in named] == [
            Start(number, is_known=True) for number in range(len(named))
        ]
        assert {(one.name, one.settled, one.at) for one in journal.remember([])} == {
            ("slow@1f6a03bc", 3, 5.0), ("quick", 505, 6.0),
        }  # fmt: skip
        assert journal.probed_at() == 7.0
        size = sum(len(one[3]) for one in before)
        assert journal.stats().size == size
        newest = len(before)
        statuses = placed(journal, event("a0"), event("b1"), event("b2", "2"), event("c"))
        assert statuses == [
            ("duplicate", named[1]), ("duplicate", named[BATCH_ROWS + 6]), ("conflict", named[BATCH_ROWS + 7]),
            ("accepted", journal.timelines.cursor(newest + 1)),
        ]  # fmt: skip
        assert journal.unread(newest) == (1, len(event("c").body))
        assert journal.held == size + len(event("c").body)


def test_a_journal_moves_back_and_forth_with_what_came_meanwhile(places: tuple[Place, Place]) -> None:
    old, new = places
    _, named = filled(old)
    moved(old, new)
    with new.journal() as journal:
        placed(journal, event("c"), event("a0", redeliver=True))
    with new.journal() as journal:
        placed(journal, event("d"))
        before, named = entries(journal), cursors(journal)
    assert moved(new, old).numbers == [len(before)]
    with old.journal() as journal:
        assert (entries(journal), cursors(journal)) == (before, named)
        placed(journal, event("e"))
        before, named = entries(journal), cursors(journal)
    moved(old, new)
    with new.journal() as journal:
        assert (entries(journal), cursors(journal)) == (before, named)
        assert [status for status, _ in placed(journal, event("c"), event("e"), event("f"))] == [
            "duplicate", "duplicate", "accepted",
        ]  # fmt: skip


def test_no_producer_starts_on_what_has_moved_and_the_sentence_says_where_to(places: tuple[Place, Place]) -> None:
    old, new = places
    filled(old)
    moved(old, new)
    with new.movable() as journal:
        where = journal.where
    with pytest.raises(Moved, match="has moved to") as refused, old.journal():
        pass
    assert where in str(refused.value)
    assert moved(old, new).steps[-1].endswith("already")


def test_groups_of_a_journal_that_has_moved_are_named_where_it_is(
    places: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = places

    def unlost_journal(place: Place, *words: str) -> Result:
        return CliRunner().invoke(journal_command, [*words, "--journal", place.address])

    with old.journal() as journal:
        journal.remember([Group("dead", 0, 1.0)])
    assert "dead" in unlost_journal(old, "groups").output
    moved(old, new)
    for words in (("groups",), ("forget", "dead")):
        refused = unlost_journal(old, *words)
        assert (refused.exit_code, "has moved to" in refused.output) == (2, True)
    with pytest.raises(Moved, match="has moved to"):
        entries_holding(old, b"a")
    assert entries_holding(new, b"a") == 0
    assert "is forgotten" in unlost_journal(new, "forget", "dead").output
    moved(new, old)
    assert "dead  forgotten" in unlost_journal(old, "groups").output


def entries_holding(place: Place, mark: bytes) -> int:
    match place.kind:
        case "sqlite":
            return in_file.entries_with(Path(place.address), mark)
        case "jetstream":
            return in_stream.entries_with(place.address, mark)
    return in_server.entries_with(place.address, mark)


class Killed(Exception):
    """The command dies here."""


class Dying:
    """A journal whose process dies in a call that changes it: before it is done, or after."""

    def __init__(self, journal: MovableJournal, death: "Death") -> None:
        self._journal = journal
        self._death = death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        return self._death.around(found) if name in ("mark", "begin", "place", "finish") else found


class Death:
    """Counts calls, and kills in the call with this number. ``after``: once it is done."""

    def __init__(self, call: int, *, after: bool) -> None:
        self._left = call
        self._after = after

    def around(self, call: Callable[..., None]) -> Callable[..., None]:
        def called(*values: object) -> None:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            call(*values)
            if self._left == 0:
                raise Killed

        return called


def until_killed(old: Place, new: Place, death: Death) -> bool:
    """Migrate; return whether it was killed."""
    with old.movable() as source, new.movable() as target:
        try:
            migrate(Dying(source, death), Dying(target, death), Silent())
        except Killed:
            return True
    return False


def refuses(place: Place) -> bool:
    try:
        with place.journal():
            return False
    except Moved:
        return True


@pytest.mark.parametrize(
    ("calls", "after"), [((1, 2, 2, 2, 2), False), ((1, 1, 1, 1, 2), True)], ids=["before", "after"]
)
def test_a_migration_that_is_killed_in_every_step_ends_as_one_that_was_not(
    places: tuple[Place, Place], calls: tuple[int, ...], after: bool
) -> None:
    old, new = places
    before, named = filled(old)
    for run, call in enumerate(calls, 1):
        assert until_killed(old, new, Death(call, after=after))
        is_finished = after and run == len(calls)
        assert is_finished or is_missing(new) or refuses(new)
    moved(old, new)
    assert refuses(old)
    with new.journal() as journal:
        assert (entries(journal), cursors(journal)) == (before, named)


def is_missing(place: Place) -> bool:
    with place.movable() as journal:
        return journal.history() is None


def test_what_retention_took_is_gone_and_its_ids_stay_where_they_can(places: tuple[Place, Place]) -> None:
    old, new = places
    with old.journal() as journal:
        placed(journal, *(event(f"old{number}") for number in range(4)))
        placed(journal, *(event(f"event{number}") for number in range(8)))
        journal.retire(older_than=0.0, max_bytes=4 * len(event("event0").body), chunk=100)
        before, named = entries(journal), cursors(journal)
        assert [one[0] for one in before] == [9, 10, 11, 12]
    moved(old, new)
    with new.journal() as journal:
        assert journal.bounds() == (8, 12)
        assert (entries(journal), cursors(journal)) == (before, named)
        assert journal.stats().size == 4 * len(event("event0").body)
        assert journal.timelines.start_after(named[0], journal.bounds()) == Start(8, is_known=True)
        keeps = "jetstream" not in (old.kind, new.kind)
        assert placed(journal, event("old0"), event("event7"))[0][0] == ("duplicate" if keeps else "accepted")
        assert placed(journal, event("event7"))[0] == ("duplicate", named[4])


@pytest.mark.parametrize("lost", [(1,), (2, 3), (8,)])
def test_an_id_that_the_disk_lost_holds_nothing_up(tmp_path: Path, database_url: str, lost: tuple[int, ...]) -> None:
    old, new = Place("postgres", database_url), Place("sqlite", str(tmp_path / "journal"))
    with old.journal() as journal:
        placed(journal, *(event(f"event{number:x}") for number in range(1, 13)))
        journal.retire(older_than=0.0, max_bytes=4 * len(event("event1").body), chunk=100)
        before = entries(journal)
    sql(database_url, f"delete from producer_journal.entries where number in ({', '.join(map(str, lost))})")
    moved(old, new)
    with new.journal() as journal:
        assert (journal.bounds(), entries(journal)) == ((8, 12), before)
        known = placed(journal, *(event(f"event{number}") for number in range(1, 9)))
    assert [number for number, (status, _) in enumerate(known, 1) if status == "accepted"] == list(lost)


def test_a_journal_of_which_everything_is_gone_gives_no_number_again(places: tuple[Place, Place]) -> None:
    old, new = places
    with old.journal() as journal:
        placed(journal, event("a"), event("b"))
        journal.retire(older_than=PLENTY, max_bytes=PLENTY, chunk=100)
        assert journal.bounds() == (2, 2)
    moved(old, new)
    with new.journal() as journal:
        assert journal.bounds() == (2, 2)
        assert placed(journal, event("c")) == [("accepted", journal.timelines.cursor(3))]
        assert journal.held == len(event("c").body)
    moved(new, old)
    with old.journal() as journal:
        assert [one[:2] for one in entries(journal)] == [(3, "c")]


def test_a_journal_without_entries_knows_the_cursor_of_its_beginning(places: tuple[Place, Place]) -> None:
    old, new = places
    with old.journal() as journal:
        beginning = journal.timelines.cursor(0)
    moved(old, new)
    with new.journal() as journal:
        assert journal.timelines.start_after(beginning, journal.bounds()) == Start(0, is_known=True)
        assert [status for status, _ in placed(journal, event("a"))] == ["accepted"]


def test_what_retention_took_where_the_journal_is_stays_away_when_it_moves_back(places: tuple[Place, Place]) -> None:
    old, new = places
    filled(old)
    moved(old, new)
    with new.journal() as journal:
        placed(journal, event("c"), event("d"))
        journal.retire(older_than=PLENTY, max_bytes=PLENTY, chunk=511 - 1)
        before, named = entries(journal), cursors(journal)
        assert [one[:2] for one in before] == [(511, "d")]
    moved(new, old)
    with old.journal() as journal:
        assert (entries(journal), cursors(journal)) == (before, named)


@pytest.fixture(params=["postgres-sqlite", "jetstream-postgres", "postgres-jetstream", "jetstream-sqlite"])
def shared_places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    first, second = request.param.split("-")
    return place_of(request, tmp_path, first, 0), place_of(request, tmp_path, second, 1)


def test_what_producers_accept_while_their_journal_moves_is_there(shared_places: tuple[Place, Place]) -> None:
    old, new = shared_places
    filled(old)
    accepted: list[str] = []
    under_way = threading.Event()

    def publish(journal: Journal) -> None:
        try:
            for number in range(MOST_LIVE):
                placed(journal, event(f"live{number}"))
                accepted.append(f"live{number}")
                if number == 20:
                    under_way.set()
        finally:
            under_way.set()

    with old.journal() as journal, ThreadPoolExecutor(1) as thread:
        publishing = thread.submit(publish, journal)
        under_way.wait()
        moved(old, new, is_live=True)
        assert isinstance(publishing.exception(), JournalError), "no producer was refused"
        with pytest.raises(Moved, match="has moved to"):
            journal.bounds()
        with pytest.raises(Moved, match="has moved to"):
            placed(journal, event("late"))
    with new.journal() as journal:
        found = [one[1] for one in entries(journal) if one[1].startswith("live")]
        assert found[: len(accepted)] == accepted
        assert len(found) - len(accepted) in (0, 1)  # what was in doubt when the journal moved
        assert journal.first("late") is None


def test_a_damaged_entry_stays_damaged(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    old = Place("sqlite", str(tmp_path / "old" / "journal.sqlite"))
    with old.journal() as journal:
        placed(journal, event("a"), event("b"), event("c"))
    with closing(sqlite3.connect(old.address)) as file:
        file.execute("update entries set body = cast(replace(body, '1', '2') as blob) where number = 2")
        file.commit()
    for kind in ("postgres", "jetstream", "sqlite"):
        new = place_of(request, tmp_path, kind, 1)
        moved(old, new)
        with new.journal() as journal:
            assert [one.number for one in damaged_of(journal.read(0, 10))] == [2]
            assert [one.event_id for one in journal.read(0, 10)] == ["a", "b", "c"]
        old = new


def test_an_encrypted_event_stays_encrypted_and_can_be_read(places: tuple[Place, Place], tmp_path: Path) -> None:
    old, new = places
    codec = Keys(tmp_path / "keys.json").codec
    with old.journal() as journal:
        placed(CodedJournal(journal, codec), event("secret", '"plain"'))
        (stored,) = journal.read(0, 10)
        assert is_coded_body(stored.body)
    moved(old, new)
    with new.journal() as journal:
        assert [one.body for one in journal.read(0, 10)] == [stored.body]
        assert [one.body for one in CodedJournal(journal, codec).read(0, 10)] == [event("secret", '"plain"').body]


def test_a_journal_in_postgres_of_an_earlier_version_moves_too(tmp_path: Path, database_url: str) -> None:
    old, new = Place("postgres", database_url), Place("sqlite", str(tmp_path / "journal"))
    with old.journal() as journal:
        placed(journal, event("a"))
    sql(database_url, "drop table producer_journal.moving")
    with old.journal() as journal:
        before, named = entries(journal), cursors(journal)
    moved(old, new)
    assert refuses(old)
    with new.journal() as journal:
        assert (entries(journal), cursors(journal)) == (before, named)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def sql(url: str, command: str) -> None:
    async def run() -> None:
        async with connected(url) as connection:
            await connection.execute(command)

    asyncio.run(run())


@pytest.mark.parametrize(
    "tables",
    ["create table groups (name text); insert into groups values ('ours')", "create table journal (entry text)"],
)
@pytest.mark.parametrize("is_target", [False, True])
def test_a_file_of_another_application_is_left_as_it_is(tmp_path: Path, tables: str, is_target: bool) -> None:
    journal, foreign = Place("sqlite", str(tmp_path / "a" / "journal")), tmp_path / "b" / "app.sqlite"
    filled(journal)
    foreign.parent.mkdir()
    with closing(sqlite3.connect(foreign)) as file:
        file.executescript(tables)
    before = foreign.read_bytes()
    other = Place("sqlite", str(foreign))
    with pytest.raises(JournalError, match=r"app\.sqlite is no journal of a producer"):
        moved(*((journal, other) if is_target else (other, journal)))
    assert foreign.read_bytes() == before
    assert [one.name for one in foreign.parent.iterdir()] == ["app.sqlite"]


def test_an_empty_file_can_become_a_journal(tmp_path: Path) -> None:
    old, new = (Place("sqlite", str(tmp_path / name / "journal")) for name in "ab")
    before, _ = filled(old)
    Path(new.address).parent.mkdir()
    Path(new.address).touch()
    moved(old, new)
    with new.journal() as journal:
        assert entries(journal) == before


class Growing:
    """A journal of which something is stored after its end was copied."""

    def __init__(self, journal: MovableJournal, path: str) -> None:
        self._journal = journal
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def finish(self, history: History) -> None:
        self._journal.finish(history)
        with closing(sqlite3.connect(self._path, isolation_level=None)) as file:
            file.execute("drop trigger if exists moved")
            file.execute(OLDER_INSERT.format("entries", "entries"))


def test_an_entry_that_came_after_the_end_is_named_aloud(tmp_path: Path) -> None:
    old, new = (Place("sqlite", str(tmp_path / name / "journal")) for name in "ab")
    before, _ = filled(old)
    late = len(before) + 1
    with (
        old.movable() as source,
        new.movable() as target,
        pytest.raises(JournalError, match=f"a/journal has entries {late} to {late}, which .*b/journal lacks"),
    ):
        migrate(source, Growing(target, old.address), Silent())


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    old, text = Place("sqlite", str(tmp_path / "a" / "journal")), tmp_path / "notes.txt"
    filled(old)
    text.write_text("not a database, but as long as the header of one would be: " + "x" * 100)
    before = text.read_bytes()
    with pytest.raises(JournalError, match=r"notes\.txt is no journal of a producer"):
        moved(old, Place("sqlite", str(text)))
    assert text.read_bytes() == before


OLDER_INSERT = (
    "insert into {} (number, event_id, digest, body, at, first) "
    "select number + 1, 'late', digest, body, 1.0, true from {} order by number desc limit 1"
)
"""As a producer writes that knows nothing of the mark."""


@pytest.mark.parametrize("kinds", ["sqlite-postgres", "postgres-sqlite"])
def test_a_journal_that_has_moved_takes_nothing_from_a_producer_of_an_earlier_version(
    request: pytest.FixtureRequest, tmp_path: Path, kinds: str
) -> None:
    old, new = (place_of(request, tmp_path, kind, number) for number, kind in enumerate(kinds.split("-")))
    before, _ = filled(old)
    moved(old, new)
    with new.movable() as journal:
        where = journal.where
    with pytest.raises((asyncpg.RaiseError, sqlite3.IntegrityError), match="has moved to") as refused:
        insert_as_before(old)
    assert where in str(refused.value)
    moved(new, old)
    insert_as_before(old)
    with old.journal() as journal:
        assert journal.bounds() == (0, len(before) + (old.kind == "sqlite"))  # the server counts by its head


def insert_as_before(place: Place) -> None:
    if place.kind == "postgres":
        sql(place.address, OLDER_INSERT.format(*["producer_journal.entries"] * 2))
    else:
        with closing(sqlite3.connect(place.address, isolation_level=None)) as file:
            file.execute(OLDER_INSERT.format("entries", "entries"))


HOLD_HEAD = "select from producer_journal.head for update"
IS_WAITED_FOR = "select exists (select from pg_locks where not granted)"
APPEND_ONE = "update producer_journal.head set newest = newest + 1; " + OLDER_INSERT.format(
    *["producer_journal.entries"] * 2
)


@pytest.mark.parametrize("first", [HOLD_HEAD, APPEND_ONE])
def test_the_mark_waits_for_appends_that_run_and_they_do_not_wait_for_it(
    tmp_path: Path, database_url: str, first: str
) -> None:
    old, new = Place("postgres", database_url), Place("sqlite", str(tmp_path / "journal"))
    before, _ = filled(old)

    async def append_while_it_moves() -> None:
        async with connected(database_url) as connection, connected(database_url) as other:
            async with connection.transaction():
                await connection.execute(first)
                moving = asyncio.create_task(asyncio.to_thread(moved, old, new))
                while not await other.fetchval(IS_WAITED_FOR):
                    assert not moving.done()
                await connection.execute(APPEND_ONE.replace("'late'", "'later'"))
            await moving

    asyncio.run(append_while_it_moves())
    with new.journal() as journal:
        assert journal.bounds() == (0, len(before) + (1 if first == HOLD_HEAD else 2))
        assert journal.first("later") is not None


def test_journals_that_do_not_belong_together_are_refused(places: tuple[Place, Place], tmp_path: Path) -> None:
    old, new = places
    with pytest.raises(JournalError, match="has no journal: no producer has made one there yet"):
        moved(old, new)
    filled(old)
    with new.journal() as journal:
        placed(journal, event("another"))
    with pytest.raises(JournalError, match="has another journal already"):
        moved(old, new)
    third = Place("sqlite", str(tmp_path / "third" / "journal"))
    fourth = Place("sqlite", str(tmp_path / "fourth" / "journal"))
    moved(old, third)
    with pytest.raises(JournalError, match=r"has moved to .*third/journal already"):
        moved(old, fourth)
    assert is_missing(fourth)
    moved(old, fourth, insist=True)
    with pytest.raises(JournalError, match="is in use: it did not move to"):
        moved(third, fourth)


def test_a_journal_that_is_not_complete_moves_nowhere(places: tuple[Place, Place], tmp_path: Path) -> None:
    old, new = places
    filled(old)
    assert until_killed(old, new, Death(2, after=True))
    with pytest.raises(JournalError, match="is not complete itself: it is being copied from"):
        moved(new, Place("sqlite", str(tmp_path / "third" / "journal")))
    with (
        pytest.raises(Moved, match=r"is not complete: it is being copied from .*run the same unlost journal migrate"),
        new.journal(),
    ):
        pass


def test_a_copy_that_was_given_up_is_not_continued_once_the_journal_has_moved_elsewhere(tmp_path: Path) -> None:
    first, second, third = (Place("sqlite", str(tmp_path / name / "journal.sqlite")) for name in "abc")
    filled(first)
    assert until_killed(first, second, Death(2, after=True))
    moved(first, third)
    with pytest.raises(JournalError, match=f"has moved to .*{third.address} already"):
        moved(first, second)
    assert refuses(second)
    assert not refuses(third)


def test_a_part_of_another_history_is_no_beginning(tmp_path: Path) -> None:
    old, new = (Place("sqlite", str(tmp_path / name / "journal.sqlite")) for name in ("old", "new"))
    filled(old)
    assert until_killed(old, new, Death(2, after=True))
    with closing(sqlite3.connect(old.address)) as file:
        file.execute("update entries set digest = zeroblob(32) where number = ?", (BATCH_ROWS,))
        file.commit()
    with pytest.raises(JournalError, match=r"has entries that .* lacks: one of the two was restored"):
        moved(old, new)


def test_a_journal_that_a_producer_uses_moves_nowhere(tmp_path: Path) -> None:
    old, new = (Place("sqlite", str(tmp_path / name / "journal.sqlite")) for name in ("old", "new"))
    with old.journal(), pytest.raises(JournalError, match="in use by another producer"):
        moved(old, new)


def test_a_copy_takes_a_bounded_number_of_bytes_at_once(places: tuple[Place, Place]) -> None:
    old, new = places
    long = "1" * 900_000
    with old.journal() as journal:
        for number in range(8):
            placed(journal, event(f"large{number}", long))
    sizes: list[int] = []
    with old.movable() as source, new.movable() as target:
        counting = Counting(source, sizes)
        migrate(counting, target, Silent())  # type: ignore[arg-type]
    assert len(sizes) >= 2
    assert max(sizes) <= BATCH_BYTES + len(long) + 1_000
    with new.journal() as journal:
        assert len(entries(journal)) == 8


class Counting:
    """Notes how many bytes each batch has."""

    def __init__(self, journal: MovableJournal, sizes: list[int]) -> None:
        self._journal = journal
        self._sizes = sizes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def rows(self, after: int, history: History) -> Sequence[Row]:
        rows = self._journal.rows(after, history)
        self._sizes.append(sum(len(row.body or b"") for row in rows))
        return rows
