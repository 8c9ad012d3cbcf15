"""Several producers on one journal: each id is accepted once, and no reader skips an entry."""

import asyncio
import gc
import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from unlost.ops.upkeep.journal import journal as journal_command
from unlost.producer.journal.groups import Group
from unlost.producer.journal.jetstream.adapter import JetStreamJournal
from unlost.producer.journal.port import Entry, HistoryLost, JournalError
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.journal.publications import Publication, lines_of

Shared = PostgresJournal | JetStreamJournal
Open = Callable[[], Shared]


@contextmanager
def opening(made_by: Open) -> Iterator[Open]:
    made: list[Shared] = []

    def opened() -> Shared:
        made.append(made_by())
        return made[-1]

    yield opened
    for one in made:
        one.close()


@pytest.fixture(params=["postgres", "jetstream"])
def another(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens another producer's journal, on the same server."""
    if request.param == "jetstream":
        url = request.getfixturevalue("jetstream_url")
        with opening(lambda: JetStreamJournal(url, attempts=1)) as opened:
            yield opened
        return
    url = request.getfixturevalue("database_url")
    with opening(lambda: PostgresJournal(url, attempts=1)) as opened:
        yield opened


@pytest.fixture
def another_in_postgres(database_url: str) -> Iterator[Open]:
    with opening(lambda: PostgresJournal(database_url, attempts=1)) as opened:
        yield opened


def event(event_id: str, payload: str = "1", *, redeliver: bool = False) -> Publication:
    body = f'{{"event_id":"{event_id}","payload":{payload}}}'.encode()
    return Publication(event_id, hashlib.sha256(payload.encode()).digest(), body, redeliver)


def placed(journal: Shared, *events: Publication) -> list[tuple[str, str]]:
    return [(one.status, one.cursor) for one in journal.append([events], 1.0).placed]


def sql(url: str, *commands: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for command in commands:
                await connection.execute(command)
        finally:
            await connection.close()

    asyncio.run(run())


END_SESSIONS = """select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where application_name = 'unlost producer' and datname = current_database()"""


def test_each_id_is_accepted_once_and_has_one_cursor_everywhere(another: Open) -> None:
    one, two = another(), another()
    assert one.identity == two.identity
    (_, first), (_, second) = placed(one, event("a"), event("b"))
    assert placed(two, event("a"), event("c"), event("b", "2")) == [
        ("duplicate", first), ("accepted", two.timelines.cursor(3)), ("conflict", second),
    ]  # fmt: skip
    assert placed(one, event("c")) == [("duplicate", two.timelines.cursor(3))]
    assert one.read(0, 10) == two.read(0, 10)
    assert [one.timelines.cursor(number) for number in range(4)] == [
        two.timelines.cursor(number) for number in range(4)
    ]


def test_a_cursor_of_a_producer_that_started_later_is_known(another: Open) -> None:
    one = another()
    placed(one, event("a"))
    later = another()
    _, (_, cursor) = placed(later, event("b"), event("c"))
    assert one.timelines.number_of(cursor, one.bounds()) == 3
    assert placed(one, event("d")) == [("accepted", later.timelines.cursor(4))]


def test_readers_skip_nothing_while_several_write(another: Open) -> None:
    writers, reader = [another() for _ in range(3)], another()
    most = 12

    def write(number: int) -> None:
        for batch in range(most):
            some = [event(f"{number}-{batch}-{place}") for place in range(1 + batch % 5)]
            writers[number].append([[event(f"shared-{batch}"), *some]], 1.0)

    def read() -> list[Entry]:
        found: list[Entry] = []
        while not (is_done and all(one.done() for one in is_done)) or len(found) < reader.bounds()[1]:
            found += reader.read(len(found), 7)
        return found

    with ThreadPoolExecutor(4) as threads:
        is_done = [threads.submit(write, number) for number in range(3)]
        found = threads.submit(read).result()
        for one in is_done:
            one.result()
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    ids = [entry.event_id for entry in found]
    assert len(set(ids)) == len(ids) == most + 3 * sum(1 + batch % 5 for batch in range(most))
    for writer in writers:
        writer.bounds()  # so that it knows the timelines of all
    cursors = {one.timelines.cursor(entry.number) for one in (*writers, reader) for entry in found}
    assert len(cursors) == len(found)


def test_a_lost_connection_begins_a_timeline_and_what_is_published_again_is_accepted_once(
    another_in_postgres: Open, database_url: str
) -> None:
    journal = another_in_postgres()
    (_, before), *_ = placed(journal, event("a"))
    with ThreadPoolExecutor(1) as thread:
        asyncio.run(cut_off_while(database_url, lambda: thread.submit(placed, journal, event("b"))))
    (status, again), (_, after) = placed(journal, event("a"), event("b"))
    assert (status, again) == ("duplicate", before)
    assert after.rpartition(".")[0] != before.rpartition(".")[0]
    assert [entry.event_id for entry in journal.read(0, 10)] == ["a", "b"]


async def cut_off_while(database_url: str, publishing: Callable[[], Future[Any]]) -> None:
    """Hold the journal's lock, and end the session that waits for it."""
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("select from producer_journal.head for update")
            published = publishing()
            while not await holder.fetchval(
                f"select bool_or(done) from ({END_SESSIONS} and wait_event_type = 'Lock') as t (done)"
            ):
                pass
            with pytest.raises(JournalError, match="in doubt, so publish again with the same ids"):
                await asyncio.wrap_future(published)
    finally:
        await holder.close()


TO_TWO = (
    "delete from producer_journal.entries where number > 2",
    "update producer_journal.head set newest = 2",
)


@pytest.mark.parametrize("ended", [(), (END_SESSIONS,)], ids=["in place", "with a restart"])
def test_a_journal_that_went_back_is_used_no_more(
    another_in_postgres: Open, database_url: str, ended: tuple[str, ...]
) -> None:
    journal = another_in_postgres()
    cursors = [cursor for _, cursor in placed(journal, *(event(f"event-{number}") for number in range(5)))]
    sql(database_url, *TO_TWO, *ended)
    for use in (lambda: placed(journal, event("new")), journal.bounds, lambda: journal.read(0, 10)):
        for _ in range(2):  # whether or not the lost connection was noticed before
            with suppress(JournalError):
                use()
        with pytest.raises(HistoryLost, match="does not continue what this producer has read"):
            use()
    fresh = another_in_postgres()
    assert placed(fresh, *(event(f"other-{number}") for number in range(9)))[0][0] == "accepted"
    start = fresh.timelines.start_after(cursors[4], fresh.bounds())
    assert (start.number, start.is_known) == (2, False), "the number of a lost entry is not taken for one of ours"


def test_a_history_that_others_have_continued_meanwhile_is_noticed(
    another_in_postgres: Open, database_url: str
) -> None:
    """The numbers alone would look right: another producer has written more than was lost."""
    journal = another_in_postgres()
    placed(journal, *(event(f"event-{number}") for number in range(5)))
    sql(database_url, *TO_TWO)
    placed(another_in_postgres(), *(event(f"other-{number}") for number in range(9)))
    with pytest.raises(HistoryLost):
        placed(journal, event("new"))
    with pytest.raises(HistoryLost):
        journal.read(5, 10)


def test_a_commit_under_way_is_not_expected_of_a_reader(another: Open) -> None:
    """A commit of several statements, with known ids among the new, while the same producer reads."""
    journal = another()
    placed(journal, event("known"))

    def write() -> None:
        for number in range(60):
            placed(journal, event(f"event-{number}"), event("known"))

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        while not writing.done():
            journal.bounds()
        writing.result()
    assert journal.bounds() == (0, 61)


def test_a_failed_commit_leaves_no_expectation(another_in_postgres: Open) -> None:
    journal = another_in_postgres()
    batches = [lines_of([event(f"{name}-{number}") for number in range(3)]) for name in ("good", "also good")]
    refused = lines_of([event("no\0id")])
    with pytest.raises(JournalError):
        journal.append([*batches, refused], 1.0)
    assert placed(journal, event("next")) == [("accepted", journal.timelines.cursor(1))]
    assert len(journal.append(batches, 1.0).placed) == 6
    assert journal.bounds() == (0, 7)


def test_others_commits_are_announced_and_own_are_not(another: Open) -> None:
    one, two = another(), another()
    heard: SimpleQueue[int] = SimpleQueue()
    assert one.follow(heard.put)
    number = 0
    while heard.empty():  # until the connection that listens is there
        number += 1
        placed(two, event(f"other-{number}"))
    assert heard.get() <= number
    gc.collect()  # nothing but the journal refers to what listens
    placed(one, event("own"))
    placed(two, event("last"))
    while (newest := heard.get(timeout=10)) < number + 2:
        assert newest <= number, "of the own commit nothing is announced"


def test_a_missing_entry_is_damaged_and_reading_goes_on(another_in_postgres: Open, database_url: str) -> None:
    journal = another_in_postgres()
    placed(journal, *(event(f"event-{number}") for number in range(5)))
    sql(database_url, "delete from producer_journal.entries where number in (2, 5)")
    assert [entry.event_id for entry in journal.read(0, 10)] == [
        "event-0", "unreadable entry 2", "event-2", "event-3", "unreadable entry 5",
    ]  # fmt: skip


def test_a_server_that_is_away_is_waited_for_and_then_named_without_its_password() -> None:
    with pytest.raises(
        JournalError, match=r"journal in PostgreSQL at postgresql://\*\*\*@127.0.0.1:9/x cannot be opened"
    ):
        PostgresJournal("postgresql://me:secret@127.0.0.1:9/x", attempts=2, delay=0.0)


def test_groups_are_shared_and_a_command_forgets_one(
    another_in_postgres: Open, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def unlost_journal(*words: str) -> Result:
        return CliRunner().invoke(journal_command, [*words, "--journal", database_url])

    nothing = unlost_journal("groups")
    assert (nothing.exit_code, "no producer has made one there yet" in nothing.output) == (2, True)
    one, two = another_in_postgres(), another_in_postgres()
    placed(one, event("a"), event("b"))
    assert "no listener has reported to this journal yet: of its 2 events" in unlost_journal("groups").output
    one.remember([Group("slow", 0, 1.0)])
    assert [group.name for group in two.remember([Group("here", 2, time.time())])] == ["here", "slow"]
    assert "slow  2 unread" in unlost_journal("groups").output
    assert "would be known again at once" in unlost_journal("forget", "here").output
    assert "group slow is forgotten" in unlost_journal("forget", "slow").output
    assert {group.name: group.forgotten for group in two.remember([])} == {"here": False, "slow": True}
    refused = unlost_journal("forget", "never")
    assert (refused.exit_code, "the journal knows no group 'never'" in refused.output) == (2, True)
