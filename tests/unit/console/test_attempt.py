"""A sign-in ends in the browser in which it began, in time."""

import base64
import hashlib

import pytest

from unlost.ops.console.signin.attempt import PATIENCE, Attempts


@pytest.mark.parametrize(("later", "is_known"), [(0, True), (PATIENCE, True), (PATIENCE + 1, False), (-1, False)])
def test_an_attempt_is_known_for_ten_minutes(later: float, is_known: bool):
    now = 5_000.0
    attempts = Attempts(lambda: now)
    one = attempts.begin()
    now += later
    assert (attempts.known(one.cookie, one.state) == one) is is_known


def test_its_parts_differ_and_the_challenge_is_the_verifiers_digest():
    one = Attempts(lambda: 0.0).begin()
    assert len({one.state, one.nonce, one.verifier, one.challenge}) == 4
    assert 43 <= len(one.verifier) <= 128
    digest = hashlib.sha256(one.verifier.encode()).digest()
    assert base64.urlsafe_b64decode(f"{one.challenge}=") == digest


def test_another_process_another_browser_and_another_time_are_not_known():
    attempts = Attempts(lambda: 900.0)
    one, other = attempts.begin(), attempts.begin()
    assert Attempts(lambda: 900.0).known(one.cookie, one.state) is None
    assert attempts.known(other.cookie, one.state) is None
    assert attempts.known(f"901{one.cookie[3:]}", one.state) is None, "the time cannot be changed"
    for odd in ("", ".", "x", f"{one.cookie}x", f"-{one.cookie}", "9" * 5_000, "٣.x"):
        assert attempts.known(odd, one.state) is None
    for odd in ("", "x", "é", "\udc80", f"{one.state}x"):
        assert attempts.known(one.cookie, odd) is None
