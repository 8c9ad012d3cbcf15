"""Which connections are admitted when there are many, and how much all of them may hold together."""

from unlost.ops.kit.telemetry.admission import Admission, Seating


class Peer:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True

    def check(self) -> None:
        """Not used here."""


def proven(admission: Admission, count: int) -> list[Peer]:
    peers = [Peer() for _ in range(count)]
    for peer in peers:
        assert admission.enter(peer) is Seating.SEAT
        admission.prove(peer)
    return peers


def test_the_oldest_that_has_sent_no_whole_head_makes_room():
    admission = Admission(budget=0, seats=3, reserve=1)
    (busy,) = proven(admission, 1)
    first, second, third = Peer(), Peer(), Peer()
    assert [admission.enter(one) for one in (first, second, third)] == [Seating.SEAT] * 3
    assert [one.dropped for one in (busy, first, second, third)] == [False, True, False, False]


def test_where_all_are_busy_the_reserve_is_left_and_then_nothing():
    admission = Admission(budget=0, seats=2, reserve=1)
    busy = proven(admission, 2)
    probe, next_probe, last = Peer(), Peer(), Peer()
    assert admission.enter(probe) is Seating.RESERVE
    assert admission.enter(next_probe) is Seating.RESERVE
    assert probe.dropped
    admission.prove(next_probe)
    assert admission.enter(last) is Seating.NONE
    admission.leave(busy[0])
    admission.leave(busy[0])
    assert admission.enter(last) is Seating.RESERVE
    admission.leave(next_probe)
    admission.leave(last)
    assert admission.enter(last) is Seating.SEAT


def test_the_budget_is_one_for_all_and_what_is_given_back_can_be_held_again():
    admission = Admission(budget=10)
    assert admission.hold(10)
    assert not admission.hold(1)
    assert admission.hold(-4)
    assert not admission.hold(5)
    assert admission.hold(4)
