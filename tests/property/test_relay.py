"""The relay finds every message, however the stream is cut, and changes no byte."""

from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.routing.relay import Messages

MESSAGES = st.lists(st.tuples(st.sampled_from(b"QPBSXZDCd"), st.binary(max_size=40)), max_size=12)


@given(MESSAGES, st.lists(st.integers(1, 30), max_size=30))
def test_every_message_is_found_and_every_byte_passed_on(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body for kind, body in messages)
    found, passed, reader, rest = [], b"", Messages(), stream
    for size in (*cuts, len(stream)):
        chunk, rest = rest[:size], rest[size:]
        for kind, piece in reader.feed(chunk):
            found += [] if kind is None else [kind]
            passed += piece
    assert found == [kind for kind, _ in messages]
    assert passed == stream
