"""A route's breaker: what a pause takes, and what it never takes. Checked against a plain count of the whole past."""

from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.core.attempts import Backoff
from unlost.listener.pipeline.route_breaker import FEW, LONGEST, OUTWEIGHS, PROBES, SHORTEST, RouteBreaker

RETRY = Backoff(jitter=False, first=2.0, factor=1.0)
"""Three attempts 2 s apart: all must fail for 1 s."""
POISON = [f"poison {number}" for number in range(FEW - 1)]


def breaker() -> RouteBreaker:
    return RouteBreaker(RETRY, lambda: 0.5)


def fail(one: RouteBreaker, event_id: str, now: float, kind: str = "OSError", *, first: bool = True) -> bool:
    return one.failed(event_id, kind, f"{kind}: refused", first=first, began=now, now=now)


def dead_at(now: float) -> RouteBreaker:
    one = breaker()
    for number in range(FEW):
        fail(one, f"e{number}", now - LONGEST)
    assert not fail(one, "e0", now, first=False), "and nothing counts from here on"
    return one


@given(st.lists(st.tuples(st.sampled_from(POISON), st.booleans(), st.floats(0, 100)), max_size=200))
def test_a_few_poison_events_never_pause_a_route_however_often_they_fail(fates: list[tuple[str, bool, float]]) -> None:
    one, now = breaker(), 0.0
    for event_id, first, later in fates:
        now += later
        assert fail(one, event_id, now, first=first)
    assert not one.is_open


@given(st.lists(st.one_of(st.none(), st.integers(0, 10_000)), max_size=300), st.floats(0.001, 0.5))
def test_a_route_pauses_only_if_many_events_fail_and_hardly_any_succeeds(fates: list[int | None], step: float) -> None:
    """None is a success. Each failure is of an event that has not failed before."""
    one, now = breaker(), 0.0
    for number, fate in enumerate(fates):
        now += step
        if fate is None:
            one.succeeded(now)
        else:
            fail(one, f"e{number}", now)
        if one.is_open:
            past = fates[: number + 1]
            failed, succeeded = sum(one is not None for one in past), sum(one is None for one in past)
            assert failed >= FEW
            recent = past[-FEW:]
            assert None not in recent or failed > succeeded
            return


@given(st.integers(1, 200), st.floats(0.0005, 0.05))
def test_one_success_in_ten_keeps_a_route_flowing(rounds: int, step: float) -> None:
    one, now = breaker(), 0.0
    for turn in range(rounds):
        for number in range(OUTWEIGHS - 1):
            now += step
            assert fail(one, f"{turn} {number}", now)
        one.succeeded(now)
    assert not one.is_open


def test_the_first_moment_and_single_ways_to_fail_are_no_proof() -> None:
    one = breaker()
    for number in range(400):
        assert fail(one, f"e{number}", 0.001 * number), "all within a moment"
    assert one.at_once(16, lambda: 0.4) == 4, "but with caution"
    other = breaker()
    for number in range(50):
        assert fail(other, f"e{number}", float(number), f"Error{number}"), "each in its own way"


def test_one_success_at_the_end_of_many_failures_clears_what_fails_again() -> None:
    one = breaker()
    for number in range(400):
        fail(one, f"e{number}", 0.001 * number)
    one.succeeded(0.5)
    for number in range(400):
        assert fail(one, f"e{number}", 2.0, first=False)
        assert fail(one, f"e{number}", 4.0, first=False)
    assert one.at_once(16, lambda: 4.0) == 16


def test_while_it_pauses_one_is_tried_at_a_time_and_nothing_counts() -> None:
    one = dead_at(10.0)
    assert one.why == "OSError: refused"
    assert one.at_once(16, lambda: one.probe_at - 0.001) == 0
    assert one.at_once(16, lambda: one.probe_at) == 1
    pauses = []
    for _ in range(12):
        now = one.probe_at
        assert not fail(one, "e9", now, "TimeoutError")
        pauses.append(round(one.probe_at - now, 6))
    assert pauses == sorted(pauses)
    assert pauses[-1] <= PROBES.longest
    assert one.why == "TimeoutError: refused"


def test_an_attempt_from_before_the_pause_neither_counts_nor_delays_the_next_probe() -> None:
    one = dead_at(10.0)
    at = one.probe_at
    assert not one.failed("e7", "OSError", "late", first=True, began=9.9, now=10.1)
    assert (one.probe_at, one.why) == (at, "OSError: refused")


def test_a_success_ends_the_pause_and_what_began_before_it_does_not_count() -> None:
    one = dead_at(10.0)
    assert one.succeeded(12.0)
    assert not one.is_open
    assert not one.failed("e8", "OSError", "late", first=True, began=11.9, now=12.5)
    assert one.is_calm
    assert not one.succeeded(12.6)


def test_failures_long_apart_have_nothing_to_do_with_each_other() -> None:
    one = breaker()
    for number in range(50):
        assert fail(one, f"e{number}", 61.0 * number)


def test_short_pauses_between_attempts_shorten_the_proof() -> None:
    for first, lasting in ((0.2, SHORTEST), (1.0, 0.5), (60.0, LONGEST)):
        one = RouteBreaker(Backoff.fixed(3, first), lambda: 0.5)
        for number in range(FEW):
            fail(one, f"e{number}", 0.0)
        assert fail(one, "e0", lasting - 0.01, first=False)
        assert not fail(one, "e0", lasting, first=False)
