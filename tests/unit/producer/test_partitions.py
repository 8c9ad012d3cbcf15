"""What a client of some partitions is sent."""

from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from unlost.producer.journal.timelines import Timeline, Timelines
from unlost.producer.stream.partitions import Header, Partitioner, Share, in_partitions, share_of, upto

J = Timelines("0123456789ab", [Timeline(1, "0000000a", 1), Timeline(2, "0000000b", 6)])
OLD, NEW = "0123456789ab.t1-0000000a.", "0123456789ab.t2-0000000b."
LARGE = b"{%s}" % (b"x" * 30)


def message(stem: str, numbers: list[int], last: int, *bodies: bytes) -> bytes:
    text = b"\n".join([msgspec.json.encode(Header("partitions", stem, numbers, last)), *bodies])
    return Frame(Opcode.TEXT, text).serialize(mask=False)


@pytest.mark.parametrize(
    ("asked", "partitions"),
    [("3,17/64", {3, 17}), ("0/1", {0}), ("255/256", {255}), ("1,1/2", {1}), ("/64", set())],
)
def test_a_share_is_read(asked: str, partitions: set[int]) -> None:
    assert share_of(asked) == Share(frozenset(partitions), int(asked.partition("/")[2]))


@pytest.mark.parametrize(
    "asked", ["", "3", "/", "3/", "64/64", "3/257", "-1/64", "3,/64", "٣/64", "1" * 4 + "/9999", "3/64\n", "0/0"]
)
def test_no_share_is_read_from_anything_else(asked: str) -> None:
    assert share_of(asked) is None


@given(st.lists(st.binary(max_size=8)), st.integers(1, 256), st.integers(1, 9))
def test_each_event_is_in_one_partition_whoever_asks_first(bodies: list[bytes], count: int, first: int) -> None:
    partitioner = Partitioner()
    shares = [Share(frozenset(range(at, count, 3)), count) for at in range(3)]
    picked = [partitioner.pick(one, first, bodies) for one in shares]
    for place, body in enumerate(bodies):
        assert [one[place] for one in picked].count(body) == (3 if not body else 1)
        assert picked[crc32(body) % count % 3][place] == body


@pytest.mark.parametrize(
    ("first", "bodies", "messages"),
    [
        (7, [b"{1}", b"", b"{3}"], [(NEW, [7, 9], 9, b"{1}", b"{3}")]),
        (7, [b"", b"{2}", b"", b""], [(NEW, [8], 10, b"{2}")]),
        (7, [b"", b""], []),
        (4, [b"{1}", b"{2}", b"{3}"], [(OLD, [4, 5], 5, b"{1}", b"{2}"), (NEW, [6], 6, b"{3}")]),
        (4, [b"{1}", b"", b""], [(OLD, [4], 4, b"{1}"), (NEW, [], 6)]),
        (7, [LARGE, LARGE], [(NEW, [7], 7, LARGE), (NEW, [8], 8, LARGE)]),
    ],
    ids=["some", "the last numbers too", "none", "another timeline", "none of it", "large"],
)
def test_a_message_says_how_far_it_goes(first: int, bodies: list[bytes], messages: list) -> None:
    assert in_partitions(J, largest=60)(first, bodies) == b"".join([message(*one) for one in messages])


def test_a_client_that_gets_nothing_learns_how_far_it_has_been_sent() -> None:
    assert upto(J, 5) == message(OLD, [], 5)
