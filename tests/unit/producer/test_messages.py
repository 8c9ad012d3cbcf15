"""Messages for clients: the library can read what is built by hand, and lines carry the same events."""

import pytest
from websockets.frames import Frame, Opcode

from unlost.listener.source.stream import lines
from unlost.producer.journal.timelines import Timeline, Timelines
from unlost.producer.stream import messages
from unlost.producer.stream.messages import frame_of, in_lines, one_by_one, wire_of

J = Timelines("0123456789ab", [Timeline(1, "0000000a", 1), Timeline(2, "0000000b", 6)])


def text_frame(message: bytes) -> bytes:
    return Frame(Opcode.TEXT, message).serialize(mask=False)


@pytest.mark.parametrize("size", [0, 60, 64, 70, 125, 126, 127, 65_480, 65_535, 65_536, 200_000])
def test_the_wire_carries_exactly_the_message(size: int):
    assert wire_of(b"x" * size) == text_frame(b"x" * size)


def test_a_message_for_each_event_has_its_cursor():
    assert one_by_one(J)(5, [b'{"event_id":"e"}', b"", b'{"event_id":"g"}']) == b"".join([
        text_frame(b'{"event_id":"e","cursor":"0123456789ab.t1-0000000a.5"}'),
        text_frame(b'{"event_id":"g","cursor":"0123456789ab.t2-0000000b.7"}'),
    ])  # fmt: skip
    assert frame_of(b'{"event_id":"e"}', "c") == b'{"event_id":"e","cursor":"c"}'


def test_both_sides_agree_on_the_names():
    assert (messages.ACCEPT, messages.FORMAT, messages.LINES) == (lines.ACCEPT, lines.FORMAT, lines.LINES)


def header(stem: str, first: int) -> bytes:
    return b'{"unlost":"lines","stem":"%b","first":%d}' % (stem.encode(), first)


LARGE = b"{1000000000}"
OLD, NEW = "0123456789ab.t1-0000000a.", "0123456789ab.t2-0000000b."


@pytest.mark.parametrize(
    ("first", "bodies", "parts"),
    [
        (7, [b"{1}", b"{2}"], [(NEW, 7, [b"{1}", b"{2}"])]),
        (4, [b"{1}", b"{2}", b"{3}"], [(OLD, 4, [b"{1}", b"{2}"]), (NEW, 6, [b"{3}"])]),
        (7, [b"{1}", b"", b"{3}"], [(NEW, 7, [b"{1}"]), (NEW, 9, [b"{3}"])]),
        (7, [b"", b"", b"{3}"], [(NEW, 9, [b"{3}"])]),
        (7, [b"{3}", b""], [(NEW, 7, [b"{3}"])]),
        (7, [b""], []),
        (7, [LARGE] * 3, [(NEW, 7, [LARGE]), (NEW, 8, [LARGE]), (NEW, 9, [LARGE])]),
        (7, [LARGE * 3, b"{1}"], [(NEW, 7, [LARGE * 3]), (NEW, 8, [b"{1}"])]),
    ],
    ids=[
        "usual", "another timeline", "damaged between", "damaged first", "damaged last", "all damaged", "large",
        "larger",
    ],
)  # fmt: skip
def test_one_header_describes_what_follows_it(
    first: int, bodies: list[bytes], parts: list[tuple[str, int, list[bytes]]]
) -> None:
    carried = in_lines(J, largest=20)(first, bodies)
    assert carried == b"".join([text_frame(b"\n".join((header(stem, at), *some))) for stem, at, some in parts])


@pytest.mark.parametrize("count", [1, 512])
def test_a_header_is_short(count: int) -> None:
    timelines = Timelines("0123456789ab", [Timeline(10**18 - 1, "0000000a", 1)])
    bodies = [b"{}"] * count
    carried = in_lines(timelines, largest=10_000)(10**18 - 1_000, bodies)
    assert len(carried) - sum(map(len, bodies)) - count - 4 < 100
