"""The promises of every journal, run against each adapter."""

import hashlib
import itertools
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.codecs import Keys
from unlost.listener.core.codec import EventCodec
from unlost.listener.core.cursor import parse_cursor
from unlost.ops.upkeep.journal import JournalGroups
from unlost.producer.journal.coded import CodedJournal, plain_body
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.groups import Group, RetentionLimits, kept_for
from unlost.producer.journal.jetstream import groups as stream_groups
from unlost.producer.journal.jetstream.adapter import JetStreamJournal
from unlost.producer.journal.known import Plain, as_it_is
from unlost.producer.journal.port import Entry, Journal, JournalError
from unlost.producer.journal.postgres import groups as server_groups
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.journal.publications import Lines, Publication, lines_of
from unlost.producer.journal.sqlite import groups as file_groups
from unlost.producer.journal.sqlite import statements
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.journal.sqlite.files import PATIENCE
from unlost.producer.journal.timelines import EMPTY_KEPT, Start
from unlost.producer.publish.accept import publication as parsed
from unlost.producer.publish.accept import wrapped

PLENTY = 10**12
KINDS = ["sqlite", "postgres", "jetstream", "sqlite-encrypted", "postgres-encrypted"]
SIZES = pytest.mark.parametrize("starts", ["sqlite", "postgres", "jetstream"], indirect=True)
"""For tests that count bytes: an encrypted body has more of them."""


class Starts:
    """One journal, which each start of its producer opens again."""

    def __init__(self, kind: str, address: str, codec: EventCodec | None) -> None:
        self._kind = kind.partition("-")[0]
        self._address = address
        self._codec = codec
        self._last: Journal | None = None

    def again(self) -> Journal:
        """Close the journal of the start before, and open it anew."""
        self.close()
        plain = as_it_is if self._codec is None else plain_body(self._codec)
        made = self._opened(plain)
        self._last = made if self._codec is None else CodedJournal(made, self._codec)
        return self._last

    def _opened(self, plain: Plain) -> Journal:
        match self._kind:
            case "sqlite":
                return SqliteJournal(Path(self._address), plain)
            case "jetstream":
                return JetStreamJournal(self._address, plain=plain)
        return PostgresJournal(self._address, plain=plain)

    @contextmanager
    def groups(self) -> Iterator[JournalGroups]:
        """Open the groups beside the producer, as ``unlost journal`` does."""
        match self._kind:
            case "sqlite":
                with file_groups.opened(Path(self._address)) as file:
                    yield file_groups.FileGroups(file)
            case "jetstream":
                with stream_groups.opened(self._address) as groups:
                    yield groups
            case _:
                with server_groups.opened(self._address) as found:
                    yield found

    def close(self) -> None:
        if self._last is not None:
            self._last.close()
        self._last = None


@pytest.fixture(params=KINDS)
def starts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starts]:
    kind = request.param
    if kind.startswith("sqlite"):
        address = str(tmp_path / "journal.sqlite")
    else:
        address = request.getfixturevalue("jetstream_url" if kind == "jetstream" else "database_url")
    starts = Starts(kind, address, Keys(tmp_path / "keys.json").codec if "encrypted" in kind else None)
    yield starts
    starts.close()


@pytest.fixture
def journal(starts: Starts) -> Journal:
    return starts.again()


def not_compared(entries: list[Entry]) -> list[Entry]:
    """Entries as they are before they are stored and read."""
    return [msgspec.structs.replace(one, is_whole=None) for one in entries]


def event(event_id: str, payload: str = "1", *, redeliver: bool = False) -> Publication:
    body = f'{{"event_id":"{event_id}","payload":{payload}}}'.encode()
    return Publication(event_id, hashlib.sha256(payload.encode()).digest(), body, redeliver)


def statuses(journal: Journal, *events: Publication, at: float = 1.0) -> list[str]:
    return [placed.status for placed in journal.append([events], at).placed]


def test_reads_back_in_order_what_it_placed(journal: Journal) -> None:
    assert statuses(journal, event("a"), event("b"), event("c")) == ["accepted"] * 3
    assert [entry.event_id for entry in journal.read(0, 10)] == ["a", "b", "c"]
    assert [entry.event_id for entry in journal.read(1, 1)] == ["b"]
    assert journal.bounds() == (0, 3)


def test_knows_an_id_again_also_within_one_batch(journal: Journal) -> None:
    assert statuses(journal, event("a"), event("a"), event("a", "2")) == ["accepted", "duplicate", "conflict"]
    assert statuses(journal, event("a"), event("a", "2")) == ["duplicate", "conflict"]
    assert len(journal.read(0, 10)) == 1


