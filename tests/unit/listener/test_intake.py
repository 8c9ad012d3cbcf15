"""The intake: each event that enters leaves once, copies too, and the remaining ones can be listed at any time."""

import time

import pytest

from tests.support.stand_ins import flight, flights
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import DUPLICATE, STORED, Buried, End, InFlight, conflict_claim
from unlost.listener.core.order_key import key_reader
from unlost.listener.core.oversized import Oversized
from unlost.listener.pipeline.frames import read_frames
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segmenter
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source.stream.envelope import split

PLAIN = Policy()
CLOCKS = Clocks(time.time, time.monotonic)
STOPPED = Clocks(lambda: 12.0, lambda: 34.0)


class Admitted:
    """An intake, and the events that it would have claimed."""

    def __init__(
        self, *, share: tuple[int, int] = (0, 1), length: int = 64, policy: Policy = PLAIN, clocks: Clocks = CLOCKS
    ) -> None:
        self.queue: BatchQueue[InFlight] = BatchQueue()
        self.facts: list[Fact] = []
        self.affinity = PeerAffinity(self.queue, peer_wait=60.0)
        self.intake = Intake(policy=policy, affinity=self.affinity, clocks=clocks, facts=self.facts.append)
        self.inlet = Inlet(
            intake=self.intake, segmenter=Segmenter(lambda: share, length=length), affinity=self.affinity,
            max_bytes=policy.max_event_bytes, clocks=clocks,
            key_of=key_reader(policy.order_by) if policy.order_by else None,
        )  # fmt: skip


def frame(event_id: str, payload: int, cursor: str) -> bytes:
    return b'{"event_id":"%b","payload":%d,"cursor":"%b"}' % (event_id.encode(), payload, cursor.encode())


def test_copies_of_what_becomes_a_conflict_go_on_and_the_cursor_does_not_stick():
    admitted = Admitted()
    intake, inlet = admitted.intake, admitted.inlet
    for number in (1, 2, 3):
        inlet.receive(split([frame("e", 1, f"j.{number}")]))
    (first,) = admitted.queue.waiting()
    intake.rename(first, conflict_claim(first.event))
    again = admitted.queue.waiting()[1:]
    assert [one.claim_id for one in again] == [first.claim_id, "e"], "a copy claims under the event's own name again"
    intake.finish([(first, Buried("conflict"))])
    assert (inlet.watermark.cursor, intake.count) == ("j.1", 2)
    intake.finish([(again[1], DUPLICATE)])
    assert (inlet.watermark.cursor, intake.count) == ("j.3", 0)
    assert intake.size == 0


def test_frames_that_are_taken_apart_hold_the_cursor_back_and_do_not_move_it():
    admitted = Admitted()
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive_apart(split([frame("late", 1, "j.9"), b"nothing"]))
    inlet.receive(split([frame("early", 1, "j.1")]))
    late, nothing, early = admitted.queue.waiting()
    intake.finish([(early, STORED)])
    assert inlet.watermark.cursor is None, "earlier events are not settled"
    intake.finish([(late, STORED), (nothing, Buried("invalid"))])
    assert (inlet.watermark.cursor, intake.count, intake.size) == ("j.1", 0, 0)


def test_left_has_one_unfinished_event_per_content_and_no_letter():
    admitted = Admitted()
    intake, inlet = admitted.intake, admitted.inlet
    first = [frame("a", 1, "j.1"), frame("a", 1, "j.2"), frame("a", 2, "j.3"), frame("b", 1, "j.4"), b"nothing"]
    inlet.receive(split(first))
    inlet.receive_oversized(Oversized(10**9, b"d" * 32, b"head"))
    beyond = inlet.overflow(b'{"event_id":"c","payload":1}', "j.5")
    intake.offer_behind(b'{"event_id":"kept","payload":1}', lambda _: None)
    intake.offer_behind(b'{"event_id":"b","payload":1}', lambda _: None)
    left = intake.left()
    assert [(one.event.event_id, one.event.payload) for one in left if not one.is_no_event] == [
        ("a", b"1"), ("a", b"2"), ("c", b"1")
    ]  # fmt: skip
    assert [one.event.frame for one in left if one.is_no_event] == [b"nothing", b"head"]
    assert beyond is not None
    intake.finish([(beyond, Buried("overflow"))])
    intake.finish([(one, STORED) for one in left[:1]])
    assert [one.event.payload for one in intake.left() if one.event.event_id == "a"] == [b"2"]
    assert beyond not in intake.left()


async def test_left_reads_the_events_that_wait_for_a_peer():
    admitted = Admitted(share=(0, 10**9), length=1)
    frames = [frame(f"e{number}", 1, f"j.{number}") for number in range(5)]
    admitted.inlet.receive(split(frames))
    assert len(admitted.affinity.unread) == 4, "all but the first, which is in nobody's segment"
    assert [one.event.event_id for one in admitted.intake.left()] == ["e0", "e1", "e2", "e3", "e4"]
    assert admitted.affinity.unread == []


