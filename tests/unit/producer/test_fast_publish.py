"""The fast path: which requests are plain, and what a connection does while it waits."""

import msgspec
import pytest

from tests.support.publishing import Connected, post
from unlost.producer.fast.publish import LONGEST_BODY, LONGEST_HEAD, PlainHeads

EVENT, OTHER = b'{"event_id":"e","payload":1}', b'{"event_id":"f","payload":1}'


def answers(connected: Connected) -> list[int]:
    return [int(one[:3]) for one in connected.wire.written.split(b"HTTP/1.1 ")[1:]]


def length_of(heads: PlainHeads, head: bytes) -> int | None:
    plain = heads.plain(head)
    return plain and plain.length


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ((b"content-length: 28",), 28),
        ((b"Host: here", b"Content-Length:0", b"Connection: Keep-Alive", b"accept: */*"), 0),
        ((b"content-length: %d" % LONGEST_BODY,), LONGEST_BODY),
        ((b"content-length: %d" % (LONGEST_BODY + 1),), None),
        ((), None),
        ((b"x-content-length: 28",), None),
        ((b"content-length: 28", b"content-length: 28"), None),
        ((b"content-length: 28", b"content-length : 28"), None),
        ((b"content-length: 28 ",), None),
        ((b"content-length: 28", b"transfer-encoding: chunked"), None),
        ((b"content-length: 28", b"Origin: http://there"), None),
        ((b"content-length: 28", b"connection: close"), None),
        ((b"content-length: 28", b"connection: keep-alive, upgrade"), None),
        ((b"content-length: 28", b"upgrade: websocket"), None),
        ((b"content-length: 28", b"expect: 100-continue"), None),
        ((b"content-length: 28", b" folded"), None),
        ((b"content-length: 28", b"x: \x00"), None),
    ],
)
def test_only_unambiguous_heads_are_plain(headers: tuple[bytes, ...], length: int | None) -> None:
    heads = PlainHeads(max_bytes=LONGEST_BODY)
    head = b"\r\n".join((b"POST /publish HTTP/1.1", *headers))
    assert length_of(heads, head) == length
    assert length_of(heads, head) == length  # from the cache now


async def test_answers_keep_the_order_of_requests_and_only_one_event_is_under_way() -> None:
    connected = Connected(shortened=True)
    connected.places.held = []
    connected.protocol.data_received(post(EVENT) + post(b"{") + b"GET /there HTTP/1.1\r\n\r\n" + post(OTHER))
    await connected.settle()
    assert [one.event_id for one in connected.places.taken] == ["e"]
    assert not connected.wire.written
    connected.places.held.pop()()
    await connected.settle()
    assert answers(connected) == [202, 400, 404]
    connected.places.held.pop()()
    await connected.end()
    assert answers(connected) == [202, 400, 404, 202]


async def test_a_plain_request_waits_for_an_earlier_one_that_is_not_plain() -> None:
    connected = Connected(shortened=True)
    connected.places.held = []
    connected.protocol.data_received(post(EVENT, target=b"/publish?redeliver=true"))
    await connected.settle()
    connected.protocol.data_received(post(OTHER))
    connected.protocol.data_received(post(b"{"))
    await connected.settle()
    assert [one.event_id for one in connected.places.taken] == ["e"]
    for _ in range(2):
        connected.places.held.pop()()
        await connected.settle()
    assert answers(connected) == [202, 202, 400]
    connected.protocol.data_received(post(b'{"event_id":"g","payload":1}'))
    assert [one.event_id for one in connected.places.taken] == ["e", "f", "g"]
    connected.places.held.pop()()
    await connected.end()


async def test_a_client_that_sends_without_waiting_is_not_read_from() -> None:
    connected = Connected(shortened=True)
    connected.places.held = []
    connected.protocol.data_received(post(EVENT))
    assert connected.wire.reads
    connected.protocol.data_received(post(OTHER)[:-1])
    assert not connected.wire.reads
    connected.places.held.pop()()
    await connected.settle()
    assert connected.wire.reads
    connected.protocol.data_received(post(OTHER)[-1:])
    assert [one.event_id for one in connected.places.taken] == ["e", "f"]
    connected.places.held.pop()()
    await connected.end()


async def test_a_client_that_does_not_read_answers_is_not_read_from() -> None:
    connected = Connected(shortened=True)
    connected.protocol.pause_writing()
    connected.protocol.data_received(post(EVENT))
    await connected.settle()
    assert (connected.places.taken, connected.wire.reads) == ([], False)
    connected.protocol.resume_writing()
    await connected.settle()
    assert (answers(connected), connected.wire.reads) == ([202], True)
    await connected.end()


@pytest.mark.parametrize("tail", [b"", post(OTHER), post(OTHER)[:-1]])
async def test_a_server_that_stops_answers_what_is_under_way_and_closes(tail: bytes) -> None:
    connected = Connected(shortened=True)
    connected.places.held = []
    connected.protocol.data_received(post(EVENT) + tail)
    connected.protocol.shutdown()
    assert not connected.wire.closed
    connected.places.held.pop()()
    await connected.settle()
    assert answers(connected) == [202]
    assert b"\r\nconnection: close\r\n" in connected.wire.written
    assert connected.wire.closed
    assert len(connected.places.taken) == 1


async def test_a_server_that_stops_hears_out_who_is_in_the_middle_of_a_request() -> None:
    connected = Connected(shortened=True)
    connected.protocol.data_received(post(EVENT)[:-1])
    connected.protocol.shutdown()
    assert not connected.wire.closed
    connected.protocol.data_received(post(EVENT)[-1:])
    await connected.settle()
    assert (answers(connected), connected.wire.closed) == ([202], True)


async def test_a_server_that_stops_closes_what_is_idle() -> None:
    connected = Connected(shortened=True)
    connected.protocol.data_received(post(EVENT))
    await connected.settle()
    connected.protocol.shutdown()
    assert connected.wire.closed


async def test_a_client_that_leaves_before_the_answer_harms_nobody() -> None:
    connected = Connected(shortened=True)
    connected.places.held = []
    connected.protocol.data_received(post(EVENT))
    connected.wire.closed = True
    connected.protocol.connection_lost(None)
    connected.places.held.pop()()
    assert connected.wire.written == b""
    assert connected.answered == ["accepted"]


async def test_an_idle_connection_is_closed_in_time_and_one_that_waits_is_not() -> None:
    connected = Connected(shortened=True)
    connected.protocol.timeout_keep_alive = 0
    connected.places.held = []
    connected.protocol.data_received(post(EVENT))
    await connected.settle()
    assert not connected.wire.closed
    connected.places.held.pop()()
    await connected.settle()
    assert connected.wire.closed


async def test_a_long_head_is_left_to_the_long_way() -> None:
    connected = Connected(shortened=True)
    connected.protocol.data_received(post(EVENT, b"x: " + b"y" * LONGEST_HEAD))
    await connected.settle()
    body = connected.wire.written.partition(b"\r\n\r\n")[2]
    assert msgspec.json.decode(body)["status"] == "accepted"
    await connected.end()