def test_places_a_few_new_events_at_once_and_leaves_all_others(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    written = journal.append_at_once([[event("a")], [event("b")]], 1.0)
    assert written is not None
    assert [one.status for one in written.placed] == ["accepted"] * 2
    assert (written.newest, list(written.entries)) == (2, not_compared(journal.read(0, 10)))
    for left in ([event("a")], [event("c"), event("a", "2")], [event("c"), event("c")], [event("a", redeliver=True)]):
        assert journal.append_at_once([left], 1.0) is None
    assert journal.append_at_once([[event(f"many-{number}") for number in range(1_000)]], 1.0) is None
    assert journal.append_at_once([[event(f"large-{number}", "1" * 200_000)] for number in range(2)], 1.0) is None
    assert journal.bounds() == (0, 2)
    assert statuses(journal, event("b"), event("c")) == ["duplicate", "accepted"]


def stored_as_sent(event_id: str, body: bytes) -> Publication:
    """As a version stored it before ``event_type`` was a type."""
    return Publication(event_id, hashlib.sha256(body).digest(), body, redeliver=False)


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [
        (b'"event_type":"t","payload":1', b'"event_type":"t","payload":1', "duplicate"),
        (b'"event_type":"t","n":1', b'"n":1,"event_type":"t"', "duplicate"),
        (b'"event_type":5,"payload":1', b'"event_type":5,"payload":1.0', "duplicate"),
        (b'"event_type":"t","payload":1', b'"event_type":"u","payload":1', "conflict"),
        (b'"event_type":"t","payload":1', b'"type":"t","payload":1', "conflict"),
    ],
)
def test_a_retry_after_an_upgrade_is_the_event_of_before(
    journal: Journal, before: bytes, now: bytes, status: str
) -> None:
    assert statuses(journal, stored_as_sent("a", b'{"event_id":"a",%b}' % before)) == ["accepted"]
    assert statuses(journal, parsed(b'{"event_id":"a",%b}' % now, max_bytes=1_000)) == [status]


@pytest.mark.parametrize(
    "body",
    [
        b'{"order":1}',
        b'{"order":1.50,"type":"t"}',
        b'{"order":1,"event_type":"t"}',
        b'{"payload":{"a":"\\u00e9"},"event_type":"t"}',
        b'{"payload":1,"type":"t","region":"eu"}',
    ],
)
def test_an_object_that_was_wrapped_before_an_upgrade_is_known(journal: Journal, body: bytes) -> None:
    now = wrapped(body, max_bytes=1_000)
    before = b'{"event_id":"%b","payload":%b}' % (now.event_id.encode(), body)
    assert statuses(journal, stored_as_sent(now.event_id, before)) == ["accepted"]
    assert statuses(journal, now) == ["duplicate"]
    other = parsed(b'{"event_id":"%b","payload":{"order":2}}' % now.event_id.encode(), max_bytes=1_000)
    assert statuses(journal, other) == ["conflict"]


def test_an_object_of_which_no_id_can_be_made_is_compared_too(journal: Journal) -> None:
    large = b'{"event_id":"a","payload":{"n":1%b}}' % (b"0" * 5_000)
    assert statuses(journal, stored_as_sent("a", large)) == ["accepted"]
    assert statuses(journal, stored_as_sent("a", large.replace(b":", b": "))) == ["duplicate"]
    assert statuses(journal, stored_as_sent("a", large.replace(b"1", b"2"))) == ["conflict"]


def test_an_object_in_a_payload_is_not_the_object_itself_under_an_id_of_its_publisher(journal: Journal) -> None:
    assert statuses(journal, parsed(b'{"event_id":"a","payload":{"n":1,"type":"t"}}', max_bytes=1_000)) == ["accepted"]
    assert statuses(journal, parsed(b'{"event_id":"a","n":1,"type":"t"}', max_bytes=1_000)) == ["conflict"]


@pytest.mark.parametrize(
    ("first", "again", "status"),
    [
        ('{"x":1,"y":2}', '{"y": 2, "x": 1}', "duplicate"),
        ("1", "1.0", "duplicate"),
        ("1", "true", "conflict"),
        ("[0]", "[false]", "conflict"),
        ("9007199254740993", "9007199254740992", "conflict"),
        ('"a"', '"b"', "conflict"),
    ],
)
def test_compares_contents_as_json_values(journal: Journal, first: str, again: str, status: str) -> None:
    assert statuses(journal, event("a", first), event("a", again)) == ["accepted", status]
    assert statuses(journal, event("a", again)) == [status]


def test_redelivers_a_known_event_in_a_new_place_and_publishes_an_unknown_one(journal: Journal) -> None:
    again = event("a", redeliver=True)
    assert statuses(journal, event("a"), again, event("b", redeliver=True)) == ["accepted", "redelivered", "accepted"]
    assert statuses(journal, event("a", "2", redeliver=True)) == ["conflict"]
    assert [entry.event_id for entry in journal.read(0, 10)] == ["a", "a", "b"]


