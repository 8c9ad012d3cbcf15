"""A journal in JetStream where servers stop, streams are restored, and configurations would lose events."""

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import nats
import pytest
from click.testing import CliRunner, Result
from nats.aio.msg import Msg

from unlost.ops.system.nats import NatsServer, cluster_of
from unlost.ops.upkeep.journal import journal as journal_command
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.groups import Group, RetentionLimits
from unlost.producer.journal.jetstream.adapter import JetStreamJournal
from unlost.producer.journal.jetstream.connection import ApiAnswer, JetStreamConnection
from unlost.producer.journal.jetstream.moving import MovableStream
from unlost.producer.journal.jetstream.remains import entries_with
from unlost.producer.journal.migrating import migrate
from unlost.producer.journal.moves import MovableJournal
from unlost.producer.journal.nats_address import read_address
from unlost.producer.journal.port import Entry, HistoryLost, JournalError
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.journal.sqlite.moving import MovableFile
from unlost.producer.journal.timelines import Start

T = TypeVar("T")
PLENTY = 10**12


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "nats")
    made.start()
    yield made
    made.stop()


def url_of(server: NatsServer, *options: str) -> str:
    return f"nats://{server.host}/journal?{'&'.join([f'monitor=http://{server.monitor}', *options])}"


def opened(url: str) -> JetStreamJournal:
    return JetStreamJournal(url, attempts=50, delay=0.1)


def event(event_id: str, payload: str = "1") -> Publication:
    body = f'{{"event_id":"{event_id}","payload":{payload}}}'.encode()
    return Publication(event_id, hashlib.sha256(b"\x00%b\x00" % payload.encode()).digest(), body)


def placed(journal: JetStreamJournal, *events: Publication) -> list[tuple[str, str]]:
    return [(one.status, one.cursor) for one in journal.append([events], 1.0).placed]


def several(count: int, name: str = "event") -> list[Publication]:
    return [event(f"{name}-{number}") for number in range(count)]


def ask(url: str, subject: str, request: object = None) -> Any:
    """One request to the server, beside any journal."""

    async def asked() -> Any:
        client = await nats.connect(url.partition("/journal")[0])
        try:
            body = b"" if request is None else msgspec.json.encode(request)
            return msgspec.json.decode((await client.request(subject, body, timeout=5)).data)
        finally:
            await client.close()

    return asyncio.run(asked())


def copied(server: NatsServer, directory: Path) -> None:
    """Copy the server's files while it is stopped."""
    server.stop()
    shutil.copytree(directory / "nats" / "data", directory / "copy")
    server.start()


def restored(server: NatsServer, directory: Path) -> None:
    server.stop()
    shutil.rmtree(directory / "nats" / "data")
    shutil.copytree(directory / "copy", directory / "nats" / "data")
    server.start()


def test_goes_on_after_a_restart_with_every_cursor_known(server: NatsServer) -> None:
    with closing(opened(url_of(server))) as journal:
        assert journal.bounds() == (0, 0)
        nothing = journal.timelines.cursor(0)
        before = [cursor for _, cursor in placed(journal, *several(3))]
        identity = journal.identity
    with closing(opened(url_of(server))) as journal:
        assert journal.identity == identity
        (again, *_), (_, after) = placed(journal, event("event-0"), event("new"))
        assert (again, after.rpartition(".")[0] != before[0].rpartition(".")[0]) == ("duplicate", True)
        bounds = journal.bounds()
        assert [journal.timelines.number_of(one, bounds) for one in (nothing, *before, after)] == [0, 1, 2, 3, 4]
        assert [journal.timelines.cursor(number) for number in range(5)] == [nothing, *before, after]


def test_a_restart_remembers_what_retention_took(server: NatsServer) -> None:
    with closing(opened(url_of(server))) as journal:
        cursors = [cursor for _, cursor in placed(journal, *several(5))]
        journal.retire(older_than=0.0, max_bytes=2 * len(event("event-0").body), chunk=100, keep=RetentionLimits(9, 1))
        shown = journal.stats()
        assert (shown.entries, shown.dropped_unread) == (2, 2)
    with closing(opened(url_of(server))) as journal:
        assert journal.stats() == shown
        assert journal.timelines.start_after(cursors[2], journal.bounds()) == Start(3, is_known=True)
        assert journal.timelines.start_after(cursors[0], journal.bounds()) == Start(3, is_known=False)
        journal.retire(older_than=9.0, max_bytes=PLENTY, chunk=100)
        assert journal.bounds() == (5, 5)
    with closing(opened(url_of(server))) as journal:
        assert (journal.bounds(), journal.stats().size) == ((5, 5), 0)
        assert journal.timelines.start_after(cursors[4], journal.bounds()) == Start(5, is_known=True)
        placed(journal, event("new"))
        assert [entry.number for entry in journal.read(0, 10)] == [6]


