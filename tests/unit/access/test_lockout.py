"""Wrong tokens lock an address for longer and longer, in a memory with a bound."""

from unlost.ops.kit.access.lockout import FORGET, FREE, LONGEST, MOST_ADDRESSES, Lockout, lock_seconds, network_of


def test_the_first_failures_are_free_and_then_the_lock_doubles_up_to_a_limit():
    assert [lock_seconds(FREE + n) for n in range(4)] == [0.0, 1.0, 2.0, 4.0]
    assert lock_seconds(FREE + 1_000_000) == LONGEST


def test_an_address_is_locked_and_another_is_not():
    now = 0.0
    lockout = Lockout(lambda: now)
    for _ in range(FREE + 2):
        lockout.failed("10.0.0.1")
    assert lockout.locked_for("10.0.0.1") == 2.0
    assert lockout.locked_for("10.0.0.2") == 0.0
    now = 1.5
    assert lockout.locked_for("10.0.0.1") == 0.5
    now = 2.0
    assert lockout.locked_for("10.0.0.1") == 0.0


def test_a_quiet_address_is_forgiven():
    now = 0.0
    lockout = Lockout(lambda: now)
    for _ in range(FREE + 9):
        lockout.failed("10.0.0.1")
    now = FORGET + 1
    lockout.failed("10.0.0.1")
    assert lockout.locked_for("10.0.0.1") == 0.0


def test_the_memory_has_a_bound_and_forgets_who_failed_longest_ago():
    lockout = Lockout(lambda: 0.0)
    for _ in range(FREE + 5):
        lockout.failed("attacker")
    for number in range(MOST_ADDRESSES - 1):
        lockout.failed(f"a{number}")
    assert lockout.locked_for("attacker") > 0
    lockout.failed("one more")
    assert (len(lockout), lockout.locked_for("attacker")) == (MOST_ADDRESSES, 0.0)


def test_the_network_of_one_customer_counts_as_one_address():
    assert network_of("2001:db8:1:2::7") == network_of("2001:db8:1:2:ffff::1") != network_of("2001:db8:1:3::7")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("/run/socket") == "/run/socket"