def test_reads_no_more_than_asked_in_bytes(journal: Journal) -> None:
    statuses(journal, *(event(str(number), '"' + "x" * 1_000 + '"') for number in range(10)))
    assert len(journal.read(0, 10, 2_000)) == 2
    assert len(journal.read(0, 10, 1)) == 1


def test_age_forgets_entry_and_id(journal: Journal) -> None:
    statuses(journal, event("old"), at=1.0)
    statuses(journal, event("new"), at=9.0)
    assert journal.retire(older_than=5.0, max_bytes=PLENTY, chunk=10) == 1
    assert [entry.event_id for entry in journal.read(0, 10)] == ["new"]
    assert journal.bounds() == (1, 2)
    # JetStream knows ids by the server's clock, for a window that is shorter than any sensible retention.
    assert statuses(journal, event("old")) == ["duplicate" if isinstance(journal, JetStreamJournal) else "accepted"]


@SIZES
def test_size_drops_the_oldest_bodies_and_no_more_than_needed_and_keeps_ids(journal: Journal) -> None:
    events = [event(f"event-{number}") for number in range(10)]
    statuses(journal, *events)
    size = len(events[0].body)
    assert journal.stats().size == 10 * size
    assert journal.retire(older_than=0.0, max_bytes=4 * size, chunk=100) == 6
    assert journal.retire(older_than=0.0, max_bytes=4 * size, chunk=100) == 0
    assert [entry.event_id for entry in journal.read(0, 100)] == [f"event-{number}" for number in range(6, 10)]
    assert journal.bounds() == (6, 10)
    assert statuses(journal, events[0]) == ["duplicate"]
    assert journal.stats().entries == 4


def test_numbers_never_come_back_after_all_is_forgotten(journal: Journal) -> None:
    statuses(journal, event("a"), event("b"))
    journal.retire(older_than=5.0, max_bytes=PLENTY, chunk=10)
    assert journal.bounds() == (2, 2)
    statuses(journal, event("c"))
    assert [entry.number for entry in journal.read(0, 10)] == [3]


def test_numbers_never_come_back_after_all_is_forgotten_and_a_restart(starts: Starts) -> None:
    journal = starts.again()
    statuses(journal, event("a"), event("b"))
    journal.retire(older_than=5.0, max_bytes=PLENTY, chunk=10)
    again = starts.again()
    assert again.bounds() == (2, 2)
    statuses(again, event("c"))
    assert [entry.number for entry in again.read(0, 10)] == [3]


def test_goes_on_with_a_file_in_which_sqlite_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    counting = statements.SCHEMA.replace("number integer primary key", "number integer primary key autoincrement")
    with sqlite3.connect(path) as file:
        file.executescript(counting)
    file.close()
    for name in ("a", "b"):
        journal = SqliteJournal(path)
        assert statuses(journal, event(name)) == ["accepted"]
        journal.close()
    journal = SqliteJournal(path)
    assert [entry.number for entry in journal.read(0, 10)] == [1, 2]
    journal.retire(older_than=5.0, max_bytes=PLENTY, chunk=10)
    journal.close()
    journal = SqliteJournal(path)
    assert statuses(journal, event("c")) == ["accepted"]
    assert [entry.number for entry in journal.read(0, 10)] == [3]
    journal.close()


def test_a_batch_that_cannot_be_placed_leaves_nothing(journal: Journal) -> None:
    with pytest.raises(JournalError):
        journal.append([[event("a"), Publication("\ud800", b"d", b"{}")]], 1.0)
    assert journal.bounds() == (0, 0)
    assert statuses(journal, event("a")) == ["accepted"]


def test_keeps_its_identity_and_content_when_opened_again(starts: Starts) -> None:
    first = starts.again()
    identity = first.identity
    statuses(first, event("a"), event("b", '"text"'))
    first.retire(older_than=0.0, max_bytes=len(event("b").body), chunk=10)
    first.probe(7.0)
    known, held, read = first.remember([Group("group", 1, 2.0)]), first.stats(), first.read(0, 10)
    again = starts.again()
    assert again.identity == identity
    assert (again.remember([]), again.stats(), again.read(0, 10), again.probed_at()) == (known, held, read, 7.0)
    assert statuses(again, event("b", '"text"'), event("b")) == ["duplicate", "conflict"]


def test_another_file_is_another_journal(tmp_path: Path) -> None:
    one, other = SqliteJournal(tmp_path / "one"), SqliteJournal(tmp_path / "other")
    assert one.identity != other.identity
    one.close()
    other.close()


def test_only_one_may_have_the_file_and_by_any_name(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path / "journal")
    (tmp_path / "link").symlink_to(tmp_path / "journal")
    for name in ("journal", "link"):
        with pytest.raises(JournalError, match=rf"in use by another producer \(process {os.getpid()}\)"):
            SqliteJournal(tmp_path / name)
    assert statuses(first, event("a")) == ["accepted"]
    first.close()
    SqliteJournal(tmp_path / "link").close()


