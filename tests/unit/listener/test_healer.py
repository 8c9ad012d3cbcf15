"""The healer: groups do not hold up each other, a stop gives back what was not tried, and "settled" is not believed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import ErrorClass, Failure, Transient
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Fact, HealingInterrupted, LettersResolved
from unlost.listener.core.in_flight import DUPLICATE, STORED, Buried, End, InFlight
from unlost.listener.pipeline import healer
from unlost.listener.pipeline.frames import read_frames
from unlost.listener.pipeline.healer import AGAIN_SECONDS, Healer
from unlost.listener.pipeline.healing import HealPolicy
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.policy import Policy
from unlost.listener.ports.dead_letters import HealingGroup, HealingLetter, Tried

CLOCKS = Clocks(time.time, time.monotonic)


class Fleet:
    """The group's letters, as a healer sees them: by fingerprint."""

    def __init__(self, **letters: int) -> None:
        self.waiting = {name: [f"{name}{number}" for number in range(count)] for name, count in letters.items()}
        self.taken: list[str] = []
        self.held: set[str] = set()
        self.given_back: list[str] = []
        self.tried: list[Tried] = []
        self.left: dict[str, tuple[int, float]] = {}
        self.no_rows: set[str] = set()
        self.renewed: set[str] | None = None
        self.failing: set[str] = set()
        self.tries = 0
        self.claimed = True

    async def groups(self, most: int) -> Sequence[HealingGroup]:
        free = [name for name, letters in self.waiting.items() if letters and name not in self.held][:most]
        self.held |= {*free}
        return [HealingGroup(name) for name in free]

    async def take(self, group: HealingGroup, most: int) -> Sequence[HealingLetter]:
        letters = self.waiting[group.fingerprint]
        taken = [letters.pop(0) for _ in range(min(most, len(letters)))]
        self.taken += taken
        frames = [b'{"event_id": "%s", "payload": 1}' % one.encode() for one in taken]
        return [HealingLetter(one, frame, self.tries, self.claimed) for one, frame in zip(taken, frames, strict=True)]

    async def refuted(self, letter_ids: Sequence[str]) -> Sequence[str]:
        return [one for one in letter_ids if one in self.no_rows]

    async def untried(self, letter_ids: Sequence[str]) -> None:
        self.given_back += letter_ids

    async def ended(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> Sequence[str]:
        if group.fingerprint in self.failing:
            raise Transient("PostgreSQL is away")
        self.tried += tried
        return [one.letter_id for one in tried if one.what != "failed"]

    async def renew(self, groups: Sequence[HealingGroup], letter_ids: Sequence[str]) -> None:
        self.renewed = {*(one.fingerprint for one in groups), *letter_ids}

    async def leave(self, group: HealingGroup, failures: int, delay: float) -> None:
        self.left[group.fingerprint] = failures, delay
        self.held.discard(group.fingerprint)


class Bed:
    """A healer, and the queue into which it offers."""

    def __init__(self, fleet: Fleet, policy: Policy = Policy()) -> None:  # noqa: B008
        self.facts: list[Fact] = []
        self.queue: BatchQueue[InFlight] = BatchQueue()
        affinity = PeerAffinity(self.queue, peer_wait=0.0)
        self.intake = Intake(policy=policy, affinity=affinity, clocks=CLOCKS, facts=self.facts.append)
        self.healer = Healer(
            intake=self.intake, letters=fleet, who="b", withdraw=self.withdraw, policy=HealPolicy(rate=10_000),
            clocks=CLOCKS, facts=self.facts.append, rng=lambda: 0.0,
        )  # fmt: skip
        self.offered: dict[str, InFlight] = {}

    async def until_offered(self, *names: str) -> None:
        while not {*names} <= self.offered.keys():
            self.offered |= {one.claim_id: one for one in await self.queue.take(100)}

    async def withdraw(self, flights: Sequence[InFlight]) -> bool:
        """Only those whose names begin with "paused" wait for a route that pauses."""
        if not all(one.claim_id.startswith("paused") for one in flights):
            return False
        for one in flights:
            self.intake.forget(one)
        return True

    def end(self, name: str, end: End = STORED) -> None:
        self.intake.finish([(self.offered[name], end)])


@contextlib.asynccontextmanager
async def healing(fleet: Fleet) -> AsyncIterator[Bed]:
    bed = Bed(fleet)
    running = asyncio.create_task(bed.healer.run())
    try:
        async with asyncio.timeout(20):
            yield bed
    finally:
        running.cancel()
        await asyncio.wait([running])


async def tried_are(fleet: Fleet, count: int) -> None:
    while len(fleet.tried) < count:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_probes_that_wait_hold_up_no_other_group() -> None:
    fleet = Fleet(**{f"slow-{number}-": 3 for number in range(20)}, quick=3)
    async with healing(fleet) as bed:
        await bed.until_offered("quick0", *[f"slow-{number}-0" for number in range(20)])
        bed.end("quick0")
        await bed.until_offered("quick1", "quick2")
        bed.end("quick1")
        bed.end("quick2")
        await tried_are(fleet, 3)
        while "quick" not in fleet.left:  # noqa: ASYNC110
            await asyncio.sleep(0)
        fleet.waiting["late"] = ["late0"]
        bed.healer.again()
        await bed.until_offered("late0")


async def test_a_stop_offers_nothing_more_and_gives_back_what_was_not_tried() -> None:
    fleet = Fleet(a=50, b=2)
    async with healing(fleet) as bed:
        await bed.until_offered("a0", "b0")
        bed.end("a0")
        await bed.until_offered("a1", "a49")
        bed.healer.stop()
        bed.end("a1")  # what runs may end
        bed.end("b0")
        await asyncio.sleep(0)
        fleet.waiting["late"] = ["late0"]
        await bed.healer.finish()
        assert [one.letter_id for one in fleet.tried] == ["a0", "b0", "a1"]
        assert sorted(fleet.given_back) == sorted(f"a{number}" for number in range(2, 50))
        assert not {"b1", "late0"} & {*fleet.taken}
        assert fleet.left == {"a": (0, 0.0), "b": (0, 0.0)}
        assert bed.healer.done


async def test_a_healer_that_never_began_is_finished_at_once() -> None:
    bed = Bed(Fleet())
    await asyncio.wait_for(bed.healer.finish(), 1)


async def test_a_stop_does_not_wait_for_room() -> None:
    bed = Bed(fleet := Fleet(a=1, b=1), Policy(max_events=1))
    running = asyncio.create_task(bed.healer.run())
    await bed.until_offered("a0")  # there is no room for b0 now
    assert fleet.held == {"a", "b"}
    bed.healer.stop()
    bed.end("a0")
    await asyncio.wait_for(running, 1)
    assert fleet.taken == ["a0"]
    assert {*fleet.left} == {"a", "b"}


async def test_a_listener_without_room_takes_no_group() -> None:
    bed = Bed(fleet := Fleet(a=1, b=1), Policy(max_events=1))
    event = read_frames((b'{"event_id": "of the source", "payload": 1}',), max_bytes=1_000)[0]
    assert isinstance(event, Event)
    bed.intake.offer(event, lambda _: None)
    running = asyncio.create_task(bed.healer.run())
    async with asyncio.timeout(5):
        while not bed.healer.done:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert fleet.held == set()
    await bed.until_offered("of the source")
    bed.end("of the source")
    bed.healer.again()
    await bed.until_offered("a0")
    bed.healer.stop()
    bed.end("a0")
    await asyncio.wait_for(running, 1)


async def test_a_duplicate_without_a_row_is_no_success_of_a_probe() -> None:
    fleet = Fleet(a=4)
    fleet.no_rows = {"a0"}
    async with healing(fleet) as bed:
        await bed.until_offered("a0")
        bed.end("a0", DUPLICATE)
        await bed.until_offered("a1")
        assert fleet.taken == ["a0", "a1"], "still one at a time"
        assert [one.what for one in fleet.tried] == ["failed"]
        bed.end("a1", DUPLICATE)
        await bed.until_offered("a2", "a3")
        assert [fact.letter_ids for fact in bed.facts if isinstance(fact, LettersResolved)] == [["a1"]]


async def test_leases_are_renewed_of_groups_at_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healer, "RENEW_SECONDS", 0.01)
    fleet = Fleet(a=1, b=1)
    fleet.failing = {"b"}
    async with healing(fleet) as bed:
        await bed.until_offered("a0", "b0")
        while fleet.renewed != {"a", "a0", "b", "b0"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
        bed.end("b0")
        while fleet.renewed != {"a", "a0"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert fleet.left["b"] == (0, AGAIN_SECONDS), "the group is free again, and not only when its lease ends"
    assert [fact.why for fact in bed.facts if isinstance(fact, HealingInterrupted)] == ["PostgreSQL is away"]


async def test_groups_whose_route_pauses_leave_their_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healer, "GROUPS_AT_ONCE", 3)
    monkeypatch.setattr(healer, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(healer, "LOOK_EVERY_SECONDS", 0.01)
    fleet = Fleet(slow=1, **{f"paused-{number}-": 1 for number in range(9)}, quick=1)
    async with healing(fleet) as bed:
        await bed.until_offered("slow0", "quick0")
        bed.end("slow0")
        bed.end("quick0")
        await tried_are(fleet, 2)
    assert {f"paused-{number}-0" for number in range(7)} <= {*fleet.given_back}, "two may wait on"
    assert "slow0" not in fleet.given_back, "it may be running"
    assert fleet.left["paused-0-"][0] == 0, "that is no failure"
    assert fleet.left["paused-0-"][1] > 0, "others come first"


def failed(delay: float | None, why: str = "exhausted: it failed", *, lasts: bool = True) -> Tried:
    return Tried("a0", "failed", why, "Trouble", delay, lasts)


LASTING: ErrorClass = "transient"


@pytest.mark.parametrize(
    ("tries", "end", "error_class", "tried"),
    [
        (0, STORED, None, Tried("a0", "stored", "stored by b")),
        (0, DUPLICATE, None, Tried("a0", "settled", "settled already, as b found")),
        (0, Buried("blocked"), LASTING, Tried("a0", "behind", "an earlier letter of its key waits")),
        (0, Buried("exhausted"), LASTING, failed(60.0)),
        (1, Buried("exhausted"), LASTING, failed(120.0)),
        (HealPolicy().attempts - 2, Buried("exhausted"), LASTING, failed(HealPolicy().longest)),
        (HealPolicy().attempts - 1, Buried("exhausted"), LASTING, failed(None)),
        (0, Buried("rejected"), "permanent", failed(None, "rejected: it failed", lasts=False)),
        (0, Buried("exhausted"), None, Tried("a0", "failed", "exhausted")),
    ],
)
async def test_the_end_of_a_letters_event_decides_whether_and_when_it_is_tried_again(
    tries: int, end: End, error_class: ErrorClass | None, tried: Tried
) -> None:
    fleet = Fleet(a=1)
    fleet.tries = tries
    async with healing(fleet) as bed:
        await bed.until_offered("a0")
        if error_class is not None:
            bed.offered["a0"].attempts.append(Failure(0.0, "handle", error_class, "Trouble", "it failed"))
        bed.end("a0", end)
        await tried_are(fleet, 1)
        while "a" not in fleet.left:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert fleet.tried == [tried]
    assert fleet.left["a"] == ((1, 60.0) if tried.lasts else (0, 0.0)), "the next probe comes later"


async def test_an_event_that_was_not_claimed_and_fails_again_has_another_letter() -> None:
    fleet = Fleet(a=1)
    fleet.claimed = False
    async with healing(fleet) as bed:
        await bed.until_offered("a0")
        bed.offered["a0"].attempts.append(Failure(0.0, "handle", LASTING, "Trouble", "it failed"))
        bed.end("a0", Buried("exhausted"))
        await tried_are(fleet, 1)
    why = "another letter of the same event waits, written by b"
    assert fleet.tried == [Tried("a0", "elsewhere", why, lasts=True)]
