"""Why a connection is refused. Answers keep their order, whatever the reason."""

from typing import Any

import pytest

from tests.support.publishing import Connected, post
from unlost.ops.kit.telemetry.admission import Admission, Guarded, Seating
from unlost.ops.kit.telemetry.guarded import (
    BODY_SECONDS,
    HEAD_SECONDS,
    LEAST_RATE,
    LINGER_BYTES,
    LINGER_SECONDS,
    MAX_FIELDS,
    MAX_HEAD,
)
from unlost.ops.kit.telemetry.pacer import PIECE

EVENT = b'{"event_id":"e","payload":1}'
HEALTH = b"GET /health HTTP/1.1\r\nhost: here\r\n"


class InReserve(Admission):
    """All ordinary places are taken."""

    def enter(self, connection: Guarded) -> Seating:
        super().enter(connection)
        return Seating.RESERVE


@pytest.fixture(params=[True, False], ids=["shortened", "plain"])
async def connected(request: pytest.FixtureRequest) -> Connected:
    return Connected(shortened=request.param)


def statuses(connected: Connected) -> list[int]:
    return [int(part[:3]) for part in connected.wire.written.split(b"HTTP/1.1 ")[1:]]


def seconds_pass(connected: Connected, seconds: float) -> None:
    for _ in range(int(seconds)):
        connected.protocol.check()


def received(connected: Connected, *pieces: bytes) -> None:
    for piece in pieces:
        connected.protocol.data_received(piece)


async def test_a_head_of_just_less_than_the_limit_is_read_in_whatever_pieces(connected: Connected):
    head = HEALTH + b"x: %b\r\n\r\n"
    whole = head % (b"y" * (MAX_HEAD - len(head) + 2 - 1))
    assert len(whole) == MAX_HEAD - 1
    received(connected, whole)
    await connected.settle()
    assert statuses(connected) == [404]
    received(connected, whole[:1], whole[1:-1], whole[-1:])
    await connected.settle()
    assert statuses(connected) == [404, 404]
    await connected.end()


@pytest.mark.parametrize("size", [1, 4_096, MAX_HEAD, 200_000])
async def test_a_head_without_an_end_is_refused_at_the_limit(connected: Connected, size: int):
    received(connected, HEALTH + b"x: ")
    sent = 0
    while not connected.wire.written:
        received(connected, b"y" * size)
        if size > PIECE:
            await connected.settle()
        sent += size
        assert sent < 2 * MAX_HEAD + size
    assert statuses(connected) == [431]
    assert sent >= MAX_HEAD - len(HEALTH) - 3
    received(connected, b"y" * size, b"\r\n\r\n" + HEALTH + b"\r\n")
    await connected.settle()
    assert statuses(connected) == [431], "reading has stopped"


async def test_a_head_has_so_many_fields_and_no_more(connected: Connected):
    received(connected, HEALTH + b"a:\r\n" * (MAX_FIELDS - 1) + b"\r\n")
    await connected.settle()
    assert statuses(connected) == [404]
    received(connected, HEALTH + b"a:\r\n" * MAX_FIELDS + b"\r\n")
    await connected.settle()
    assert statuses(connected) == [404, 431]


async def test_a_head_has_its_seconds_however_often_a_byte_of_it_comes(connected: Connected):
    received(connected, HEALTH)
    for _ in range(int(HEAD_SECONDS) - 1):
        seconds_pass(connected, 1)
        received(connected, b"x")
    assert statuses(connected) == []
    seconds_pass(connected, 1)
    assert statuses(connected) == [408]


async def test_one_that_sends_nothing_at_all_is_sent_away(connected: Connected):
    seconds_pass(connected, HEAD_SECONDS)
    assert statuses(connected) == [408]


async def test_empty_lines_after_an_answer_are_the_beginning_of_a_head(connected: Connected):
    received(connected, HEALTH + b"\r\n")
    await connected.settle()
    seconds_pass(connected, 30)
    assert statuses(connected) == [404], "uvicorn closes idle connections"
    received(connected, b"\r\n")
    seconds_pass(connected, HEAD_SECONDS)
    assert statuses(connected) == [404, 408]


@pytest.mark.parametrize("path", [b"/publish", b"/publish?redeliver=true"])
async def test_a_body_that_stops_is_sent_away_and_a_slow_one_is_not(connected: Connected, path: bytes):
    whole = post(b'{"event_id":"e","payload":"%b"}' % (b"x" * 1_900), target=path)
    start = whole.index(b"\r\n\r\n") + 4
    received(connected, whole[:start])
    for first in range(start, len(whole) - 50, 50):
        seconds_pass(connected, 1 if first % 1_000 == 0 else 0)
        received(connected, whole[first : first + 50])
        await connected.settle()
    seconds_pass(connected, BODY_SECONDS - 1)
    assert statuses(connected) == []
    seconds_pass(connected, 2)
    assert statuses(connected) == [408]
    await connected.settle()
    assert connected.places.taken == []