def test_a_journal_with_two_names_is_refused_by_both(tmp_path: Path) -> None:
    """The lock goes by the name, and SQLite's log too: two producers would overwrite each other."""
    first = SqliteJournal(tmp_path / "journal")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "journal").hardlink_to(tmp_path / "journal")
    with pytest.raises(JournalError, match=r"has 2 names \(hard links\).*remove the other names"):
        SqliteJournal(tmp_path / "elsewhere" / "journal")
    assert statuses(first, event("a")) == ["accepted"]
    first.close()
    for _ in range(2):
        with pytest.raises(JournalError, match="has 2 names"):
            SqliteJournal(tmp_path / "journal")
    (tmp_path / "elsewhere" / "journal").unlink()
    SqliteJournal(tmp_path / "journal").close()


def test_the_lock_is_let_go_where_the_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"no database at all, and longer than a header" * 9)
    for _ in range(2):
        with pytest.raises(JournalError, match="cannot be opened"):
            SqliteJournal(tmp_path / "journal")


def test_full_synchronisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged events survive a crash of the machine, not only of the process. In this mode that needs 2 (full)."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    journal = SqliteJournal(tmp_path / "journal")
    assert len(made) == 3
    for connection in made:
        assert connection.execute("pragma synchronous").fetchone() == (2,)
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    journal.close()


