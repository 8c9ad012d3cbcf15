"""The reader: what proves that a source resumes, when the backoff restarts, and how a lost connection is reported."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from tests.support.reading import Reading, reading
from tests.support.rows import AWAY
from tests.support.scripted import URL, FailingHeartbeat, ScriptedSource
from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.facts import SourceConnected, SourceGap, SourceLost
from unlost.listener.ports.source import Batch, Loss
from unlost.listener.source.stream.handshake import handshake_of, with_cursor
from unlost.listener.source.websocket.loss import loss_of, retry_after

OURS = {"unlost-oldest": "j.0", "unlost-cursor": "j.9"}


def ours(number: int, *, timeline: int = 1) -> str:
    return f"0123456789ab.t{timeline}-0000000a.{number}"


SET_BACK = {"unlost-oldest": ours(0), "unlost-cursor": ours(4), "unlost-gap": ours(8)}


async def connected(one: Reading) -> None:
    await one.until(lambda r: bool(r.of(SourceConnected)))


async def test_a_field_called_cursor_proves_nothing():
    source = ScriptedSource(frames=[b"{}"], ends=ConnectionClosedError(Close(1001, ""), None))
    async with source.read(stored="foreign-7") as one:
        one.inlet.cursor = "foreign-8"
        await one.until(lambda r: len(r.of(SourceLost)) == 3)
        assert not one.reader.source.resumes
    assert set(source.asked) == {"sig=a%2Fb+c&cursor=mine"}, "the address of a foreign source is used unchanged"


async def test_our_producers_handshake_proves_it_and_reading_goes_on_after_the_groups_cursor():
    source = ScriptedSource(OURS)
    async with source.read(stored="j.4") as one:
        await connected(one)
        assert one.reader.source.resumes
        assert one.of(SourceConnected)[0].after == "j.4"
    assert source.asked == ["sig=a%2Fb+c&cursor=mine", "sig=a%2Fb+c&cursor=mine&after=j.4"]


@pytest.mark.parametrize("headers", [
    {}, {"unlost-oldest": "j.0"}, {"unlost-cursor": "j.0"}, {"unlost-oldest": "j.0", "unlost-cursor": ""},
    {"unlost-oldest": "j 0", "unlost-cursor": "j.0"}, {"unlost-oldest": "j.0", "unlost-cursor": "newest"},
])  # fmt: skip
async def test_half_a_proof_is_none(headers: dict[str, str]):
    async with ScriptedSource(headers).read(stored="j.4") as one:
        await connected(one)
        assert not one.reader.source.resumes


async def test_a_setting_proves_it_too():
    source = ScriptedSource()
    async with source.read(stored="f-4", resumes="yes") as one:
        await connected(one)
        assert one.reader.source.resumes
    assert source.asked == ["sig=a%2Fb+c&cursor=mine&after=f-4"]


async def test_resumes_no_is_obeyed_even_with_our_own_producer():
    source = ScriptedSource({**OURS, "unlost-gap": "j.1"})
    async with source.read(stored="j.4", resumes="no") as one:
        await connected(one)
        assert not one.reader.source.resumes
        assert not one.of(SourceGap)
    assert source.asked == ["sig=a%2Fb+c&cursor=mine"]


async def test_a_source_that_cannot_resume_declares_each_time_without_a_connection():
    source = ScriptedSource(frames=[b"{}"], ends=ConnectionClosedError(Close(1001, ""), None))
    async with source.read() as one:
        await one.until(lambda r: len(r.of(SourceConnected)) == 3)
        gaps = [fact.gap for fact in one.of(SourceGap)]
    assert [(gap.source, gap.how, gap.missing) for gap in gaps] == [("source", "disconnected", None)] * 2


async def test_a_source_that_resumes_declares_none():
    source = ScriptedSource(OURS, frames=[b"{}"], ends=ConnectionClosedError(None, None))
    async with source.read(stored="j.4") as one:
        await one.until(lambda r: len(r.of(SourceConnected)) == 3)
        assert not one.of(SourceGap)


async def test_an_address_that_answers_otherwise_must_prove_resuming_again():
    refused = InvalidStatus(Response(403, "Forbidden", Headers()))
    source = ScriptedSource(OURS, frames=[b"{}"], ends=ConnectionClosedError(None, None))
    async with source.read(stored="j.4") as one:
        await one.until(lambda r: len(r.of(SourceLost)) == 1)
        source.refuses = [refused]
        source.headers = Headers()
        await one.until(lambda r: len(r.of(SourceConnected)) == 2)
        assert not one.reader.source.resumes
    plain, after = "sig=a%2Fb+c&cursor=mine", "sig=a%2Fb+c&cursor=mine&after=j.4"
    assert source.asked[:4] == [plain, after, after, plain]


async def test_a_gap_is_stated_once_although_postgresql_is_away():
    source = ScriptedSource(SET_BACK)
    async with source.read(stored=ours(8)) as one:
        one.cursors.answers = [AWAY] * 2
        await connected(one)
        assert [(fact.gap.after, fact.gap.resumed_at) for fact in one.of(SourceGap)] == [(ours(8), ours(4))]
        assert isinstance(one.facts[0], SourceGap), "before any query to PostgreSQL"
        assert len(one.of(SourceLost)) == 2
        assert one.cursors.stored == ours(4)


@pytest.mark.parametrize(
    ("saved", "stays"), [(ours(9), ours(4)), (ours(6, timeline=2), ours(6, timeline=2)), (ours(3), ours(3))]
)
async def test_a_cursor_that_a_peer_saves_before_the_reset_is_judged_too(saved: str, stays: str):
    async with ScriptedSource(SET_BACK).read(stored=ours(8)) as one:
        one.cursors.saved_meanwhile = saved
        await connected(one)
        assert one.cursors.stored == stays


async def test_events_in_memory_at_a_gap_are_ours_for_good_until_settled():
    ended = ConnectionClosedError(None, None)
    source = ScriptedSource(SET_BACK, frames=[b"{}"], ends=ended)
    async with source.read(stored=ours(8)) as one:
        one.inlet.intake.count = 3
        await one.until(lambda r: len(r.of(SourceLost)) == 1)
        assert one.reader.took_for_good
        one.inlet.intake.count, source.headers = 0, Headers({**SET_BACK, "unlost-gap": ""})
        await one.until(lambda r: len(r.of(SourceLost)) == 2)
        assert not one.reader.took_for_good, "all of it is settled"


async def test_the_back_off_starts_anew_only_after_a_connection_that_lived_and_delivered():
    refused = OSError("refused")
    backoff = FullJitter(0.001, 1.0)
    ended = ConnectionClosedError(Close(1012, ""), None)
    source = ScriptedSource(frames=[b"{}"], ends=ended, refuses=[refused] * 4)
    async with source.read(backoff=backoff) as one:
        await one.until(lambda r: len(r.of(SourceLost)) >= 7)
        delays = [fact.delay for fact in one.of(SourceLost)]
    assert delays[:7] == [backoff.delay(n, 0.5) for n in (1, 2, 3, 4, 1, 1, 1)]
    for dead in (ScriptedSource(ends=ended), ScriptedSource(frames=[b"{}"], ends=ended, lives=0.5)):
        async with dead.read(backoff=backoff) as one:
            await one.until(lambda r: len(r.of(SourceLost)) >= 3)
            assert [fact.delay for fact in one.of(SourceLost)][:3] == [backoff.delay(n, 0.5) for n in (1, 2, 3)]


async def test_code_and_reason_of_a_lost_connection_are_stated_and_shown():
    source = ScriptedSource(ends=ConnectionClosedError(Close(1012, "we\x1b[31m redeploy\u202e"), None))
    async with source.read() as one:
        await one.until(lambda r: bool(r.of(SourceLost)))
        loss = one.of(SourceLost)[0]
        said = r"we\x1b[31m redeploy\u202e"
        assert (loss.code, loss.reason) == (1012, said)
        assert loss.why == f"the source closed the connection with code 1012: {said}"
        assert one.reader.last_loss is not None
        assert one.reader.last_loss.as_values() == {"why": loss.why, "code": 1012, "reason": said}
        assert one.reader.error == loss.why


def test_each_end_of_a_connection_has_words_of_its_own():
    cut = ConnectionClosedError(None, None)
    cut.__cause__ = ConnectionResetError("reset by peer")
    assert loss_of(cut) == Loss("the connection ended without a close frame: reset by peer", 1006)
    broken = ConnectionClosedError(None, Close(1002, "reserved bits must be 0"))
    assert loss_of(broken).why == "what the source sent broke the protocol (code 1002): reserved bits must be 0"
    assert loss_of(ValueError("Port out of range ws://u:secret@x")).why == (
        "the source's handshake is invalid: ValueError: Port out of range ws://***@x"
    )


@pytest.mark.parametrize(
    ("values", "seconds"),
    [((), 0), (("7",), 7), (("7", "30"), 30), (("nan",), 0), (("inf", "-3"), 0), (("99999",), 600), (("soon", "2"), 2)],
)
def test_a_wait_that_is_asked_for_is_kept_within_bounds(values: tuple[str, ...], seconds: float):
    assert retry_after(Headers([("Retry-After", one) for one in values])) == seconds


def test_a_header_that_stands_twice_is_reported_by_name():
    twice = Headers([("unlost-cursor", "j.1"), ("unlost-cursor", "j.2")])
    with pytest.raises(Exception, match=r"unlost-cursor 2 times"):
        handshake_of(twice)


def test_with_cursor_replaces_only_the_cursor_in_the_address():
    assert with_cursor("ws://s/p?x=%2f&after=old&y", "a b.1") == "ws://s/p?x=%2f&y&after=a%20b.1"
    assert with_cursor("ws://s/p", None) == "ws://s/p"


async def test_an_error_beside_reading_ends_the_session_and_says_why():
    class Beating:
        name, resumes, shared, partitioned = "s", False, False, False

        @contextlib.asynccontextmanager
        async def open(self, cursor: Any) -> AsyncIterator[FailingHeartbeat]:
            yield FailingHeartbeat()

    async with reading(URL, source=Beating()) as one:
        await one.until(lambda r: bool(r.of(SourceLost)))
    lost = one.of(SourceLost)[0]
    assert (lost.why, lost.code) == ("the heartbeat was not answered", 4009)


async def test_a_message_that_cannot_be_read_ends_only_the_session():
    class Senseless(FailingHeartbeat):
        async def take(self, most: int, size: int) -> Batch:
            raise ValueError("not a JetStream message")

        async def run(self, paused: Any) -> None:
            await self.ended.wait()

    class Sending:
        name, resumes, shared, partitioned = "s", True, False, False

        @contextlib.asynccontextmanager
        async def open(self, cursor: Any) -> AsyncIterator[Senseless]:
            yield Senseless()

    async with reading(URL, source=Sending()) as one:
        await one.until(lambda r: len(r.of(SourceLost)) >= 2)
    assert one.of(SourceLost)[0].why == "the source sent something invalid: ValueError: not a JetStream message"