@pytest.mark.parametrize("continued", [0, 9])
def test_a_restored_stream_is_noticed_and_nothing_is_added_to_it(
    server: NatsServer, tmp_path: Path, continued: int
) -> None:
    with closing(opened(url_of(server))) as journal:
        cursors = [cursor for _, cursor in placed(journal, *several(2))]
        copied(server, tmp_path)
        cursors += [cursor for _, cursor in published(journal, *several(3, "lost"))]
        journal.remember([Group("quick", 5, 1.0)])
        restored(server, tmp_path)
        if continued:
            with closing(opened(url_of(server))) as other:
                placed(other, *several(continued, "other"))
        newest = until(lambda: ask(url_of(server), "$JS.API.STREAM.INFO.journal")["state"]["last_seq"])
        for use in (lambda: placed(journal, event("new")), journal.bounds, lambda: journal.probe(1.0)):
            with suppress(JournalError):
                use()  # the connection was lost
            with pytest.raises(HistoryLost, match="does not continue what this producer has read"):
                use()
        assert ask(url_of(server), "$JS.API.STREAM.INFO.journal")["state"]["last_seq"] == newest == 2 + continued
    with closing(opened(url_of(server))) as fresh:
        assert all(one.settled <= 2 for one in fresh.remember([]))
        placed(fresh, *several(9, "fresh"))
        start = fresh.timelines.start_after(cursors[4], fresh.bounds())
        assert start == Start(2, is_known=False), "the number of a lost entry is not taken for one of ours"


def published(journal: JetStreamJournal, *events: Publication) -> list[tuple[str, str]]:
    """Publish until it is answered, as publishers do."""
    return until(lambda: placed(journal, *events))


def until(use: Callable[[], T]) -> T:
    deadline = time.monotonic() + 30
    while True:
        try:
            return use()
        except (HistoryLost, AssertionError):
            raise
        except (JournalError, nats.errors.Error, KeyError):
            if time.monotonic() > deadline:
                raise


def test_a_stream_with_less_than_its_state_protects_what_comes_after(server: NatsServer) -> None:
    """Of a backup, somebody has restored the events alone."""
    url = url_of(server)
    with closing(opened(url)) as journal:
        placed(journal, *several(5))
        journal.remember([Group("quick", 5, 1.0)])
        journal.retire(older_than=9.0, max_bytes=PLENTY, chunk=3)
        metadata = ask(url, "$JS.API.STREAM.INFO.journal")["config"]
    ask(url, "$JS.API.STREAM.DELETE.journal")
    ask(url, "$JS.API.STREAM.CREATE.journal", metadata)
    with closing(opened(url)) as journal:
        assert (journal.bounds(), journal.remember([])) == ((0, 0), [Group("quick", 0, 1.0)])
        assert [status for status, _ in placed(journal, *several(2))] == ["accepted"] * 2
        assert journal.read(0, 10) != []


class Silent:
    """Shows no progress of a move."""

    def step(self, what: str) -> None:
        pass

    def copied(self, number: int, newest: int) -> None:
        pass


def moved(source: MovableJournal, target: MovableJournal) -> None:
    with closing(source), closing(target):
        migrate(source, target, Silent())


def movable_stream(url: str) -> MovableStream:
    made = MovableStream(url)
    made.settle = 0.0
    return made