def copied(path: Path, to: Path) -> Path:
    """Copy a journal in use, by the documented backup."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


def opened(path: Path, *names: str) -> tuple[SqliteJournal, list[str]]:
    journal = SqliteJournal(path)
    return journal, [one.cursor for one in journal.append([[event(name) for name in names]], 1.0).placed]


def test_a_cursor_says_where_it_was_given_and_is_the_same_for_everybody(starts: Starts) -> None:
    before = [one.cursor for one in starts.again().append([[event("a"), event("b")]], 1.0).placed]
    journal = starts.again()
    after = [one.cursor for one in journal.append([[event("c"), event("a")]], 1.0).placed]
    assert len({cursor.rpartition(".")[0] for cursor in (*before, *after[:1])}) == 2
    assert after[1] == before[0]
    assert [journal.timelines.cursor(one.number) for one in journal.read(0, 9)] == [*before, after[0]]
    assert [journal.timelines.number_of(one, journal.bounds()) for one in (*before, after[0])] == [1, 2, 3]


def test_a_cursor_from_a_history_that_was_lost_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path / "journal", "a", "b")
    backup = copied(tmp_path / "journal", tmp_path / "backup")
    lost = [one.cursor for one in journal.append([[event("x"), event("y")]], 1.0).placed]
    journal.close()
    journal, lost_later = opened(tmp_path / "journal", "z")
    journal.close()
    restored, new = opened(backup, *(f"new-{number}" for number in range(9)))
    bounds, timelines = restored.bounds(), restored.timelines
    for cursor in lost:
        assert timelines.start_after(cursor, bounds) == Start(2, is_known=False), "both histories share it up to there"
    assert timelines.start_after(lost_later[0], bounds) == Start(0, is_known=False), "everything is sent again"
    assert timelines.start_after(new[4], bounds) == Start(7, is_known=True)
    assert parse_cursor(new[0]).ordinal > parse_cursor(lost_later[0]).ordinal, (
        "a slow peer's cursor never counts as further"
    )
    assert timelines.shared_up_to(lost[1], bounds[1]) == 2
    assert timelines.shared_up_to(lost_later[0], bounds[1]) is None
    restored.close()


@pytest.mark.parametrize(
    "unknown", ["", "nonsense", "0123456789ab.t1-0000000a.1", "{identity}.2", "{stem}x", "{stem}7"]
)
def test_any_other_cursor_is_unknown(journal: Journal, unknown: str) -> None:
    statuses(journal, event("a"), event("b"))
    cursor = unknown.format(identity=journal.identity, stem=journal.timelines.stem)
    assert journal.timelines.number_of(cursor, journal.bounds()) is None


@SIZES
def test_a_cursor_that_lost_later_entries_to_retention_is_unknown(journal: Journal) -> None:
    placed = journal.append([[event("a"), event("b"), event("c")]], 1.0).placed
    journal.retire(older_than=0.0, max_bytes=len(event("c").body), chunk=10)
    starts = [journal.timelines.start_after(one.cursor, journal.bounds()) for one in placed]
    assert starts == [Start(2, is_known=False), Start(2, is_known=True), Start(3, is_known=True)]


def timelines_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as file:
        return int(file.execute("select count(*) from timelines").fetchone()[0])


def test_starts_without_events_do_not_fill_the_file(tmp_path: Path) -> None:
    for number in range(5):
        for _ in range(2 * EMPTY_KEPT):
            SqliteJournal(tmp_path / "journal").close()
        opened(tmp_path / "journal", f"event-{number}")[0].close()
    journal = SqliteJournal(tmp_path / "journal")
    assert timelines_in(tmp_path / "journal") <= 5 + EMPTY_KEPT + 1
    journal.retire(older_than=9.0, max_bytes=PLENTY, chunk=10)
    journal.close()
    journal = SqliteJournal(tmp_path / "journal")
    assert timelines_in(tmp_path / "journal") <= EMPTY_KEPT + 1
    journal.close()


def test_numbers_from_before_there_were_timelines_have_cursors_too(tmp_path: Path) -> None:
    opened(tmp_path / "journal", "a", "b")[0].close()
    with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as file:
        file.execute("drop table timelines")
    journal, _ = opened(tmp_path / "journal", "c")
    for number in (0, 1, 2, 3):
        assert journal.timelines.number_of(journal.timelines.cursor(number), journal.bounds()) == number
    journal.close()


NAMES = ('"', "\\", "','", "%d", "\x01", "\u2028", "é", "\U0001f600", "x" * 256, '",', "[1]", " ")


def piece(*publications: Publication, redeliver: bool = False) -> Lines:
    return msgspec.structs.replace(lines_of(publications), redeliver=redeliver)


def named(name: str, payload: str = "1") -> Publication:
    body = msgspec.json.encode({"event_id": name, "payload": msgspec.Raw(payload.encode())})
    return Publication(name, hashlib.sha256(payload.encode()).digest(), body)


@SIZES
def test_lines_of_one_text_are_placed_like_single_publications(journal: Journal) -> None:
    some = [named(name + str(number), '{"a":"é"}' if number % 3 else "7") for number in range(3) for name in NAMES]
    loose = [named(f"loose-{number}") for number in range(2)]
    written = journal.append([loose[:1], piece(*some), piece(named("alone")), [], loose[1:]], 1.0)
    due = [loose[0], *some, named("alone"), loose[1]]
    assert [one.status for one in written.placed] == ["accepted"] * len(due)
    assert [one.cursor for one in written.placed[3:5]] == [journal.timelines.cursor(number) for number in (4, 5)]
    assert written.newest == len(due)
    assert list(written.entries) == not_compared(journal.read(0, 100))
    assert [(one.event_id, one.digest, one.body) for one in journal.read(0, 100)] == [
        (one.event_id, one.digest, one.body) for one in due
    ]
    assert journal.stats().size == sum(len(one.body) for one in due)
    assert statuses(journal, *due) == ["duplicate"] * len(due)


@SIZES
@pytest.mark.parametrize("redeliver", [False, True])
def test_known_and_repeated_lines_of_one_text_are_not_stored_again(journal: Journal, redeliver: bool) -> None:
    again = "redelivered" if redeliver else "duplicate"
    known = [named(f"known-{number}") for number in range(20)]
    new = [named(f"new-{number}") for number in range(30)]
    statuses(journal, *known)
    some = [*new[:20], known[0], new[0], named("known-1", "2"), *new[20:], *known[5:]]
    due = ["accepted"] * 20 + [again, again, "conflict"] + ["accepted"] * 10 + [again] * 15
    written = journal.append([piece(*some, redeliver=redeliver)], 1.0)
    assert [one.status for one in written.placed] == due
    placed = [one for one, status in zip(some, due, strict=True) if status in ("accepted", "redelivered")]
    assert list(written.entries) == not_compared(journal.read(20, 100))
    assert [(one.event_id, one.body) for one in journal.read(20, 100)] == [(one.event_id, one.body) for one in placed]
    assert journal.bounds()[1] == written.newest == 20 + len(placed)
    assert journal.stats().size == sum(len(one.body) for one in [*known, *placed])
    assert [journal.first(one.event_id).number for one in known] == list(range(1, 21))
    assert statuses(journal, named("last")) == ["accepted"]
    assert journal.bounds()[1] == written.newest + 1


def test_an_index_with_too_few_ids_is_reported_and_nothing_is_placed(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    whole = piece(*(named(f"event-{number}") for number in range(40)))
    ids = msgspec.json.encode(whole.ids()[1:]).decode()
    broken = msgspec.structs.replace(whole, index=msgspec.structs.replace(whole.index, ids=ids))
    for known in (0, 1):
        with pytest.raises(JournalError):
            journal.append([broken], 1.0)
        assert journal.bounds() == (0, known)
        statuses(journal, named("event-7"), named("event-7"))  # so that the next commit looks up known ids
    journal.close()


def test_places_events_whose_numbers_are_long(tmp_path: Path) -> None:
    SqliteJournal(tmp_path / "journal").close()
    most = 10**18 - 1_000
    with sqlite3.connect(tmp_path / "journal") as file:
        file.execute("update counted set upto = ?", (most,))
    file.close()
    journal = SqliteJournal(tmp_path / "journal")
    some = [named(f"event-{number}") for number in range(40)]
    assert statuses(journal, *some[:20]) == ["accepted"] * 20
    assert statuses(journal, *some) == ["duplicate"] * 20 + ["accepted"] * 20
    assert [entry.number for entry in journal.read(0, 100)] == list(range(most + 1, most + 41))
    cursor = journal.timelines.cursor(journal.bounds()[1])
    assert journal.timelines.number_of(cursor, journal.bounds()) == most + 40
    journal.close()


def test_a_digest_that_is_none_is_reported_and_nothing_is_placed(journal: Journal) -> None:
    with pytest.raises(JournalError):
        journal.append([[*(named(str(number)) for number in range(50)), Publication("x", b"short", b"{}")]], 1.0)
    assert journal.bounds() == (0, 0)


def test_nothing_published_changes_nothing(journal: Journal) -> None:
    statuses(journal, event("a"))
    written = journal.append([[]], 1.0)
    assert (list(written.placed), written.newest, list(written.entries)) == ([], 1, [])


@SIZES
@pytest.mark.parametrize("count", [1, 3, 16, 17, 100])
def test_a_few_and_many_are_numbered_and_counted_alike(journal: Journal, count: int) -> None:
    batch = [event(f"event-{number}") for number in range(count)]
    assert statuses(journal, *batch) == ["accepted"] * count
    assert statuses(journal, *batch[:3], event("new")) == ["duplicate"] * min(3, count) + ["accepted"]
    assert [entry.number for entry in journal.read(0, 1_000)] == list(range(1, count + 2))
    assert journal.stats().size == sum(len(one.body) for one in [*batch, event("new")])


def as_after_a_crash(path: Path, to: Path) -> Path:
    """Copy an open journal as a process leaves it that dies: the database, and the log that nobody moved into it."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{to}{suffix}")
    return to


