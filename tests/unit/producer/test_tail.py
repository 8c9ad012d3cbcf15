"""The frames that clients are sent: the library reads what we write by hand."""

import pytest
from websockets.frames import Frame, Opcode

from producer.journal.port import Entry
from producer.tail import frame_of, wire_of


@pytest.mark.parametrize("size", [0, 60, 64, 70, 125, 126, 127, 65_480, 65_535, 65_536, 200_000])
def test_the_wire_carries_exactly_the_frame(size: int):
    body = b'{"event_id":"e","payload":"%b"}' % (b"x" * size)
    entry = Entry(7, "e", b"", body, 0.0)
    wire = wire_of(entry, "j")
    assert wire == Frame(Opcode.TEXT, frame_of(entry, "j")).serialize(mask=False)


def test_both_sides_of_each_length_of_the_header():
    shortest = len(frame_of(Entry(7, "e", b"", b'{"payload":""}', 0.0), "j"))
    for length in (125, 126, 65_535, 65_536):
        entry = Entry(7, "e", b"", b'{"payload":"%b"}' % (b"x" * (length - shortest)), 0.0)
        assert len(frame_of(entry, "j")) == length
        assert wire_of(entry, "j") == Frame(Opcode.TEXT, frame_of(entry, "j")).serialize(mask=False)
