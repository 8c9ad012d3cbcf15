"""Groups report, and the journal keeps entries for them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from unlost.producer.app.upkeep import JournalUpkeep
from unlost.producer.journal.groups import MOST, Group, RetentionLimits
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.journal.sqlite.groups import forget, opened
from unlost.producer.journal.steady import SteadyClock
from unlost.producer.journal.timelines import Timeline, Timelines
from unlost.producer.stream.groups import CursorReport, Groups, TooManyGroups, report_of

DAY = 86_400.0
LINES = Timelines("0123456789ab", [Timeline(1, "0000000a", 1), Timeline(2, "0000000b", 11)])
BOUNDS = (3, 20)


@pytest.mark.parametrize(
    "message",
    ["", "hello", "[]", "{}", '{"group":1}', '{"group":""}', '{"group":"a b"}', '{"group":"a\\n"}',
     '{"group":"' + "a" * 65 + '"}', '{"group":"a","settled":7}', '{"group":"a","database":"0123ABCD"}',
     '{"group":"a","database":"0123abcde"}', '{"group":"a","settled":"' + "9" * 600 + '"}',
     "[" * 4_000, b"\xff", b"\x00"],
)  # fmt: skip
def test_messages_that_are_no_report_are_ignored(message: str | bytes) -> None:
    assert report_of(message) is None


def test_a_report_is_read() -> None:
    assert report_of('{"group":"unlost","settled":null,"more":1}') == CursorReport("unlost")
    assert report_of('{"group":"a-b_c.D","settled":"x"}') == CursorReport("a-b_c.D", "x")


def test_groups_of_one_name_on_two_databases_each_read_everything() -> None:
    groups = reporting()
    for database, number in (("0000000a", 15), ("0000000b", 5), ("0000000a", 20)):
        report = report_of(f'{{"group":"g","settled":"{LINES.cursor(number)}","database":"{database}"}}')
        assert report is not None
        groups.report(report, bounds=BOUNDS, at=2.0)
    assert [(one.name, one.settled) for one in groups.all] == [("g@0000000a", 20), ("g@0000000b", 5)]
    assert groups.keep == RetentionLimits(5, 5)


def reporting(*known: Group) -> Groups:
    return Groups(LINES, known)


@pytest.mark.parametrize(
    ("known", "settled", "expected"),
    [
        (None, None, 3),  # as far as known here, it has read nothing
        (None, LINES.cursor(15), 15),
        (None, "0123456789ab.t1-0000000a.99", 10),  # a lost history: what both share
        (None, "0123456789ab.t7-0000000c.12", 3),
        (8, "0123456789ab.t7-0000000c.12", 8),
        (8, "nonsense", 8),
        (8, None, 8),
        (8, LINES.cursor(5), 5),  # its PostgreSQL was set back
        (8, "0123456789ab.t2-0000000b.99", 20),
    ],
)
def test_a_report_places_its_group_in_the_journal(known: int | None, settled: str | None, expected: int) -> None:
    groups = reporting(*(() if known is None else (Group("g", known, 1.0),)))
    groups.report(CursorReport("g", settled), bounds=BOUNDS, at=2.0)
    assert groups.slowest == Group("g", expected, 2.0)


def test_a_forgotten_group_that_reports_is_known_again() -> None:
    groups = reporting(Group("gone", 8, 1.0, forgotten=True), Group("here", 15, 1.0))
    assert (groups.slowest, groups.keep) == (Group("here", 15, 1.0), RetentionLimits(15, 8))
    groups.report(CursorReport("gone"), bounds=BOUNDS, at=2.0)
    assert groups.slowest == Group("gone", 3, 2.0)


def test_their_number_is_bounded() -> None:
    groups = reporting(*(Group(f"g{number}", 5, 1.0) for number in range(MOST)), Group("gone", 5, 1.0, forgotten=True))
    groups.report(CursorReport("g1", LINES.cursor(9)), bounds=BOUNDS, at=2.0)
    for name in ("one more", "gone"):
        with pytest.raises(TooManyGroups, match="unlost journal forget"):
            groups.report(CursorReport(name), bounds=BOUNDS, at=2.0)
    assert len(groups.all) == MOST + 1


def test_a_report_that_comes_during_a_write_is_not_lost() -> None:
    groups = reporting(Group("gone", 5, 1.0))
    groups.report(CursorReport("g", LINES.cursor(9)), bounds=BOUNDS, at=2.0)
    assert groups.reported() == [Group("g", 9, 2.0)]
    groups.report(CursorReport("g", LINES.cursor(12)), bounds=BOUNDS, at=3.0)
    groups.learn([Group("g", 9, 2.0), Group("gone", 5, 1.0, forgotten=True)])
    assert [(one.name, one.settled, one.forgotten) for one in groups.all] == [("g", 12, False), ("gone", 5, True)]
    assert groups.reported() == [Group("g", 12, 3.0)]
    assert groups.reported() == []


def test_a_clock_that_jumps_moves_nothing_far() -> None:
    clock = SteadyClock(1_000.0, 1_000.0, 0.0)
    assert clock.now(1_030.0, 30.0) == 1_030.0
    assert clock.now(1_060.0 + 8 * DAY, 60.0) == 1_090.0  # ahead
    assert clock.now(1_094.0 + 8 * DAY, 94.0) == 1_158.0
    assert clock.now(1_095.0, 95.0) == 1_158.0  # right again: the steady clock waits
    assert clock.now(1_200.0, 200.0) == 1_200.0
    assert clock.now(1_230.0 - 8 * DAY, 230.0) == 1_200.0  # behind: the steady clock never goes back
    away = SteadyClock(1_000.0, 1_000.0 + DAY, 0.0)
    assert away.now(1_000.0 + DAY + 30, 30.0) == 1_060.0, "after a stop it catches up"


class Times:
    """Both clocks."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 100 * DAY, 0.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(tmp_path / "journal")
    yield made
    made.close()