def test_a_journal_knows_its_size_after_a_crash(tmp_path: Path) -> None:
    killed = SqliteJournal(tmp_path / "journal")
    statuses(killed, *(event(f"old-{number}") for number in range(20)))
    killed.retire(older_than=0.0, max_bytes=10 * len(event("old-1x").body), chunk=100)
    statuses(killed, event("new"))
    shown = killed.stats()
    path = as_after_a_crash(tmp_path / "journal", tmp_path / "after")
    for _ in range(2):
        journal = SqliteJournal(path)
        assert journal.stats() == shown
        journal.retire(older_than=0.0, max_bytes=PLENTY, chunk=100)
        assert journal.stats() == shown
        journal.close()
    killed.close()


@SIZES
def test_after_a_failure_the_numbers_go_on_where_the_file_stands(journal: Journal) -> None:
    statuses(journal, event("a"))
    broken = Publication("b", b"", None, redeliver=False)  # type: ignore[arg-type]
    with pytest.raises((JournalError, TypeError)):
        journal.append([[broken]], 1.0)
    assert statuses(journal, event("c")) == ["accepted"]
    assert [entry.event_id for entry in journal.read(0, 10)] == ["a", "c"]
    assert journal.stats().size == len(event("a").body) + len(event("c").body)


def test_returns_where_an_event_was_placed_first(journal: Journal) -> None:
    statuses(journal, event("a"), event("b"), event("a", redeliver=True), at=7.0)
    first = journal.first("a")
    assert first is not None
    assert (first.number, first.event_id, first.at) == (1, "a", 7.0)
    assert journal.first("c") is None


def test_the_first_place_is_known_when_its_body_is_gone(journal: Journal) -> None:
    statuses(journal, event("a"), event("b"))
    journal.retire(older_than=0.0, max_bytes=0, chunk=10)
    first = journal.first("a")
    assert first is not None
    assert first.body == b""


def test_the_log_is_moved_beside_a_writer_and_begins_anew(tmp_path: Path) -> None:
    journal, log = SqliteJournal(tmp_path / "journal.sqlite"), tmp_path / "journal.sqlite-wal"
    body = "x" * 50_000
    for number in range(40):
        journal.append([[event(f"a{number}", f'"{body}"')]], 1.0)
    grown = log.stat().st_size
    journal.checkpoint()
    for number in range(40):
        journal.append([[event(f"b{number}", f'"{body}"')]], 1.0)
    assert log.stat().st_size <= grown * 1.1
    assert journal.bounds() == (0, 80)
    journal.close()


