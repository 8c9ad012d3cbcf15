"""Routes that pause: their events wait, one is tried at a time, no attempt counts, and other routes flow."""

import asyncio
import time

from tests.support.claims import FakeManager
from tests.support.handling import Dependency, FakeHandler, Routed, handling_with
from tests.support.stand_ins import flights
from unlost.listener.core.attempts import AttemptPolicy
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Fact, RoutePaused, RouteResumed
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.policy import Policy

QUICK = Policy(handle_concurrency=2, handle_attempts=3, handle_delay=0.2)
MANY = [f"e{number}" for number in range(20)]


PROBED_AFTER = [0.2, 0.6, 1.4, 3.0, 6.2, 12.6, 25.4]


def rarely() -> float:
    """Return a fraction that makes the pauses between probes 0.2, 0.4, 0.8 s and so on."""
    return 1.0


def released_by(manager: FakeManager) -> set[str]:
    return {one for call in manager.log for one in str(call).split()[1:]}


async def test_a_route_whose_dependency_is_dead_pauses_and_loses_no_attempt() -> None:
    dependency, manager, facts = Dependency(), FakeManager(), list[Fact]()
    async with handling_with(dependency, manager, policy=QUICK, facts=facts.append, rng=rarely) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before = len(dependency.attempts)
        while released_by(manager) != {*MANY}:  # noqa: ASYNC110  a peer may have any of them
            await asyncio.sleep(0.01)
        assert handling.waiting_longer_than(60.0) == {*MANY}
        dependency.most, since = 0, time.monotonic()
        while len(dependency.attempts) < before + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        took = time.monotonic() - since
        assert dependency.most == 1, "one at a time"
        assert len(dependency.attempts) <= before + 1 + sum(at < took + 0.2 for at in PROBED_AFTER)
        assert (put.given_up, put.buried) == ([], {})
        dependency.alive = True
        await put.until(20)
    assert sorted(put.ids) == sorted(MANY)
    assert max(number for _, number in dependency.attempts) < 3
    paused, resumed = [fact for fact in facts if isinstance(fact, RoutePaused | RouteResumed)]
    assert paused == RoutePaused("h", "ConnectionError: refused")
    assert isinstance(resumed, RouteResumed)
    assert (handling.paused, sum(handling.pausing.values()), handling.waiting_longer_than(0.0)) == ({}, 0, set())


async def test_while_one_route_pauses_others_flow_and_its_events_are_not_claimed() -> None:
    dependency = Dependency(needed_by="a")
    handler = Routed(dependency, lambda event: AttemptPolicy(event.event_id[0]))
    async with handling_with(dependency, policy=QUICK, handler=handler) as (handling, put):
        handling.start_all(flights(*[f"a{number}" for number in range(8)]))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        a, b = flights("a9", "b1")
        assert handling.admit([a, b]) == [b]
        assert "a9" in handling.waiting_longer_than(60.0)
        (letter,) = flights("a-letter")
        assert handling.admit([letter]) == []
        handling.withdraw(letter)
        assert "a-letter" not in handling.waiting_longer_than(60.0)
        while sum(handling.pausing.values()) < 9:  # noqa: ASYNC110  an attempt that had begun ends
            await asyncio.sleep(0.01)
        handling.start_all([b])
        await put.until(1)
        assert put.ids == ["b1"]
        async with handling.alone():
            handling.start_suspects(flights("b2"))
            await put.until(2)
        dependency.alive = True
        await put.until(11)
        assert "a9" in put.ids


async def test_letters_that_heal_are_no_evidence_against_their_route() -> None:
    dependency = Dependency()
    async with handling_with(dependency, policy=QUICK) as (handling, put):
        for name in MANY:
            (letter,) = flights(name)
            letter.once = letter.revive = True
            handling.start_all([letter])
            await asyncio.sleep(0.02)
        while len(put.given_up) < len(MANY):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not handling.paused
        assert [number for _, number in dependency.attempts] == [1] * len(MANY)


async def test_a_letter_that_heals_ends_with_its_attempt_although_its_route_pauses() -> None:
    dependency = Dependency()
    async with handling_with(dependency, policy=QUICK) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (letter,) = flights("letter")
        letter.once = letter.revive = True
        assert handling.admit([letter]) == [], "it waits for its turn to be tried"
        async with asyncio.timeout(10):
            while not put.given_up:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert [name for name, _ in dependency.attempts].count("letter") == 1
        assert len(put.given_up) == 1
        assert handling.paused, "its failure is no success"
        dependency.alive = True
        await put.until(20)
    assert sorted(put.ids) == sorted(MANY)


async def test_the_newest_event_is_tried_first() -> None:
    async def handle(delivery: Delivery) -> None:
        if not delivery.event_id.startswith("good"):
            raise ConnectionError("refused")

    async with handling_with(handle, policy=QUICK) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert handling.admit(flights("bad", "good")) == []
        await put.until(1)
        assert put.ids == ["good"]


async def test_an_event_that_comes_while_nothing_fails_here_any_more_is_tried_at_once() -> None:
    """Peers have all that waited. If an event waited for the next probe, they would have that one too."""
    dependency, now = Dependency(), time.monotonic()
    async with handling_with(dependency, policy=QUICK, monotonic=lambda: now, rng=rarely) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:
            now += 0.05
            await asyncio.sleep(0.01)
        assert handling.admit(flights("early")) == [], "no probe may be made yet"
        now += 30.0
        older, newer = flights("older", "newer")
        assert handling.admit([older, newer]) == [newer]
        dependency.alive = True
        handling.start_all([newer])
        await put.until(23)
        assert (put.ids[0], handling.paused) == ("newer", {})