@pytest.mark.parametrize("moves_on", [False, True])
def test_a_stream_older_than_its_state_knows_no_timeline_that_it_lost(
    server: NatsServer, tmp_path: Path, moves_on: bool
) -> None:
    """Of a backup from before a move there and back, somebody has restored the events alone."""
    url, path = url_of(server), tmp_path / "journal.sqlite"
    with closing(opened(url)) as journal:
        placed(journal, *several(5))
        journal.remember([Group("quick", 5, 1.0)])
    copied(server, tmp_path)
    moved(movable_stream(url), MovableFile(path))
    lost: list[str] = []
    for run in ("first", "second"):
        with closing(SqliteJournal(path)) as file:
            lost += [one.cursor for one in file.append([several(2, run)], 1.0).placed]
            file.remember([Group("quick", file.bounds()[1], 1.0)])
    moved(MovableFile(path), movable_stream(url))
    server.stop()
    (streams,) = (tmp_path / "nats" / "data").rglob("streams")
    (before,) = (tmp_path / "copy").rglob("streams")
    shutil.rmtree(streams / "journal")
    shutil.copytree(before / "journal", streams / "journal")
    server.start()
    if moves_on:
        moved(movable_stream(url), MovableFile(tmp_path / "third.sqlite"))
    with closing(SqliteJournal(tmp_path / "third.sqlite") if moves_on else opened(url)) as fresh:
        assert fresh.bounds() == (0, 5)
        assert fresh.remember([]) == [Group("quick", 5, 1.0)]
        new = [one.cursor for one in fresh.append([several(9, "new")], 1.0).placed]
        starts = [fresh.timelines.start_after(one, fresh.bounds()) for one in lost]
        assert starts == [Start(number, is_known=False) for number in (5, 5, 0, 0)]
        assert [fresh.timelines.cursor(number) for number in range(6, 15)] == new


def test_a_stream_that_was_made_anew_is_another_journal(server: NatsServer) -> None:
    url = url_of(server)
    with closing(opened(url)) as journal:
        _, cursor = placed(journal, event("a"))[0]
        journal.remember([Group("quick", 1, 1.0)])
        ask(url, "$JS.API.STREAM.DELETE.journal")
        with pytest.raises(JournalError):
            journal.bounds()
        with closing(opened(url)) as other:
            assert other.identity != journal.identity
            assert other.remember([]) == []
            placed(other, event("b"), event("c"))
            assert other.timelines.number_of(cursor, other.bounds()) is None
            with pytest.raises(HistoryLost):
                placed(journal, event("d"))
            assert other.bounds() == (0, 2)


def test_an_append_while_the_server_dies_is_in_doubt_and_accepted_once_when_it_is_repeated(server: NatsServer) -> None:
    with closing(opened(url_of(server))) as journal:
        placed(journal, event("first"))
        server.kill()
        with pytest.raises(JournalError, match="in doubt, so publish again with the same ids"):
            placed(journal, *several(3))
        server.start()
        outcome = published(journal, event("first"), *several(3))
        assert [status for status, _ in outcome[:1]] == ["duplicate"]
        assert [entry.event_id for entry in journal.read(0, 10)] == ["first", "event-0", "event-1", "event-2"]
        assert journal.timelines.number_of(outcome[3][1], journal.bounds()) == 4


async def test_a_question_that_nobody_answers_is_asked_again(server: NatsServer) -> None:
    asked: list[str] = []
    client = await nats.connect(f"nats://{server.host}")

    async def answer_the_second(message: Msg) -> None:
        asked.append(message.reply)
        if len(asked) == 2:
            await message.respond(b"{}")

    await client.subscribe("$JS.API.UNLOST.TEST", cb=answer_the_second)
    await client.flush()
    connection = JetStreamConnection(read_address(url_of(server)), "test")
    try:
        assert await connection.api("UNLOST.TEST", None, ApiAnswer) == ApiAnswer()
    finally:
        await connection.close()
        await client.close()
    assert len({*asked}) == 2


def test_a_foreign_message_keeps_its_number_and_reading_goes_on(server: NatsServer) -> None:
    url = url_of(server)
    with closing(opened(url)) as journal:
        placed(journal, *several(4))
        for number in (2, 4):
            ask(url, "$JS.API.STREAM.MSG.DELETE.journal", {"seq": number})
        ask(url, "journal.e.00", "nobody's")
        found: list[Entry] = []
        while entries := journal.read(len(found), 10):
            found += entries
        assert [entry.number for entry in found] == [1, 2, 3, 4, 5]
        assert [entry.number for entry in damaged_of(found)] == [2, 4, 5]
        assert placed(journal, event("next")) == [("accepted", journal.timelines.cursor(6))]


def test_an_id_beyond_the_window_is_accepted_again_and_found_where_it_was_first(server: NatsServer) -> None:
    url = url_of(server)
    with closing(opened(url)) as journal:
        placed(journal, event("a"), event("b"))
        config = ask(url, "$JS.API.STREAM.INFO.journal")["config"]
        ask(url, "$JS.API.STREAM.UPDATE.journal", config | {"duplicate_window": 100_000_000})
        while placed(journal, event("a"))[0][0] == "duplicate":
            pass
        first = journal.first("b")
        assert first is not None
        assert (first.number, first.event_id, journal.first("never")) == (2, "b", None)


