"""The intake: each event that enters leaves once, copies too, and the remaining ones can be listed at any time."""

import time

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import DUPLICATE, STORED, Buried, InFlight, conflict_claim
from unlost.listener.core.oversized import Oversized
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segmenter
from unlost.listener.pipeline.policy import Policy


class Admitted:
    """An intake, and the events that it would have claimed."""

    def __init__(self, *, share: tuple[int, int] = (0, 1), length: int = 64) -> None:
        self.queue: BatchQueue[InFlight] = BatchQueue()
        self.facts: list[Fact] = []
        self.affinity = PeerAffinity(self.queue, peer_wait=60.0)
        self.intake = Intake(
            policy=Policy(), segmenter=Segmenter(lambda: share, length=length), affinity=self.affinity,
            clocks=Clocks(time.time, time.monotonic), facts=self.facts.append,
        )  # fmt: skip


def frame(event_id: str, payload: int, cursor: str) -> bytes:
    return b'{"event_id":"%b","payload":%d,"cursor":"%b"}' % (event_id.encode(), payload, cursor.encode())


def test_copies_of_what_becomes_a_conflict_go_on_and_the_cursor_does_not_stick():
    admitted = Admitted()
    intake = admitted.intake
    for number in (1, 2, 3):
        intake.receive([frame("e", 1, f"j.{number}")])
    (first,) = admitted.queue.waiting()
    intake.rename(first, conflict_claim(first.event))
    again = admitted.queue.waiting()[1:]
    assert [one.claim_id for one in again] == [first.claim_id, "e"], "a copy claims under the event's own name again"
    intake.finish([(first, Buried("conflict"))])
    assert (intake.watermark.cursor, intake.count) == ("j.1", 2)
    intake.finish([(again[1], DUPLICATE)])
    assert (intake.watermark.cursor, intake.count) == ("j.3", 0)
    assert intake.size == 0


def test_frames_that_are_taken_apart_hold_the_cursor_back_and_do_not_move_it():
    admitted = Admitted()
    intake = admitted.intake
    intake.receive_apart([frame("late", 1, "j.9"), b"nothing"])
    intake.receive([frame("early", 1, "j.1")])
    late, nothing, early = admitted.queue.waiting()
    intake.finish([(early, STORED)])
    assert intake.watermark.cursor is None, "earlier events are not settled"
    intake.finish([(late, STORED), (nothing, Buried("invalid"))])
    assert (intake.watermark.cursor, intake.count, intake.size) == ("j.1", 0, 0)


def test_what_has_not_ended_is_told_once_for_each_content_and_not_where_a_letter_holds_it():
    admitted = Admitted()
    intake = admitted.intake
    intake.receive([frame("a", 1, "j.1"), frame("a", 1, "j.2"), frame("a", 2, "j.3"), frame("b", 1, "j.4"), b"nothing"])
    intake.receive_oversized(Oversized(10**9, b"d" * 32, b"head"))
    beyond = intake.overflow(frame("c", 1, "j.5"))
    intake.offer_behind(b'{"event_id":"kept","payload":1}', lambda _: None)
    intake.offer_behind(b'{"event_id":"b","payload":1}', lambda _: None)
    left = intake.left()
    assert [(one.event.event_id, one.event.payload) for one in left if not one.is_no_event] == [
        ("a", b"1"), ("a", b"2"), ("c", b"1")
    ]  # fmt: skip
    assert [one.event.frame for one in left if one.is_no_event] == [b"nothing", b"head"]
    intake.finish([(beyond, Buried("overflow"))])
    intake.finish([(one, STORED) for one in left[:1]])
    assert [one.event.payload for one in intake.left() if one.event.event_id == "a"] == [b"2"]
    assert beyond not in intake.left()


async def test_what_waits_unread_for_a_peer_is_read_to_be_told():
    admitted = Admitted(share=(0, 10**9), length=1)
    frames = [frame(f"e{number}", 1, f"j.{number}") for number in range(5)]
    admitted.intake.receive(frames)
    assert len(admitted.affinity.unread) == 4, "all but the first, which is in nobody's segment"
    assert [one.event.event_id for one in admitted.intake.left()] == ["e0", "e1", "e2", "e3", "e4"]
    assert admitted.affinity.unread == []


async def test_what_a_peer_settled_is_not_left():
    admitted = Admitted(share=(0, 10**9), length=1)
    admitted.intake.receive([frame(f"e{number}", 1, f"j.{number}") for number in range(5)])
    admitted.intake.end_unread(admitted.affinity.unread)
    assert [one.event.event_id for one in admitted.intake.left()] == ["e0"]
