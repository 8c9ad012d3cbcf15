"""The gap over a restart: what is kept of the contact with a source, and what a starting listener declares from it."""

import asyncio
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gaps import KeptGaps
from unlost.listener.core.facts import Facts
from unlost.listener.core.gap import LastContact
from unlost.listener.core.watermark import Position, Watermark, settle_whole
from unlost.listener.source import contact_keeper
from unlost.listener.source.contact_keeper import ContactKeeper
from unlost.listener.source.feed.contact import Contact
from unlost.listener.source.feed.counting import Count, Counting
from unlost.listener.source.feed.gaps import Hole

Declared = dict[str, Any]


class Numbered:
    """A feed that counts."""

    name = "feed"

    def __init__(self, *, resumes: bool = False, numbered: bool = True) -> None:
        self.resumes = resumes
        self.gaps: list[Declared] = []
        self.contact = Contact("feed", self._declare, now=lambda: 1_000.0)
        self.counting = Counting(self._hole, apart=not numbered, rereads=resumes)
        self.put = 0
        self.count: Count | None = None

    def _declare(self, source: str, how: str, **more: Any) -> None:
        self.gaps.append({"how": how, **{name: value for name, value in more.items() if value is not None}})

    def _hole(self, hole: Hole) -> None:
        self._declare("feed", "sequence", after=hole.first - 1, resumed_at=hole.last + 1, missing=hole.missing)

    @property
    def numbering(self) -> "Numbered":
        return self

    def numbers(self) -> Any:
        return self.counting.numbers()

    def follow(self, numbers: Any, *, missed: bool) -> bool:
        return self.counting.follow(numbers, missed=missed)

    def connect(self) -> None:
        now = asyncio.get_running_loop().time()
        self.contact.open(lambda: now, missed=False)
        self.count = self.counting.begin()

    def receive(self, *numbers: int, by: str = "x") -> None:
        assert self.count is not None
        self.put += len(numbers)
        for number in numbers:
            self.counting.take(self.count, (by, number), None)


class Bed:
    """A keeper, what it takes and what is settled."""

    def __init__(self, source: Numbered) -> None:
        self.source = source
        self.gaps = KeptGaps()
        self.watermark = Watermark()
        self.taken = 0
        self.lag = 0.0
        facts: Facts = lambda _: None  # noqa: E731
        self.keeper = ContactKeeper(
            source,
            self.gaps,
            taken=lambda: self.taken,
            watermark=lambda: self.watermark,
            lag=lambda: self.lag,
            facts=facts,
        )

    @property
    def kept(self) -> Any:
        return self.gaps.kept[-1].numbers


def other(ago: float, numbers: dict[str, int] | None = None, connected_ago: float | None = None) -> LastContact:
    return LastContact(ago, ago if connected_ago is None else connected_ago, numbers, heard_at=1_000.0 - ago)


async def test_only_numbers_of_settled_events_are_kept():
    bed = Bed(Numbered())
    bed.source.connect()
    bed.source.receive(1, 2, 3)
    await bed.keeper.save()
    assert bed.kept is None, "nothing is settled yet"
    bed.taken = 3
    position = bed.watermark.open(None, 3)
    bed.source.receive(4)
    await bed.keeper.save()
    assert bed.kept is None, "taken, not settled"
    settle_whole([position])
    await bed.keeper.save()
    assert bed.kept == {"x": 3}, "number 4 waits to be taken"
    bed.taken = 4
    await bed.keeper.save()
    assert bed.kept == {"x": 4}


async def test_the_gap_after_a_kill_begins_before_what_was_in_memory():
    bed = Bed(Numbered(numbered=False))
    bed.source.connect()
    bed.lag = 40.0
    await bed.keeper.save()
    assert bed.gaps.kept[-1].heard_ago == 40.0
    assert bed.gaps.kept[-1].connected_ago == 0.0, "it is connected, and others need declare nothing"


async def test_the_first_start_declares_nothing():
    bed = Bed(Numbered(numbered=False))
    await bed.keeper.save()
    assert bed.gaps.kept == [], "it has not been connected yet"
    bed.source.connect()
    await bed.keeper.save()
    assert bed.source.gaps == []
    assert len(bed.gaps.kept) == 1


async def test_a_restart_without_numbers_is_a_gap_from_the_last_sign_of_life_of_any_listener():
    bed = Bed(Numbered(numbered=False))
    bed.source.connect()
    bed.gaps.others = [other(500.0), other(70.0)]
    await bed.keeper.save()
    await bed.keeper.save()
    assert bed.source.gaps == [{"how": "disconnected", "began_at": 930.0, "once": "930.000"}]


async def test_numbers_of_before_that_cannot_be_compared_are_a_gap_of_unknown_size():
    bed = Bed(Numbered(numbered=False))
    bed.source.connect()
    bed.gaps.others = [other(70.0, {"x": 9})]
    await bed.keeper.save()
    assert [gap["how"] for gap in bed.source.gaps] == ["disconnected"]


async def test_a_peer_that_is_connected_since_has_missed_nothing():
    bed = Bed(Numbered(numbered=False))
    bed.source.connect()
    bed.gaps.others = [other(70.0), other(2.0, connected_ago=1.0)]
    await bed.keeper.save()
    assert (bed.source.gaps, bed.gaps.kept) == ([], []), "it may be dead: nothing is decided"
    bed.gaps.others = [other(70.0), other(3.0, connected_ago=0.0)]
    await asyncio.sleep(0.001)  # the clock must move: the peer wrote after this listener connected
    await bed.keeper.save()
    assert bed.source.gaps == []
    assert len(bed.gaps.kept) == 1


