"""A publisher's conversation with a producer, answer by answer: what is sent again, and what it means."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pydantic
import pytest

from unlost import Publisher
from unlost.producer.client.conversation import (
    LINES,
    Conversation,
    NoReply,
    Outgoing,
    Patience,
    PauseFor,
    PostBody,
    Reply,
    outgoing,
    publish_all,
    publish_one,
)
from unlost.producer.client.outcome import (
    PublishConflict,
    Published,
    PublishInDoubt,
    PublishRefused,
    PublishRejected,
    PublishUnavailable,
)

LOST, UNREACHABLE = NoReply("the connection was lost", sent=True), NoReply("refused", sent=False)
BUSY = Reply(503, b'{"status":"unavailable","event_id":null,"error":"the disk is full"}', "1")


def one(status: str, code: int, **more: Any) -> Reply:
    return Reply(code, json.dumps({"status": status, "event_id": "e", **more}).encode())


def lines(*statuses: str, code: int = 200, last: str = "") -> Reply:
    answers = [json.dumps({"line": number, "status": status}) for number, status in enumerate(statuses, 1)]
    return Reply(code, "\n".join([*answers, last]).encode())


def events(count: int, size: int = 0) -> list[Outgoing]:
    return [Outgoing(f"e{number}", b"x" * size) for number in range(count)]


def patience(seconds: float = 30) -> Patience:
    """Its clock stands still: time is up once a pause is longer than what was given."""
    return Patience(seconds, lambda: 0.0, lambda: 1.0)


def hold(
    conversation: Conversation[Any], replies: Sequence[Reply | NoReply]
) -> tuple[Any, list[PostBody], list[float]]:
    """Answer a conversation with these; return its result, what it sent, and how long it waited each time."""
    left, sent, waited = list(replies), [], []
    answer: Reply | NoReply | None = None
    try:
        while True:
            step = conversation.send(answer)
            answer = None
            if isinstance(step, PauseFor):
                waited.append(step.seconds)
            else:
                sent.append(step)
                answer = left.pop(0)
    except StopIteration as ended:
        assert not left
        return ended.value, sent, waited


def publish(*replies: Reply | NoReply, seconds: float = 30) -> tuple[Published, list[PostBody], list[float]]:
    return hold(publish_one(Outgoing("e", b"{}"), patience(seconds), redeliver=False), replies)


def test_an_accepted_event_is_sent_once() -> None:
    published, sent, waited = publish(one("accepted", 202, cursor="c7"))
    assert (published, waited) == (Published("e", "accepted", "c7"), [])
    assert [(step.path, step.body) for step in sent] == [("/publish", b"{}")]


def test_one_that_was_published_before_is_a_duplicate_unless_it_may_be_our_own() -> None:
    assert publish(one("duplicate", 409, error="known"))[0] == Published("e", "duplicate")
    assert publish(UNREACHABLE, one("duplicate", 409))[0].status == "duplicate"
    published, sent, _ = publish(LOST, one("duplicate", 409))
    assert published.status == "accepted"
    assert sent[0] == sent[1], "the same id and bytes"
    assert publish(LOST, UNREACHABLE, one("duplicate", 409))[0].status == "accepted"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [("conflict", 409, PublishConflict), ("invalid", 400, PublishRefused), ("too_large", 413, PublishRefused)],
)
def test_one_that_is_refused_is_never_sent_again(status: str, code: int, error: type[PublishRefused]) -> None:
    with pytest.raises(error, match=f"e: {status}: because") as refused:
        publish(one(status, code, error="because"))
    assert refused.value.published == Published("e", status, None, "because")  # type: ignore[arg-type]


def test_a_busy_producer_is_given_the_time_that_it_asks_for() -> None:
    _, _, waited = publish(
        BUSY, BUSY, Reply(503, b"", "soon"), Reply(429, b"", "999"), one("accepted", 202), seconds=60
    )
    assert waited == [1, 1, 0.4, 30], "a longer time than 30 s is not believed"


def test_when_the_time_is_up_the_error_says_whether_the_event_may_be_published() -> None:
    with pytest.raises(PublishUnavailable, match="1 event has no outcome: refused") as unreachable:
        publish(UNREACHABLE, seconds=0.01)
    assert not isinstance(unreachable.value, PublishInDoubt)
    with pytest.raises(PublishInDoubt, match="the last answer was 503: the disk is full"):
        publish(BUSY, seconds=0.5)
    with pytest.raises(PublishInDoubt, match="refused"):
        publish(LOST, UNREACHABLE, seconds=0.15)


@pytest.mark.parametrize(
    "reply", [Reply(404, b"<html>"), Reply(403, b'{"error":"no"}'), Reply(200, b"ok"), Reply(302, b"")]
)
def test_a_reply_that_is_not_a_producers_is_not_retried(reply: Reply) -> None:
    with pytest.raises(PublishRejected, match=f"the answer is {reply.status}"):
        publish(reply)


@pytest.mark.parametrize("refusal", [Reply(401, b'{"status":"unauthorized"}'), Reply(404, b""), Reply(200, b"ok")])
def test_a_refusal_after_a_lost_answer_is_a_doubt(refusal: Reply) -> None:
    for first in (LOST, BUSY):
        with pytest.raises(PublishInDoubt, match=f"the answer is {refusal.status}") as doubt:
            publish(first, UNREACHABLE, refusal)
        assert doubt.value.event_ids == ("e",)
    with pytest.raises(PublishRejected) as rejected:
        publish(UNREACHABLE, refusal)
    assert rejected.value.event_ids == ("e",)


def test_a_refusal_of_a_batch_says_what_is_known_and_what_is_not() -> None:
    with pytest.raises(PublishRejected) as rejected:
        batch(events(3, 500_000), lines("accepted", "accepted"), Reply(403, b"{}"))
    assert [one.event_id for one in rejected.value.published] == ["e0", "e1"]
    assert rejected.value.event_ids == ("e2",), "it was sent for the first time"
    with pytest.raises(PublishInDoubt) as doubt:
        batch(events(3), lines("accepted", code=503), Reply(403, b"{}"))
    assert (len(doubt.value.published), doubt.value.event_ids) == (1, ("e1", "e2"))


def batch(
    all_events: Sequence[Outgoing], *replies: Reply | NoReply
) -> tuple[list[Published], list[PostBody], list[float]]:
    return hold(publish_all(all_events, patience(), redeliver=True), replies)


def test_a_batch_reports_each_outcome_in_order() -> None:
    published, (sent,), _ = batch(events(4), lines("accepted", "duplicate", "conflict", "invalid"))
    assert [(one.event_id, one.status) for one in published] == [
        ("e0", "accepted"), ("e1", "duplicate"), ("e2", "conflict"), ("e3", "invalid"),
    ]  # fmt: skip
    assert [one.is_refused for one in published] == [False, False, True, True]
    assert sent.path == "/publish/batch?redeliver=true"


def test_after_a_failure_in_the_middle_only_the_rest_is_sent_again() -> None:
    unavailable = '{"status":"unavailable","error":"the disk is full"}'
    published, sent, waited = batch(
        events(3, 1),
        lines("accepted", code=503, last=unavailable),
        lines("duplicate", "accepted"),
    )
    assert [one.status for one in published] == ["accepted", "accepted", "accepted"], "the second may be our own"
    assert [step.body for step in sent] == [b"x\nx\nx", b"x\nx"]
    assert len(waited) == 1


def test_a_batch_is_sent_in_parts() -> None:
    whole = [lines(*["accepted"] * LINES), lines("accepted")]
    assert [step.body.count(b"x") for step in batch(events(LINES + 1, 1), *whole)[1]] == [LINES, 1]
    halves = [lines("accepted", "accepted"), lines("duplicate")]
    published, sent, _ = batch(events(3, 500_000), *halves)
    assert [len(step.body) for step in sent] == [1_000_001, 500_000]
    assert published[2].status == "duplicate", "it was not sent before"


def test_an_event_that_spoils_a_batch_gets_its_own_answer() -> None:
    too_large = '{"status":"too_large","error":"line 2 has more bytes"}'
    published, sent, waited = batch(
        events(4, 1),
        lines("accepted", code=413, last=too_large),
        lines("too_large", code=413),
        lines("accepted", "accepted"),
    )
    assert [one.status for one in published] == ["accepted", "too_large", "accepted", "accepted"]
    assert [step.body.count(b"x") for step in sent] == [4, 1, 2]
    assert waited == []


def test_known_outcomes_of_a_batch_are_in_the_error() -> None:
    conversation = publish_all(events(2), patience(0.5), redeliver=False)
    with pytest.raises(PublishInDoubt) as doubt:
        hold(conversation, [lines("accepted", code=503), Reply(503, b"", "1")])
    assert [one.event_id for one in doubt.value.published] == ["e0"]
    assert doubt.value.event_ids == ("e1",)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 9_000, b'{"status": 7}', b'{"line":0,"status":"accepted"}'])
def test_hostile_answers_are_no_outcomes(body: bytes) -> None:
    with pytest.raises(PublishRejected):
        batch(events(2), Reply(200, body))


class Order(msgspec.Struct):
    sku: str


class Model(pydantic.BaseModel):
    sku: str


def test_events_are_written_as_one_line_with_an_id() -> None:
    ids = iter("ab")
    written = [outgoing({"payload": payload}, lambda: next(ids)) for payload in (Order("x\ny"), Model(sku="m"))]
    assert written == [
        Outgoing("a", b'{"payload":{"sku":"x\\ny"},"event_id":"a"}'),
        Outgoing("b", b'{"payload":{"sku":"m"},"event_id":"b"}'),
    ]
    with pytest.raises(TypeError, match="cannot hold an object of type object"):
        outgoing({"payload": object()}, lambda: "c")


async def test_a_token_is_sent_with_each_request() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"status":"accepted"}'
        writer.write(b"HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Publisher(url, token="t0ken", headers={"X-Shop": "1"}) as publisher:
            assert (await publisher.publish(1)).status == "accepted"
    assert b"\r\nAuthorization: Bearer t0ken\r\n" in heads[0]
    assert b"\r\nX-Shop: 1\r\n" in heads[0]