async def test_left_has_no_event_that_a_peer_settled():
    admitted = Admitted(share=(0, 10**9), length=1)
    admitted.inlet.receive(split([frame(f"e{number}", 1, f"j.{number}") for number in range(5)]))
    admitted.intake.end_unread(admitted.affinity.unread)
    assert [one.event.event_id for one in admitted.intake.left()] == ["e0"]


def test_waiting_events_and_copies_are_held_by_the_first_of_their_key():
    intake = Admitted().intake
    first, behind, copy, other = flights("first", "behind", "first", "other")
    first.order_key = behind.order_key = copy.order_key = "k"
    for one in (first, behind, copy, other):
        intake.enter(one)
    assert intake.holds_only({"first", "other"})
    assert not intake.holds_only({"first"})
    assert not intake.is_alone(first), "others wait for it"
    assert intake.is_alone(other)
    intake.enter_beyond(flight("beyond"))
    assert not intake.holds_only({"first", "other"}), "its letter is being written"


def test_an_event_of_a_key_that_ends_as_a_copy_lets_the_next_one_go():
    admitted = Admitted(policy=Policy(order_by="payload"))
    intake, inlet = admitted.intake, admitted.inlet
    for number in (1, 2, 3):  # the second is a copy of the first
        inlet.receive(split([frame("e" if number < 3 else "other", 1, f"j.{number}")]))
    (first,) = admitted.queue.waiting()
    intake.rename(first, conflict_claim(first.event))
    intake.settled([first])
    copy = admitted.queue.waiting()[0]
    assert copy.claim_id == "e", "it comes next, and other copies of it may wait for it"
    intake.rename(copy, conflict_claim(copy.event))
    assert first.copies == [copy], "the conflict that it becomes is in memory already"
    intake.finish([(first, DUPLICATE)])
    assert admitted.queue.waiting()[0].claim_id == "other"
    intake.finish([(admitted.queue.waiting()[0], STORED)])
    assert (intake.count, intake.order.waiting) == (0, 0)


def test_no_two_copies_of_a_key_wait_for_each_other_when_the_source_is_read_again():
    admitted = Admitted(policy=Policy(order_by="payload.key"))
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive(split([keyed("a", 1)]))
    inlet.read_again()
    inlet.receive(split([keyed("a", 1), keyed("a", 2), keyed("b", 1)]))
    ended: list[InFlight] = []
    while intake.count:
        (one,) = [one for one in admitted.queue.waiting() if one not in ended]
        ended.append(one)
        intake.finish([(one, STORED)])
    assert [one.event.event_id for one in ended] == ["a", "a", "a", "b"]


def test_no_two_copies_of_a_key_wait_for_each_other_behind_a_conflict():
    admitted = Admitted(policy=Policy(order_by="payload.key"))
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive(split([keyed("a", 2), keyed("a", 1), keyed("a", 2)]))
    (first,) = admitted.queue.waiting()
    intake.rename(first, conflict_claim(first.event))
    intake.finish([(first, Buried("conflict"))])
    ended = {first}
    while intake.count:
        one = next(one for one in admitted.queue.waiting() if one not in ended)
        ended.add(one)
        intake.finish([(one, DUPLICATE)])
    assert len(ended) == 3


async def test_every_event_knows_when_it_entered_on_both_clocks():
    admitted = Admitted(share=(0, 10**9), length=1, clocks=STOPPED)
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive(split([frame("own", 1, "j.1"), frame("of a peer", 1, "j.2")]))
    inlet.receive_apart(split([frame("apart", 1, "j.3"), b"nothing"]))
    inlet.receive_oversized(Oversized(10**9, b"d" * 32, b"head"))
    whole = read_frames((b'{"event_id":"replayed","payload":1}',), max_bytes=1_000)[0]
    assert isinstance(whole, Event)
    intake.offer(whole, lambda _: None)
    entered = [
        inlet.overflow(b'{"event_id":"beyond","payload":1}', "j.4"),
        intake.offer_behind(b'{"event_id":"healed","payload":1}', lambda _: None),
        intake.offer_behind(Oversized(10**9, b"e" * 32, b"other"), lambda _: None),
    ]
    assert len(admitted.affinity.unread) == 1
    entered += {*intake.inside(), *intake.left()} - {*entered}
    assert len(entered) == 9
    assert {(one.received_at, one.received_clock) for one in entered} == {(12.0, 34.0)}


async def test_every_event_knows_its_own_cursor():
    admitted = Admitted(share=(0, 10**9), length=1)
    intake, inlet = admitted.intake, admitted.inlet
    assert inlet.receive(split([frame("own", 1, "j.1"), frame("of a peer", 1, "j.2")])) == "j.2"
    inlet.receive_apart(split([frame("apart", 1, "j.3")]))
    inlet.overflow(b'{"event_id":"beyond","payload":1}', "j.4")
    assert {one.event.event_id: one.cursor for one in intake.left()} == {
        "own": "j.1", "of a peer": "j.2", "apart": "j.3", "beyond": "j.4"
    }  # fmt: skip


