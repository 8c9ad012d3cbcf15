"""Any events published and dropped in any order: the journal holds what a list in memory would hold."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits, kept_for
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal

PUBLISH = st.tuples(st.just("publish"), st.integers(1, 5), st.integers(0, 30))
RETIRE = st.tuples(st.just("retire"), st.integers(0, 12), st.integers(0, 600), st.integers(1, 6), st.integers(0, 30))
STEPS = st.lists(PUBLISH | RETIRE | st.just(("open again",)), max_size=14)


class Model:
    """Entries by number, each with its time and the size of its body, which is 0 once the body was dropped."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[float, int]] = {}
        self.newest = 0
        self.unread = 0

    def publish(self, sizes: list[int], at: float) -> None:
        for size in sizes:
            self.newest += 1
            self.entries[self.newest] = (at, size)

    @property
    def readable(self) -> list[int]:
        return [number for number, (_, size) in self.entries.items() if size]

    @property
    def held(self) -> int:
        return sum(size for _, size in self.entries.values())

    @property
    def before_oldest(self) -> int:
        return min(self.readable, default=self.newest + 1) - 1

    def retire(self, older_than: float, max_bytes: int, chunk: int, keep: RetentionLimits) -> int:
        before, count = self.before_oldest, 0
        for number, (at, _) in list(self.entries.items())[:chunk]:
            if at >= older_than or number > keep.after:
                break
            del self.entries[number]
            count += 1
        for number in self.readable[:chunk]:
            if self.held <= max_bytes or number > keep.after:
                break
            self.entries[number] = (self.entries[number][0], 0)
            count += 1
        self.unread += max(0, self.before_oldest - max(before, keep.read))
        return count


def publications(first: int, count: int, length: int) -> list[Publication]:
    bodies = [f'{{"event_id":"{first + n}","payload":"{"x" * length}"}}'.encode() for n in range(count)]
    return [Publication(str(first + n), hashlib.sha256(body).digest(), body) for n, body in enumerate(bodies)]


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_retention_takes_the_oldest_and_no_more_than_it_should(steps: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal, model = SqliteJournal(Path(directory) / "journal"), Model()
        for at, (what, *given_) in enumerate(steps):
            if what == "publish":
                some = publications(model.newest + 1, *given_)
                journal.append([some], float(at))
                model.publish([len(one.body) for one in some], float(at))
            elif what == "retire":
                older_than, max_bytes, chunk, settled = given_
                keep = kept_for([Group("g", settled, 1.0)]) if settled else KEEP_NOTHING
                done = journal.retire(older_than=float(older_than), max_bytes=max_bytes, chunk=chunk, keep=keep)
                assert done == model.retire(float(older_than), max_bytes, chunk, keep)
            else:
                journal.close()
                journal = SqliteJournal(Path(directory) / "journal")
            stats = journal.stats()
            assert (stats.size, stats.newest, stats.dropped_unread) == (model.held, model.newest, model.unread)
            assert journal.bounds() == (model.before_oldest, model.newest)
            assert [(one.number, len(one.body), one.at) for one in journal.read(0, 1_000)] == [
                (number, model.entries[number][1], model.entries[number][0]) for number in model.readable
            ]
        assert journal.unread(3) == (
            sum(number > 3 for number in model.entries), sum(size for n, (_, size) in model.entries.items() if n > 3)
        )  # fmt: skip
        journal.close()


def test_entries_that_groups_still_have_to_read_are_kept() -> None:
    slow, quick, gone = Group("slow", 4, 1.0), Group("quick", 9, 1.0), Group("gone", 2, 1.0, True)
    assert kept_for([slow, quick]) == RetentionLimits(4, 4)
    assert kept_for([slow, quick, gone]) == RetentionLimits(4, 2), (
        "entries that the forgotten group had not read are counted"
    )
    assert kept_for([gone]) == RetentionLimits(KEEP_NOTHING.after, 2)
    assert kept_for([]) == RetentionLimits(KEEP_NOTHING.after, 0), "no group has read anything"
