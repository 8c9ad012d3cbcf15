"""Attempts: pauses, kinds of errors, and what a route may ask for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.core.attempts import AttemptPolicy, Backoff, raised
from unlost.listener.core.errors import LONGEST_WAIT, Misconfigured, Permanent, Reject, Retry, Transient
from unlost.listener.pipeline.handlers import HandlerFailed, HandlerTimeout


class Busy(ConnectionError):
    """A kind of ConnectionError."""


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.floats(0, 1e4),
    st.floats(1, 1e6),
    st.floats(0, 1e4),
    st.floats(0, 0.99),
)
def test_a_pause_grows_up_to_the_longest_and_jitter_takes_at_most_half(
    attempts: int, number: int, first: float, factor: float, longest: float, fraction: float
) -> None:
    plain = Backoff(attempts=attempts, first=first, factor=factor, longest=longest, jitter=False)
    jittered = Backoff(attempts=attempts, first=first, factor=factor, longest=longest)
    whole = plain.pause(number, fraction)
    assert min(first, longest) <= whole <= longest
    assert plain.pause(number + 1, 0) >= whole
    assert whole / 2 <= jittered.pause(number, fraction) <= whole


def test_the_settings_pauses_are_all_alike() -> None:
    assert [Backoff.fixed(3, 2.0).again_after(number, Transient("x"), 0.9) for number in (1, 2, 3)] == [2.0, 2.0, None]


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (HandlerFailed(ValueError()), 4.0),
        (HandlerFailed(ConnectionError()), 0.0),
        (HandlerFailed(Busy()), 4.0),
        (HandlerTimeout("slow"), 0.0),
        (Retry(after=30), 30.0),
        (Retry(), 4.0),
        (Reject("no"), None),
        (Permanent("no"), None),
    ],
)
def test_the_error_decides_on_the_pause(error: Exception, pause: float | None) -> None:
    backoff = Backoff(first=4.0, jitter=False, at_once=(ConnectionError, TimeoutError), transient=(Busy,))
    assert backoff.again_after(1, error, 0.0) == pause
    assert backoff.again_after(3, error, 0.0) is None, "the last attempt"


def test_the_nearest_class_decides() -> None:
    backoff = Backoff(permanent=(OSError,), at_once=(ConnectionError,), transient=(Busy,))
    assert [backoff.kind_of(one) for one in (OSError, ConnectionResetError, Busy, KeyError)] == [
        "permanent", "at_once", "transient", "transient",
    ]  # fmt: skip
    assert raised(HandlerTimeout("slow")) is TimeoutError


@pytest.mark.parametrize(
    "given_", [{"attempts": 0}, {"attempts": 101}, {"first": -1.0}, {"longest": math.inf}, {"factor": 0.5},
               {"factor": math.nan}, {"first": math.nan}],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(given_: dict[str, float]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(given_))):
        Backoff(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [-1.0, math.nan, math.inf, LONGEST_WAIT + 1])
def test_a_retry_after_no_time_at_all_is_refused(after: float) -> None:
    with pytest.raises(ValueError, match="a pause lasts"):
        Retry(after=after)


def test_a_route_stays_within_the_settings() -> None:
    assert AttemptPolicy("a", timeout=30, concurrency=16).mistakes(timeout=30, concurrency=16) == []
    wrong = AttemptPolicy("order.*", timeout=31, concurrency=17).mistakes(timeout=30, concurrency=16)
    assert [("order.*" in one, "HANDLE_" in one) for one in wrong] == [(True, True)] * 2
    assert len(AttemptPolicy("a", timeout=0, concurrency=0).mistakes(timeout=30, concurrency=16)) == 2