def kept(journal: SqliteJournal, times: Times, max_bytes: int = 10**9) -> JournalUpkeep:
    return JournalUpkeep(
        journal, retention=7 * DAY, max_bytes=max_bytes, wall=lambda: times.wall, monotonic=lambda: times.monotonic
    )


def place(journal: SqliteJournal, count: int, at: float) -> list[str]:
    first = journal.bounds()[1]
    bodies = [b'{"event_id":"e%d","payload":"%b"}' % (number, b"x" * 980) for number in range(first, first + count)]
    some = [Publication(f"e{number}", hashlib.sha256(body).digest(), body) for number, body in enumerate(bodies, first)]
    return [one.cursor for one in journal.append([some], at).placed]


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_wall_clock_eight_days_ahead_deletes_nothing(journal: SqliteJournal, is_known: bool) -> None:
    times = Times()
    keeping = kept(journal, times)
    place(journal, 100, times.wall)
    if is_known:
        keeping.report(CursorReport("g"), 100)
    await keeping.look()
    times.wall += 8 * DAY
    for _ in range(3):
        times.pass_by(12)
        assert (await keeping.look()).stats.entries == 100
    restarted = kept(journal, times)
    times.pass_by(12)
    assert (await restarted.look()).stats.entries == 100


async def test_old_entries_are_dropped_once_they_were_read(journal: SqliteJournal) -> None:
    times = Times()
    keeping = kept(journal, times)
    cursors = place(journal, 100, times.wall)
    keeping.report(CursorReport("g", cursors[39]), 100)
    for _ in range(8):
        times.pass_by(DAY)
        looked = await keeping.look()
    assert (looked.stats.entries, looked.stats.dropped_unread) == (60, 0)
    keeping.report(CursorReport("g", cursors[99]), 100)
    assert (await keeping.look()).stats.entries == 0


async def test_a_full_journal_says_so_beforehand_and_has_room_when_the_group_has_read(journal: SqliteJournal) -> None:
    times = Times()
    keeping = kept(journal, times, max_bytes=100_000)
    cursors = place(journal, 70, times.wall)
    keeping.report(CursorReport("unlost"), 70)
    looked = await keeping.look()
    assert (looked.full, looked.nearly) == ("", "")
    cursors += place(journal, 25, times.wall)
    looked = await keeping.look()
    assert looked.full == ""
    assert looked.nearly.startswith("journal: nearly full: group unlost has not read 95 events")
    cursors += place(journal, 50, times.wall)
    looked = await keeping.look()
    assert looked.full.startswith("journal full: group unlost has not read 145 events")
    assert "unlost journal forget unlost" in looked.full
    assert looked.stats.entries == 145
    keeping.report(CursorReport("unlost", cursors[59]), 145)
    looked = await keeping.look()
    assert looked.full == ""
    assert looked.stats.entries < 100
    assert looked.stats.dropped_unread == 0


async def test_a_forgotten_group_is_kept_for_no_more(journal: SqliteJournal, tmp_path: Path) -> None:
    times = Times()
    keeping = kept(journal, times, max_bytes=100_000)
    place(journal, 150, times.wall)
    keeping.report(CursorReport("gone"), 150)
    assert (await keeping.look()).full
    with opened(tmp_path / "journal") as file:
        assert forget(file, "gone")
    looked = await keeping.look()
    assert not looked.full
    assert looked.stats.dropped_unread == 150 - looked.stats.entries > 0