async def test_a_body_at_the_least_rate_is_never_sent_away(connected: Connected):
    connected.places.held = []
    size = 60 * LEAST_RATE
    received(connected, b"POST /other HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
    for _ in range(59):
        received(connected, b"x" * LEAST_RATE)
        await connected.settle()
        seconds_pass(connected, 1)
    assert 408 not in statuses(connected)


async def test_all_that_is_held_shares_a_budget_and_is_given_back(connected: Connected):
    budget = 1024 * 1024
    others = budget - 1_000
    assert connected.admission.hold(others)
    half = post(b"x" * 1_900, target=b"/publish?redeliver=true")[:-10]
    received(connected, half)
    await connected.settle()
    assert statuses(connected) == [503]
    assert b"retry-after: 1\r\n" in connected.wire.written
    await connected.end()
    assert connected.admission.hold(budget - others), "nothing of it is held any more"


async def test_a_half_event_on_the_short_way_counts_in_the_budget():
    connected = Connected(shortened=True)
    budget = 1024 * 1024
    assert connected.admission.hold(budget - 500)
    whole = post(EVENT + b" " * 600)
    received(connected, whole[:300])
    assert not connected.admission.hold(201)
    assert connected.admission.hold(200)
    assert connected.admission.hold(-200)
    received(connected, whole[300:])
    await connected.settle()
    assert statuses(connected) == [202]
    assert connected.admission.hold(500)
    assert connected.admission.hold(-500)
    received(connected, post(EVENT + b" " * 600)[:-1])
    assert statuses(connected) == [202, 503]
    await connected.end()


async def test_an_answer_under_way_is_not_torn_by_a_refusal():
    connected = Connected(shortened=False)
    connected.places.held = []
    received(connected, post(EVENT, target=b"/publish?redeliver=true"))
    await connected.settle()
    received(connected, HEALTH + b"x: " + b"y" * MAX_HEAD)
    await connected.settle()
    assert statuses(connected) == []
    connected.places.held.pop()()
    await connected.settle()
    assert statuses(connected) == [], "its connection was closed: the event is in doubt, and is sent again"


async def test_a_refused_client_can_read_the_reason_before_it_is_cut_off():
    connected = Connected(shortened=False)
    connected.wire.write_eof = lambda: None  # type: ignore[method-assign]
    received(connected, b"nonsense\r\n\r\n")
    assert statuses(connected) == [400]
    seconds_pass(connected, LINGER_SECONDS - 1)
    assert not connected.wire.closed
    seconds_pass(connected, 1)
    assert connected.wire.closed


@pytest.mark.parametrize("request_", [post(EVENT), b"GET /other HTTP/1.1\r\n\r\n", HEALTH + b"\r\n"])
@pytest.mark.parametrize("shortened", [True, False])
async def test_in_the_reserve_health_alone_is_answered_and_once(request_: bytes, *, shortened: bool):
    connected = Connected(shortened=shortened, admission=InReserve(budget=1024 * 1024))
    received(connected, request_)
    await connected.settle()
    assert statuses(connected) == [404 if b"/health" in request_ else 503]
    assert connected.wire.closed
    assert connected.places.taken == []


async def test_bytes_between_the_chunks_of_a_body_are_bounded_too(connected: Connected):
    received(connected, b"POST /other HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ")
    for _ in range(20):
        received(connected, b"y" * 4_096)
    await connected.settle()
    assert connected.wire.closed


async def test_a_refused_client_is_read_up_to_a_limit():
    connected = Connected(shortened=False)
    connected.wire.write_eof = lambda: None  # type: ignore[method-assign]
    received(connected, b"nonsense\r\n\r\n")
    for _ in range(LINGER_BYTES // 100_000):
        await connected.read(b"y" * 100_000)
        assert not connected.wire.reads, "once per iteration of the loop"
    await connected.read(b"y" * 100_000)
    await connected.settle()
    assert not connected.wire.reads
    seconds_pass(connected, LINGER_SECONDS)
    assert connected.wire.closed


async def test_requests_that_come_at_once_are_begun_a_few_at_a_time_and_all_answered(connected: Connected):
    requests = b"GET /other HTTP/1.1\r\n\r\n" * 2_000
    begun: list[Any] = []
    connected.protocol.app = _noting(begun, connected.protocol.app)
    received(connected, requests[:-100])
    received(connected, requests[-100:])
    while len(begun) < 2_000:
        assert len(connected.protocol.pipeline) <= PIECE // 20
        await connected.settle()
    await connected.settle()
    assert statuses(connected) == [404] * 2_000
    assert connected.wire.reads
    await connected.end()
    assert connected.admission.hold(1024 * 1024), "nothing of it is held any more"


def _noting(begun: list[int], app: Any) -> Any:
    async def noted(*call: Any) -> None:
        begun.append(1)
        await app(*call)

    return noted


async def test_waiting_bytes_count_in_the_budget_until_their_connection_ends(connected: Connected):
    budget = 1024 * 1024
    received(connected, HEALTH + b"x: " + b"y" * 500_000)
    assert not connected.admission.hold(budget - 400_000)
    received(connected, b"y" * 600_000)
    assert statuses(connected) == [503]
    await connected.end()
    assert connected.admission.hold(budget)


async def test_events_that_come_faster_than_they_are_placed_do_not_gather():
    connected = Connected(shortened=True)
    connected.places.held = []
    events = b"".join(post(b'{"event_id":"%d"}' % number) for number in range(200))
    assert len(events) < 2 * PIECE
    received(connected, events[:PIECE])
    received(connected, events[PIECE:])
    for _ in range(200):
        await connected.settle()
        assert not connected.wire.reads, "reading pauses while events wait"
        connected.places.held.pop()()
    await connected.settle()
    assert len(connected.places.taken) == 200
    assert connected.wire.reads
    await connected.end()
