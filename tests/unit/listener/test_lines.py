"""Messages with many events: their bodies and cursors, and every message that is none."""

import msgspec
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from tests.support.scripted import URL, ScriptedSource
from unlost.listener.core.facts import SourceLost
from unlost.listener.ports.source import Batch, Opened, SourceEnded
from unlost.listener.source.stream.lines import MOST, batch_of, parted
from unlost.listener.source.stream.stream import LineSession
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.listener.source.websocket.link import linked

OURS = {"unlost-oldest": "j.0", "unlost-cursor": "j.9"}
LINES = {**OURS, "unlost-format": "lines"}
ENDS = ConnectionClosedError(Close(1001, ""), None)


def message(first: int, *bodies: bytes, stem: str = "j.") -> bytes:
    return b"\n".join((msgspec.json.encode({"unlost": "lines", "stem": stem, "first": first}), *bodies))


def test_each_body_has_the_cursor_that_follows():
    batch = batch_of([message(9, b"{1}", b"{2}"), message(11, b"{3}")])
    assert (batch.bodies, [*batch.cursors]) == ([b"{1}", b"{2}", b"{3}"], ["j.9", "j.10", "j.11"])
    assert (batch.cursors[-1], [*batch.cursors[1:]], next(reversed(batch.cursors))) == (
        "j.11",
        ["j.10", "j.11"],
        "j.11",
    )


@pytest.mark.parametrize(
    ("second", "cursor"),
    [(message(12, b"{2}"), "j.12"), (message(11, b"{2}", stem="k."), "k.11"), (message(10, b"{2}"), "j.10")],
    ids=["gap", "another stem", "back"],
)
def test_cursors_of_several_messages_need_not_follow_each_other(second: bytes, cursor: str) -> None:
    assert [*batch_of([message(10, b"{1}"), second]).cursors] == ["j.10", cursor]


def test_a_batch_is_parted_where_the_room_ends():
    batch = batch_of([message(1, b"{1}", b"{2}", b"{3}")])
    first, rest = parted(batch, 2)
    assert rest is not None
    assert (first.bodies, [*first.cursors]) == ([b"{1}", b"{2}"], ["j.1", "j.2"])
    assert (rest.bodies, [*rest.cursors]) == ([b"{3}"], ["j.3"])
    assert parted(batch, 3) == (batch, None)


@pytest.mark.parametrize("what", [
    b"", b"\n", b"{}", b"[]\n{}", b'{"event_id":"e","payload":1,"cursor":"j.1"}', b"\xff\n{}",
    message(1), message(0, b"{}"), message(-1, b"{}"), message(10**18, b"{}"), message(1, b"{}", stem=""),
    message(1, b"{}", stem="a b"), message(1, b"{}", stem="x" * 201), message(1, *[b"{}"] * (MOST + 1)),
    b"\n" * 1_000_000, b'{"unlost":"frames","stem":"j.","first":1}\n{}', b'{"unlost":"lines","stem":"j."}\n{}',
    b'{"unlost":"lines","stem":7,"first":1}\n{}', b'{"unlost":"lines","stem":"j.","first":"1"}\n{}',
    b"[" * 100_000,
])  # fmt: skip
def test_a_malformed_message_ends_the_session_with_a_reason(what: bytes):
    with pytest.raises(SourceEnded, match="not in its own format"):
        batch_of([what])


async def read_once(headers: dict[str, str], *frames: bytes) -> tuple[list[bytes], list[str | None]]:
    """What a reader admits of these frames in one session."""
    source = ScriptedSource(headers, frames, ENDS)
    async with source.read(stored="j.0") as one:
        await one.until(lambda r: bool(r.of(SourceLost)))
        return one.inlet.bodies, one.inlet.cursors


async def test_lines_are_read_if_both_sides_agree():
    bodies, cursors = await read_once(LINES, message(1, b"{1}", b"{2}"), message(3, b"{3}"))
    assert (bodies, cursors) == ([b"{1}", b"{2}", b"{3}"], ["j.1", "j.2", "j.3"])


async def test_nobody_is_asked_for_lines_before_a_handshake_proved_our_producer():
    """A gateway may hide the headers of an answer, and then lines would be taken for an event."""
    source = ScriptedSource(LINES, (), ENDS)
    async with source.read(stored="j.0") as one:
        await one.until(lambda r: bool(r.of(SourceLost)))
        assert source.offered[:2] == [{}, {"unlost-accept": "lines"}]


@pytest.mark.parametrize("headers", [OURS, {"unlost-format": "lines"}, {**OURS, "unlost-format": "pages"}])
async def test_only_our_own_producer_sends_lines(headers: dict[str, str]):
    assert await read_once(headers, message(1, b"{1}")) == ([message(1, b"{1}")], [None])


async def test_a_source_that_does_not_resume_is_not_asked_for_lines():
    """The rest of a message that ends a session would be lost."""
    source = ScriptedSource(LINES, (), ENDS)
    async with source.read(stored="j.0", resumes="no") as one:
        await one.until(lambda r: len(r.of(SourceLost)) > 1)
        assert not any(source.offered)


async def test_another_message_among_them_is_a_lost_source():
    source = ScriptedSource(LINES, [message(1, b"{1}"), b'{"event_id":"e","payload":1}'])
    async with source.read(stored="j.0") as one:
        await one.until(lambda r: bool(r.of(SourceLost)))
        assert "not in its own format" in one.of(SourceLost)[0].why
        assert not one.inlet.bodies


async def test_lines_that_found_no_room_are_taken_next():
    frames = [message(1, *[b"{%d}" % number for number in range(1, 601)])]
    source = ScriptedSource(LINES, frames, ENDS)
    async with linked(source.open, URL, WebSocketOptions()) as link:
        session = LineSession(link, Opened(), None, ours=True)
        taken = [await session.take(200, 10**6), await session.take(1, 10**6), await session.take_rest(300, 10**6)]
        taken += [await session.take_rest(512, 10**6)]
        assert await session.take_rest(512, 10**6) is None
    assert [len(one.bodies) for one in taken if isinstance(one, Batch)] == [200, 1, 300, 99]
    assert [cursor for one in taken if isinstance(one, Batch) for cursor in one.cursors] == [
        f"j.{number}" for number in range(1, 601)
    ]
