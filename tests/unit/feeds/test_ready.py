"""Messages that wait to be taken: their order, limits, and room, whether they wait alone or together."""

from tests.support.fakes import unused
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Batch
from unlost.listener.source.feed.connection import FeedConnection, FeedLink
from unlost.listener.source.feed.hook import Receipt
from unlost.listener.source.feed.ready import HELD_BYTES, TOGETHER_BYTES, ReadyQueue
from unlost.listener.source.feed.taking import Taking


def connection() -> FeedConnection:
    return FeedConnection(unused(FeedLink), None)


def taken(queue: ReadyQueue, most: int, size: int = 10**9) -> list[bytes]:
    batch = queue.take(most, size)
    assert isinstance(batch, Batch)
    assert len(batch.bodies) == len(batch.cursors)
    return list(batch.bodies)


def test_single_events_keep_their_order_and_are_divided_as_asked_for():
    queue = ReadyQueue()
    for number in range(10):
        queue.put_event(b"%d" % number, str(number), 100)
    assert taken(queue, 3) == [b"0", b"1", b"2"]
    queue.put_event(b"10", "10", 100)
    batch = queue.take(5, 10**9)
    assert isinstance(batch, Batch)
    assert batch.cursors == ["3", "4", "5", "6", "7"]
    assert taken(queue, 100) == [b"8", b"9", b"10"]
    assert not queue
    queue.put_event(b"11", None, 100)
    assert taken(queue, 1) == [b"11"]


async def test_a_message_of_several_events_stays_whole_and_in_its_place():
    queue, by = ReadyQueue(), connection()
    queue.put_event(b"1", None, 10)
    queue.put(by, Taking([b"2", b"3"], [None, None], receipt=Receipt("r")), 10)
    queue.put_event(b"4", None, 10)
    queue.put_oversized(Oversized(5, b"d", b"head"))
    queue.put_event(b"5", None, 10)
    assert taken(queue, 2) == [b"1"]
    batch = queue.take(10, 10**9)
    assert isinstance(batch, Batch)
    assert (batch.bodies, [(count, receipt is None) for count, receipt in batch.receipts]) == (
        [b"2", b"3", b"4"],
        [(2, False), (1, True)],
    )
    assert isinstance(queue.take(10, 10**9), Oversized)
    assert taken(queue, 10) == [b"5"]
    assert by.unsettled == 1


def test_reading_pauses_at_the_limit_and_continues_once_half_is_taken():
    queue = ReadyQueue()
    count = 0
    while queue.room.is_set():
        queue.put_event(b"x", None, 1_000)
        count += 1
    assert HELD_BYTES / 1_200 < count < HELD_BYTES / 1_000
    assert len(taken(queue, count, size=1)) <= TOGETHER_BYTES / 1_000 + 1, "a limit of bytes is a limit"
    while not queue.room.is_set():
        assert taken(queue, 10)
    assert queue
    while queue:
        taken(queue, 7)
    while queue.room.is_set():
        queue.put_oversized(Oversized(5, b"d", b"h" * 4096))
        count += 1
    assert count < 2_000, "the beginnings of large messages count too"


async def test_at_least_one_message_is_taken_when_there_is_no_room() -> None:
    """Otherwise a reader would ask for ever, and let nothing else run."""
    queue = ReadyQueue()
    for body in (b"1", b"2"):
        queue.put(connection(), Taking([body], [None]), 1)
    for body in (b"3", b"4"):
        queue.put_event(body, None, 1)
    assert [taken(queue, 0, -5) for _ in range(4)] == [[b"1"], [b"2"], [b"3"], [b"4"]]
    assert not queue
