"""Limits of an identity: rates that are exact over time, and defaults."""

import pytest

from unlost.ops.kit.access.limits import SOON, Limits, Quota, Quotas


def test_over_time_the_rate_is_exact_however_large_the_requests_are():
    quota, now, done = Quota(Limits(events=100), 0.0), 0.0, 0
    while now < 100:
        if (wait := quota.wait(now)) > 0:
            now += wait
            continue
        quota.charge(70, 0)
        done += 70
    assert done == pytest.approx(100 * 100, abs=170)


def test_a_quiet_identity_saves_up_one_second_and_no_more():
    quota = Quota(Limits(events=10), 0.0)
    assert quota.wait(1_000.0) == 0
    quota.charge(10, 0)
    assert quota.wait(1_000.0) == SOON
    assert quota.wait(1_000.2) == 0


def test_each_of_the_two_rates_holds():
    quota = Quota(Limits(events=1_000, bytes=1_000), 0.0)
    quota.charge(1, 3_000)
    assert quota.wait(0.0) == pytest.approx(2.0)


def test_without_rates_nobody_waits():
    quota = Quota(Limits(streams=1), 0.0)
    quota.charge(10**9, 10**12)
    assert quota.wait(0.0) == 0


def test_a_limit_of_its_own_holds_and_the_default_otherwise_and_zero_is_none():
    assert Limits(events=5, streams=0).over(Limits(1, 2, 3)) == Limits(5, 2, 0)
    assert Quota(Limits(streams=0), 0.0).may_open(10**6)
    assert Quota(Limits(streams=2), 0.0).may_open(1)
    assert not Quota(Limits(streams=2), 0.0).may_open(2)


def test_a_quota_lasts_until_its_limits_change_or_its_identity_is_gone():
    quotas = Quotas(Limits(), lambda: 0.0)
    first = quotas.of("shop", Limits(events=1))
    assert quotas.of("shop", Limits(events=1)) is first
    quotas.keep(frozenset({"shop"}))
    assert quotas.of("shop", Limits(events=1)) is first, "a change of other tokens gives nobody a new start"
    assert quotas.of("shop", Limits(events=2)) is not first
    quotas.keep(frozenset())
    assert quotas.of("shop", Limits(events=1)) is not first