async def test_a_route_whose_events_all_went_to_peers_is_shown_no_more() -> None:
    dependency, letters = Dependency(), flights(*MANY)
    for letter in letters:
        letter.revive = True  # the healer can withdraw these
    async with handling_with(dependency, policy=QUICK, rng=rarely) as (handling, _):
        handling.start_all(letters)
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while dependency.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for letter in letters:
            handling.withdraw(letter)
        assert handling.paused == {}


async def test_an_event_keeps_the_number_of_its_attempt_while_its_route_pauses() -> None:
    dependency, now = Dependency(), time.monotonic()
    async with handling_with(dependency, policy=QUICK, monotonic=lambda: now, rng=rarely) as (handling, put):
        handling.start_all(flights("e"))
        while len(dependency.attempts) < 1 or handling.aside < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        handling.start_all(flights(*MANY))
        while not handling.paused:
            now += 0.02
            await asyncio.sleep(0.01)
        dependency.alive = True
        now += 30.0
        await put.until(21)
    assert [number for name, number in dependency.attempts if name == "e"][-1] > 1


async def test_a_suspect_of_a_route_that_pauses_keeps_no_other_waiting() -> None:
    dependency = Dependency(needed_by="e")
    handler = Routed(dependency, lambda event: AttemptPolicy(event.event_id[0]))
    async with handling_with(dependency, policy=QUICK, handler=handler) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with handling.alone():
            handling.start_suspects(flights("e-suspect"))
            await handling.idle_of_suspects()
        handling.start_all(flights("b"))
        await put.until(1)
        assert put.ids == ["b"]
        dependency.alive = True
        await put.until(22)
        assert "e-suspect" in put.ids


async def test_a_route_with_a_limit_leaves_the_claims_to_others() -> None:
    def policy_of(event: Event) -> AttemptPolicy:
        return AttemptPolicy(event.event_id[0], concurrency=1 if event.event_id.startswith("s") else None)

    work = FakeHandler()
    async with handling_with(work, handler=Routed(work, policy_of)) as (handling, put):
        slow, quick = flights(*[f"s{number}" for number in range(6)]), flights("q")
        admitted = handling.admit([*slow, *quick])
        assert [one.claim_id for one in admitted] == ["s0", "s1", "s2", "s3", "q"]
        handling.start_all(admitted)
        for one in (*slow, *quick):
            work.let_go(one.claim_id)
        await put.until(7)
    assert sorted(put.ids) == ["q", *(f"s{number}" for number in range(6))]


async def test_a_route_that_pauses_again_at_once_is_probed_by_one_task() -> None:
    now = 0.0
    dependency, slow = Dependency(needed_by="e"), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.event_id.startswith("slow"):
            await slow.wait()
        await dependency(delivery)

    async def fails(handling: Handling, *names: str) -> None:
        handling.start_all(flights(*names))
        while not {*names} <= {name for name, _ in dependency.attempts}:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async with handling_with(handle, policy=QUICK, monotonic=lambda: now) as (handling, put):
        handling.start_all(flights("slow"))
        for number in range(2):
            await fails(handling, *[f"e{number}{n}" for n in range(5)])
            now += 1
            handling.start_all(flights(f"e{number}5"))
            while not handling.paused:  # noqa: ASYNC110
                await asyncio.sleep(0)
            slow.set()  # an attempt that began before the pause succeeds, and ends it
            if number == 0:
                await put.until(1)
                assert not handling.paused
                now += 1
        await asyncio.sleep(0)
        probers = [task for task in asyncio.all_tasks() if task.get_name() == "probe h"]
        assert len(probers) == 1


async def test_a_route_that_a_person_pauses_runs_nothing_and_others_flow() -> None:
    dependency = Dependency()
    dependency.alive = True
    handler = Routed(dependency, lambda event: AttemptPolicy(event.event_id[0]))
    async with handling_with(dependency, policy=QUICK, handler=handler) as (handling, put):
        handling.hold({"a": "paused by ana: test"})
        a, b, c = flights("a1", "b1", "a2")
        assert handling.admit([a, b, c]) == [b]
        handling.start_all([b, *flights("a3")])  # it was claimed just before
        await put.until(1)
        async with handling.alone():
            handling.start_suspects(flights("a-suspect", "b2"))
            await put.until(2)
        assert sorted(put.ids) == ["b1", "b2"]
        assert (handling.paused, handling.pausing["a"]) == ({}, 4)
        handling.hold({})
        await put.until(6)
    assert sorted(put.ids) == ["a-suspect", "a1", "a2", "a3", "b1", "b2"]


async def test_a_paused_route_whose_dependency_is_dead_is_not_even_probed() -> None:
    dependency = Dependency()
    async with handling_with(dependency, policy=QUICK) as (handling, put):
        handling.start_all(flights(*MANY))
        while not handling.paused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        handling.hold({"h": "paused by ana: test"})
        while dependency.running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        tried = len(dependency.attempts)
        await asyncio.sleep(0.5)  # more than one probe would come meanwhile
        assert len(dependency.attempts) == tried
        dependency.alive = True
        handling.hold({})
        await put.until(20)
    assert sorted(put.ids) == sorted(MANY)


async def test_a_stop_finds_the_events_of_a_route_that_a_person_paused() -> None:
    async with handling_with(FakeHandler(at_once=True), policy=QUICK) as (handling, put):
        handling.hold({"h": "maintenance"})
        assert handling.admit(flights("parked")) == []
        handling.start_all(flights("claimed"))
        assert handling.waiting_longer_than(60.0) == {"parked", "claimed"}
        handling.hold({})
        await put.until(2)
        assert handling.waiting_longer_than(0.0) == set()