def test_entries_of_an_erased_person_are_counted(server: NatsServer) -> None:
    with closing(opened(url_of(server))) as journal:
        placed(journal, *(event(f"event-{number}", f'"{number % 3}"') for number in range(600)))
    assert entries_with(url_of(server), b'"payload":"2"') == 200


def test_a_server_that_does_not_sync_is_refused(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", syncs=False)
    server.start()
    try:
        with pytest.raises(JournalError, match=r"answers before events are on its disk.*sync_interval: always"):
            opened(url_of(server))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"max_age": 60_000_000_000, "duplicate_window": 60_000_000_000}, "removes messages by itself"),
        ({"max_msgs": 1_000}, "removes messages by itself"),
        ({"allow_rollup_hdrs": True}, "must not allow rollups"),
        ({"metadata": {}}, "is no stream of an Unlost producer"),
        ({"allow_atomic": False}, "needs allow_atomic"),
    ],
)
def test_a_stream_that_would_lose_events_is_refused(server: NatsServer, change: dict[str, Any], why: str) -> None:
    url = url_of(server)
    opened(url).close()
    config = ask(url, "$JS.API.STREAM.INFO.journal")["config"]
    assert "error" not in ask(url, "$JS.API.STREAM.UPDATE.journal", config | change)
    with pytest.raises(JournalError, match=f"cannot hold a journal: journal {why}"):
        opened(url)


def test_more_copies_or_larger_events_than_the_server_can_take_are_refused(server: NatsServer) -> None:
    with pytest.raises(JournalError, match="replicas=3 needs a cluster"):
        opened(url_of(server, "replicas=3"))
    with pytest.raises(JournalError, match="MAX_EVENT_BYTES is 1,048,576: set max_payload"):
        JetStreamJournal(url_of(server), largest_body=1024 * 1024, attempts=1)


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(JournalError, match=r"in JetStream at nats://127\.0\.0\.1:9/journal cannot be opened"):
        JetStreamJournal("nats://me:secret@127.0.0.1:9/journal", attempts=2, delay=0.0)


def test_a_command_lists_and_forgets_groups(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def unlost_journal(*words: str) -> Result:
        return CliRunner().invoke(journal_command, [*words, "--journal", url_of(server)])

    nothing = unlost_journal("groups")
    assert (nothing.exit_code, "no producer has made one there yet" in nothing.output) == (2, True)
    with closing(opened(url_of(server))) as journal:
        placed(journal, event("a"), event("b"))
        journal.remember([Group("slow", 0, 1.0)])
        assert "slow  2 unread" in unlost_journal("groups").output
        assert "group slow is forgotten" in unlost_journal("forget", "slow").output
        assert [one.forgotten for one in journal.remember([])] == [True]


def test_no_acknowledged_event_is_lost_or_doubled_when_the_leader_of_three_is_killed() -> None:
    directory = Path(tempfile.mkdtemp(prefix="unlost-test-"))
    servers = cluster_of(directory, 3)
    try:
        for one in servers:
            one.start()
        hosts = ",".join(one.host for one in servers)
        monitors = ",".join(f"http://{one.monitor}" for one in servers)
        with closing(opened(f"nats://{hosts}/journal?monitor={monitors}")) as journal:
            _through_a_leaders_death(journal, servers)
    finally:
        for one in servers:
            one.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _through_a_leaders_death(journal: JetStreamJournal, servers: list[NatsServer]) -> None:
    batches = [several(1 + number % 7, f"batch-{number}") for number in range(60)]
    cursors: dict[str, str] = {}

    def publish() -> None:
        for batch in batches:
            for one, (_, cursor) in zip(batch, published(journal, *batch), strict=True):
                cursors[one.event_id] = cursor

    with ThreadPoolExecutor(1) as thread:
        publishing = thread.submit(publish)
        while len(cursors) < 60 and not publishing.done():
            pass
        info = ask(f"nats://{servers[0].host}/journal", "$JS.API.STREAM.INFO.journal")
        assert info["config"]["num_replicas"] == 3
        leader = next(one for number, one in enumerate(servers, 1) if info["cluster"]["leader"] == f"n{number}")
        leader.kill()
        publishing.result()
    bounds = until(journal.bounds)
    found: list[Entry] = []
    while len(found) < bounds[1]:
        found += until(partial(journal.read, len(found), 100))
    assert sorted(entry.event_id for entry in found) == sorted(cursors) == sorted({one.event_id for one in found})
    assert {one.event_id: journal.timelines.cursor(one.number) for one in found} == cursors
    assert [entry.event_id for entry in found] == [one.event_id for batch in batches for one in batch]