def test_the_log_begins_anew_although_somebody_writes_all_the_time(tmp_path: Path) -> None:
    """After each checkpoint, not by luck. Only a moment in which the machine stands still may make one too slow."""
    journal, log = SqliteJournal(tmp_path / "journal.sqlite"), tmp_path / "journal.sqlite-wal"
    enough = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if enough.is_set():
                return
            journal.append([[event(f"a{number}-{one}") for one in range(200)]], 1.0)

    def salts() -> bytes:
        """They differ in each log (https://sqlite.org/fileformat2.html#walformat)."""
        with log.open("rb") as file:
            return file.read(24)[16:]

    in_a_row, deadline = 0, time.monotonic() + 40
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        try:
            while in_a_row < 100:
                assert time.monotonic() < deadline, in_a_row
                before = salts()
                journal.checkpoint()
                count = journal.bounds()[1]
                while journal.bounds()[1] < count + 400 and not writing.done():
                    pass
                in_a_row = in_a_row + 1 if salts() != before else 0
        finally:
            enough.set()
        writing.result()
    journal.close()


def test_waits_for_nobody_where_it_should_place_at_once(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    journal.append_at_once([[event("a")]], 1.0)
    other = sqlite3.connect(tmp_path / "journal", isolation_level=None)
    other.execute("begin immediate")
    started = time.monotonic()
    assert journal.append_at_once([[event("b")]], 1.0) is None
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(journal.append, [[event("b")]], 1.0)
        assert journal.append_at_once([[event("c")]], 1.0) is None
        assert time.monotonic() - started < PATIENCE / 2
        other.execute("rollback")
        assert [one.status for one in waiting.result().placed] == ["accepted"]
    other.close()
    assert journal.append_at_once([[event("c")]], 1.0).newest == 3
    journal.close()


def test_an_error_of_the_writer_is_raised_at_once(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal")
    journal.close()
    with pytest.raises(JournalError):
        journal.append_at_once([[event("a")]], 1.0)


@SIZES
def test_retention_leaves_what_a_group_is_still_to_read(journal: Journal) -> None:
    statuses(journal, *(event(f"event-{number}") for number in range(10)), at=1.0)
    some = kept_for(journal.remember([Group("slow", 4, 1.0), Group("quick", 9, 1.0)]))
    assert journal.retire(older_than=0.0, max_bytes=0, chunk=100, keep=some) == 4
    rows = 0 if isinstance(journal, JetStreamJournal) else 4  # which still had the ids
    assert journal.retire(older_than=99.0, max_bytes=PLENTY, chunk=100, keep=some) == rows
    assert journal.bounds() == (4, 10)
    assert journal.retire(older_than=99.0, max_bytes=0, chunk=100, keep=some) == 0
    assert journal.stats().dropped_unread == 0
    assert journal.unread(4) == (6, sum(len(entry.body) for entry in journal.read(4, 100)))
    more = kept_for(journal.remember([Group("slow", 7, 2.0)]))
    assert journal.retire(older_than=99.0, max_bytes=PLENTY, chunk=100, keep=more) == 3
    assert journal.bounds() == (7, 10)


def test_entries_that_a_forgotten_group_had_not_read_are_counted(starts: Starts) -> None:
    journal = starts.again()
    statuses(journal, *(event(f"event-{number}") for number in range(10)), at=1.0)
    journal.remember([Group("gone", 4, 1.0), Group("here", 10, 1.0)])
    with starts.groups() as groups:
        assert (groups.newest(), {one.name for one in groups.known()}) == (10, {"gone", "here"})
        assert groups.forget("gone")
        assert not groups.forget("gone")
        assert not groups.forget("never known")
    known = journal.remember([])
    assert {one.name: one.forgotten for one in known} == {"gone": True, "here": False}
    assert kept_for(known) == RetentionLimits(10, 4)
    assert journal.retire(older_than=99.0, max_bytes=PLENTY, chunk=8, keep=kept_for(known)) == 8
    assert journal.stats().dropped_unread == 4
    assert journal.retire(older_than=99.0, max_bytes=PLENTY, chunk=8, keep=kept_for(known)) == 2
    assert journal.stats().dropped_unread == 6
    again = starts.again()
    assert again.stats().dropped_unread == 6
    assert not {one.name: one.forgotten for one in again.remember([Group("gone", 10, 2.0)])}["gone"]


def test_entries_that_nobody_read_are_dropped_and_counted(journal: Journal) -> None:
    statuses(journal, *(event(f"event-{number}") for number in range(10)), at=1.0)
    assert journal.retire(older_than=99.0, max_bytes=PLENTY, chunk=100, keep=kept_for([])) == 10
    assert journal.stats().dropped_unread == 10


@pytest.mark.parametrize(
    "change",
    [
        "event_id = cast(x'612d80' as text)",
        "body = null",
        "body = 'text'",
        "digest = null",
        "digest = 'text'",
        "at = null",
    ],
)
def test_no_damaged_column_stops_reading(tmp_path: Path, change: str) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    lines = [parsed(b'{"event_id":"%b","payload":1}' % name, max_bytes=1_000) for name in (b"a", b"b", b"c")]
    journal.append([lines], 1.0)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as file:
        file.execute("pragma ignore_check_constraints = on")
        file.execute("pragma writable_schema = on")
        file.execute("update sqlite_schema set sql = replace(sql, ' not null', '') where name = 'entries'")
    journal.close()
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as file:
        file.execute(f"update entries set {change} where number = 2")
    entries = journal.read(0, 10)
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.number for entry in damaged_of(entries)] == [2]
    assert statuses(journal, event("d")) == ["accepted"]
    journal.close()


def real(*names: str) -> list[Publication]:
    return [parsed(b'{"event_id":"%b","payload":1}' % name.encode(), max_bytes=1_000) for name in names]


def test_each_entry_has_a_checksum_however_it_was_stored(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    journal.append_at_once([real("a", "b")], 1.0)
    journal.append([real(*(f"many-{number}" for number in range(100)))], 1.0)
    journal.append([real("a", "c", "d")], 1.0)  # one is known
    entries = journal.read(0, 200)
    assert len(entries) == 104
    assert all(one.is_whole for one in entries)
    first = journal.first("many-7")
    assert first is not None
    assert first.is_whole
    journal.close()


@pytest.mark.parametrize(
    ("change", "damage"),
    [
        ("body = cast(replace(body, '1', '2') as blob)", [2, 3]),
        ("checksum = x'00000000'", [2, 3]),
        ("checksum = 'text'", []),
        ("checksum = null", []),
    ],
)
def test_a_journal_of_an_earlier_version_gets_checksums_and_finds_damage(
    tmp_path: Path, change: str, damage: list[int]
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    journal.append([real("a", "b")], 1.0)
    journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("alter table entries drop column checksum")
    journal = SqliteJournal(path)
    journal.append([real("c", "d")], 1.0)
    assert [one.is_whole for one in journal.read(0, 10)] == [None, None, True, True]
    assert not damaged_of(journal.read(0, 10))
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(f"update entries set {change} where number in (2, 3)")
    damaged = [one.number for one in damaged_of(journal.read(0, 10))]
    assert damaged == damage
    journal.close()


@pytest.mark.parametrize("table", ["groups (name text)", "journal (entry text)"])
def test_the_database_of_another_application_stays_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"create table {table}")
    before = path.read_bytes(), path.stat().st_mode
    with pytest.raises(JournalError, match="it has tables of another application"):
        SqliteJournal(path)
    assert (path.read_bytes(), path.stat().st_mode) == before


def test_accepts_nothing_once_another_producer_could_have_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = SqliteJournal(path)
    (tmp_path / "journal.sqlite.lock").unlink()
    second = SqliteJournal(path)
    refused = pytest.raises(JournalError, match=r"the lock .*journal.sqlite.lock was removed or replaced")
    for append in (first.append, first.append_at_once):
        with refused:
            append([[event("a")]], 1.0)
    with refused:
        first.probe(1.0)
    assert statuses(second, event("a")) == ["accepted"]
    first.close()
    with pytest.raises(JournalError, match="in use by another producer"):
        SqliteJournal(path)
    second.close()


def test_accepts_nothing_while_its_lock_cannot_be_looked_at(tmp_path: Path) -> None:
    lock = tmp_path / "journal.sqlite.lock"
    with closing(SqliteJournal(tmp_path / "journal.sqlite")) as journal:
        lock.rename(tmp_path / "kept")
        lock.symlink_to(lock)
        with pytest.raises(JournalError, match=r"journal\.sqlite\.lock cannot be looked at \(.*symbolic links\)"):
            journal.append([[event("a")]], 1.0)
        (tmp_path / "kept").replace(lock)
        assert statuses(journal, event("a")) == ["accepted"]


def test_a_lock_that_cannot_be_held_ends_the_start_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some file systems an open file has another number than its name has."""
    looked = os.fstat

    def of_another_number(descriptor: int) -> os.stat_result:
        mode, number, *others = looked(descriptor)
        return os.stat_result((mode, number + 1, *others))

    with monkeypatch.context() as system:
        system.setattr(os, "fstat", of_another_number)
        with pytest.raises(JournalError, match="cannot be held: this file system gives an open file another number"):
            SqliteJournal(tmp_path / "journal.sqlite")
    SqliteJournal(tmp_path / "journal.sqlite").close()


@pytest.mark.parametrize("replaced", [True, False])
def test_accepts_nothing_into_a_file_that_is_not_there_any_more(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    assert statuses(journal, event("a")) == ["accepted"]
    if replaced:
        (tmp_path / "backup").write_bytes(path.read_bytes())
        (tmp_path / "backup").replace(path)
    else:
        path.unlink()
    for append in (journal.append, journal.append_at_once):
        with pytest.raises(JournalError, match="was replaced or removed while the producer runs"):
            append([[event("b")]], 2.0)
    journal.close()