def test_messages_without_room_or_too_large_hold_the_cursor_back_until_they_end():
    admitted = Admitted()
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive_oversized(Oversized(10**9, b"d" * 32, b"head"))
    beyond = inlet.overflow(b'{"event_id":"beyond","payload":1}', "j.2")
    inlet.receive(split([frame("e", 1, "j.3")]))
    oversized, last = admitted.queue.waiting()
    intake.finish([(last, STORED)])
    assert (inlet.watermark.cursor, inlet.watermark.waiting) == (None, 2)
    intake.finish([(oversized, Buried("invalid"))])
    assert (inlet.watermark.cursor, inlet.watermark.waiting) == (None, 1)
    assert beyond is not None
    intake.finish([(beyond, Buried("overflow"))])
    assert (inlet.watermark.cursor, intake.count, intake.size) == ("j.3", 0, 0)


def test_the_cursor_of_a_message_without_room_is_passed_once_its_letter_is_written():
    admitted = Admitted()
    beyond = admitted.inlet.overflow(b'{"event_id":"beyond","payload":1}', "j.2")
    assert (admitted.inlet.watermark.newest, admitted.inlet.watermark.cursor) == ("j.2", None)
    assert beyond is not None
    admitted.intake.finish([(beyond, Buried("overflow"))])
    assert admitted.inlet.watermark.cursor == "j.2"


def keyed(event_id: str, content: int, key: str = "k") -> bytes:
    return b'{"event_id":"%b","payload":{"key":"%b","content":%d}}' % (event_id.encode(), key.encode(), content)


def test_a_copy_with_other_content_keeps_its_place_among_the_events_of_its_key():
    """It becomes a conflict, whose letter blocks the key: what comes behind it must wait for that."""
    admitted = Admitted(policy=Policy(order_by="payload.key"))
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive(split([keyed("a", 1), keyed("a", 2), keyed("a", 1), keyed("b", 1)]))
    (first,) = admitted.queue.waiting()
    intake.settled([first])
    assert admitted.queue.waiting() == [first], "its copy has the same name, and must not be claimed yet"
    intake.finish([(first, STORED)])
    _, conflict = admitted.queue.waiting()
    assert (conflict.event.event_id, conflict.event.digest != first.event.digest) == ("a", True)
    intake.finish([(conflict, Buried("conflict"))])
    assert [one.event.event_id for one in admitted.queue.waiting()] == ["b", "a", "a"]
    intake.finish([(admitted.queue.waiting()[0], STORED)])
    assert (intake.count, intake.size) == (0, 0)


def test_a_copy_with_other_content_and_another_key_is_not_claimed_before_the_first_has_ended():
    admitted = Admitted(policy=Policy(order_by="payload.key"))
    intake, inlet = admitted.intake, admitted.inlet
    inlet.receive(split([keyed("a", 1), keyed("a", 2, "other"), keyed("b", 1, "other")]))
    (first,) = admitted.queue.waiting()
    intake.finish([(first, STORED)])
    _, conflict = admitted.queue.waiting()
    assert conflict.order_key != first.order_key
    intake.finish([(conflict, Buried("conflict"))])
    assert [one.event.event_id for one in admitted.queue.waiting()] == ["b", "a", "a"]


@pytest.mark.parametrize("end", [DUPLICATE, Buried("blocked")])
def test_the_event_of_a_letter_goes_on_when_the_first_ends_by_that_letter(end: End):
    """A peer buried it. This listener has it in memory still when the letter is retried here."""
    admitted, ended = Admitted(), list[InFlight]()
    intake = admitted.intake
    admitted.inlet.receive(split([frame("e", 1, "j.1")]))
    (first,) = admitted.queue.waiting()
    of_letter = intake.offer_behind(b'{"event_id":"e","payload":1}', ended.append, revive=True)
    intake.finish([(first, end)])
    assert (ended, intake.inside()) == ([], [of_letter])
    intake.finish([(of_letter, STORED)])
    assert (ended, intake.count, intake.size) == ([of_letter], 0, 0)


def test_the_event_of_a_letter_ends_with_the_first_that_is_a_row_now():
    admitted, ended = Admitted(), list[InFlight]()
    admitted.inlet.receive(split([frame("e", 1, "j.1")]))
    (first,) = admitted.queue.waiting()
    of_letter = admitted.intake.offer_behind(b'{"event_id":"e","payload":1}', ended.append, revive=True)
    admitted.intake.finish([(first, STORED)])
    assert ([one.end for one in ended], admitted.intake.count) == ([DUPLICATE], 0)
    assert ended == [of_letter]