async def test_a_peer_that_writes_nothing_more_was_dead():
    bed = Bed(Numbered(numbered=False))
    bed.source.connect()
    bed.gaps.others = [other(2.0)]
    await bed.keeper.save()
    assert bed.source.gaps == []
    bed.gaps.others = [other(2.0 + contact_keeper.PROOF_SECONDS)]
    await bed.keeper.save()
    assert [gap["how"] for gap in bed.source.gaps] == ["disconnected"]


async def test_a_restart_with_numbers_is_a_gap_of_what_is_missing_by_name():
    bed = Bed(Numbered())
    bed.source.connect()
    bed.source.receive(12, 13)
    bed.source.receive(4, by="known to the end")
    bed.source.receive(3, by="anew")
    bed.gaps.others = [
        other(70.0, {"x": 9, "known to the end": 3, "anew": 8, "quiet": 5}), other(90.0, {"x": 7, "gone": 2})
    ]  # fmt: skip
    await bed.keeper.save()
    assert bed.source.gaps == [
        {"how": "sequence", "after": 9, "resumed_at": 12, "missing": 2},
        {"how": "sequence", "after": 8, "resumed_at": 3},
    ]
    del bed.source.gaps[:]
    bed.source.receive(7, by="quiet")
    bed.source.receive(1, by="gone")
    assert [(gap["after"], gap["resumed_at"]) for gap in bed.source.gaps] == [(5, 7), (2, 1)]


async def test_numbers_that_a_peer_received_are_not_missing():
    bed = Bed(Numbered())
    bed.source.connect()
    bed.source.receive(12)
    await asyncio.sleep(0.001)
    bed.gaps.others = [other(0.0, {"x": 9, "quiet": 5})]
    await bed.keeper.save()
    assert bed.source.gaps == []
    bed.source.receive(6, by="quiet")
    bed.source.receive(13)
    assert bed.source.gaps == []


async def test_a_feed_that_resumes_keeps_what_it_received_before_the_cursor_and_may_repeat_it():
    bed = Bed(Numbered(resumes=True))
    bed.source.connect()
    await bed.keeper.save()
    assert bed.gaps.kept == [], "it has no numbers"
    bed.source.receive(8, 9, 10)
    bed.gaps.others = [other(70.0, {"x": 10, "y": 5})]
    await bed.keeper.save()
    assert bed.kept == {"x": 10, "y": 5}
    bed.source.receive(4, 5, by="y")
    assert bed.source.gaps == []
    bed.source.receive(8, by="y")
    await bed.keeper.save()
    assert bed.source.gaps == [{"how": "sequence", "after": 5, "resumed_at": 8, "missing": 2}]
    saves = len(bed.gaps.kept)
    await bed.keeper.save()
    assert len(bed.gaps.kept) == saves, "nothing has changed"


@pytest.mark.parametrize("names", [[str(number) for number in range(2_000)], ["long" * 20_000]])
async def test_too_many_names_are_not_kept(names: list[str]):
    bed = Bed(Numbered())
    bed.source.connect()
    for by in names:
        bed.source.receive(1, by=by)
    bed.taken = len(names)
    await bed.keeper.save()
    assert bed.kept is None


# -- the law, with listeners that are killed at any moment --------------------------------------------


class Step(NamedTuple):
    """The events of one second."""

    skipped: int
    received: int
    takes: bool
    settled: int
    saves: bool
    killed: bool


STEPS = st.lists(
    st.builds(
        Step, st.integers(0, 2), st.integers(0, 3), st.booleans(), st.integers(0, 2), st.booleans(), st.booleans()
    ),
    max_size=12,
)


class Life:
    """One source whose numbers grow by one, and listeners of which one lives at a time."""

    def __init__(self) -> None:
        self.next = self.since = 1
        """The next number, and the first one of which anybody can know."""
        self.settled: set[int] = set()
        self.row: LastContact | None = None
        self._begin()

    def _begin(self) -> None:
        self.bed = Bed(Numbered())
        self.bed.gaps.others = [] if self.row is None else [other(100.0, dict(self.row.numbers or {}) or None)]
        self.untaken: list[int] = []
        self.held: list[tuple[Position, list[int]]] = []
        if self.row is None:
            self.since = self.next
        self.first = self.next
        self.bed.source.connect()

    async def live(self, step: Step) -> None:
        bed = self.bed
        if bed.source.put:  # before the first number nobody can know of any
            self.next += step.skipped
        numbers = list(range(self.next, self.next + step.received))
        self.next += step.received
        self.untaken += numbers
        bed.source.receive(*numbers)
        if step.takes and self.untaken:
            bed.taken += len(self.untaken)
            self.held.append((bed.watermark.open(None, len(self.untaken)), self.untaken))
            self.untaken = []
        for _ in range(min(step.settled, len(self.held))):
            position, numbers = self.held.pop()
            settle_whole([position])
            self.settled.update(numbers)
        if step.saves:
            await bed.keeper.save()
            self.row = bed.gaps.kept[-1] if bed.gaps.kept else self.row
        if step.killed:
            self.end()
            self.next += step.skipped
            self._begin()

    def end(self) -> None:
        """Keep what it declared."""
        for gap in self.bed.source.gaps:
            if gap["how"] == "sequence":
                self.settled.update(range(gap["after"] + 1, gap["resumed_at"]))
            else:  # from the last sign of life to the first connection of this listener
                self.settled.update(range(1, self.first))


@given(STEPS)
def test_every_number_is_settled_or_in_a_gap_whenever_a_listener_is_killed(steps: list[Step]):
    async def live() -> None:
        life = Life()
        for step in [*steps, Step(0, 1, takes=True, settled=20, saves=True, killed=False)]:
            await life.live(step)
        life.end()
        lacking = set(range(life.since, life.next)) - life.settled
        assert not lacking, f"neither settled nor declared: {sorted(lacking)}"

    asyncio.run(live())
