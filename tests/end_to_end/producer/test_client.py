"""``Publisher`` and ``SyncPublisher`` with a real producer, also where answers are lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.trace import TracerProvider
from websockets.asyncio.client import connect

from tests.end_to_end.producer.conftest import RunningProducer
from unlost import PublishConflict, Publisher, PublishInDoubt, PublishUnavailable, SyncPublisher


def listed(producer: RunningProducer) -> list[str]:
    return [json.loads(line)["event_id"] for line in producer.http.get("/api/journal").text.splitlines()]


@asynccontextmanager
async def swallowing_answers(producer: RunningProducer, count: int) -> AsyncIterator[str]:
    """Passes requests on, and closes this many connections once the answer has come, without a byte of it."""
    left, ended, begun = [count], list[int](), list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(1)
        there, to = await asyncio.open_connection(urlsplit(producer.url).hostname, urlsplit(producer.url).port)

        async def up() -> None:
            while data := await reader.read(65_536):
                to.write(data)

        passing = asyncio.create_task(up())
        while data := await there.read(65_536):
            if left[0]:
                left[0] -= 1
                break
            writer.write(data)
        passing.cancel()
        for one in (writer, to):
            one.close()
            with suppress(ConnectionError):
                await one.wait_closed()
        ended.append(1)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        async with asyncio.timeout(10):
            while len(ended) < len(begun):  # noqa: ASYNC110  a connection's end is not signalled
                await asyncio.sleep(0.01)


async def test_an_asynchronous_publisher(producer: RunningProducer) -> None:
    async with Publisher(producer.url) as publisher:
        first = await publisher.publish({"total": 1}, event_id="a", type="order.created", fields={"region": "eu"})
        assert (first.status, first.event_id) == ("accepted", "a")
        assert (
            await publisher.publish({"total": 1}, event_id="a", type="order.created", fields={"region": "eu"})
        ).status == ("duplicate")
        with pytest.raises(PublishConflict):
            await publisher.publish({"total": 2}, event_id="a")
        again = await publisher.publish(
            {"total": 1}, event_id="a", type="order.created", fields={"region": "eu"}, redeliver=True
        )
        assert again.status == "redelivered"
        made = await publisher.publish([1, 2])
        many = await publisher.publish_batch({"event_id": f"b{number}", "payload": number} for number in range(2_500))
        assert {one.status for one in many} == {"accepted"}
        assert [one.event_id for one in many] == [f"b{number}" for number in range(2_500)]
        at_once = await asyncio.gather(*(publisher.publish(number, event_id=f"c{number}") for number in range(200)))
        assert {one.status for one in at_once} == {"accepted"}
    assert listed(producer)[:3] == ["a", "a", made.event_id]


def test_a_publisher_that_blocks(producer: RunningProducer) -> None:
    with SyncPublisher(producer.url) as publisher:
        assert publisher.publish(1, event_id="a").status == "accepted"
        assert [one.status for one in publisher.publish_batch([{"event_id": "a", "payload": 1}, {"payload": 2}])] == [
            "duplicate",
            "accepted",
        ]


async def test_a_lost_answer_doubles_nothing(producer: RunningProducer) -> None:
    async with swallowing_answers(producer, 2) as url, Publisher(url) as publisher:
        assert (await publisher.publish(1, event_id="a")).status == "accepted"
        assert [one.status for one in await publisher.publish_batch([{"event_id": "b", "payload": 1}])] == ["accepted"]
    assert listed(producer) == ["a", "b"]


async def test_a_producer_that_is_away_is_waited_for_and_then_named(producer: RunningProducer) -> None:
    async with Publisher(producer.url, timeout=0.3) as impatient, Publisher(producer.url) as publisher:
        producer.end()
        with pytest.raises(PublishUnavailable) as away:
            await impatient.publish(1, event_id="a")
        assert not isinstance(away.value, PublishInDoubt)
        publishing = asyncio.create_task(publisher.publish(1, event_id="a"))
        producer.settings["PORT"] = str(urlsplit(producer.url).port)
        await asyncio.to_thread(producer.start)
        assert (await publishing).status == "accepted"


async def test_events_carry_the_span_in_which_they_are_published(producer: RunningProducer) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("shop")
    with tracer.start_as_current_span("order") as span:
        async with Publisher(producer.url, trace=True) as publisher:
            await publisher.publish(1, event_id="a")
            await publisher.publish(1, event_id="own", fields={"traceparent": "mine"})
        with SyncPublisher(producer.url, trace=True) as blocking:
            blocking.publish_batch([{"event_id": "b", "payload": 1}])
            list(blocking.stream([{"event_id": "c", "payload": 1}]))
    async with Publisher(producer.url, trace=True) as publisher:
        await publisher.publish(1, event_id="outside of a span")
    async with connect(f"{producer.stream}?after=0", proxy=None) as stream, asyncio.timeout(10):
        events = [json.loads(await stream.recv()) for _ in range(5)]
    found = {one["event_id"]: one.get("traceparent") for one in events}
    here = span.get_span_context()
    parent = f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}"
    assert found == {"a": parent, "own": "mine", "b": parent, "c": parent, "outside of a span": None}
