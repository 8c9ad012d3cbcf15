"""Listeners that read shares of our own stream: each event is stored once, whoever dies, reads all, or changes over."""

from collections.abc import Sequence
from typing import Any

from tests.end_to_end.faults.conftest import assert_law, frame
from tests.end_to_end.producer.conftest import RunningProducer, producer  # noqa: F401  a fixture
from tests.support.listeners import RunningListener, rows_of, running_listener, until_among
from unlost.listener.core.facts import EventsDuplicate, EventsStored, SourceConnected, SourceLost

ON: dict[str, Any] = {"partitions": "on"}
OFF: dict[str, Any] = {"partitions": "off"}


def publish(to: RunningProducer, name: str) -> set[str]:
    """Publish events in many partitions, and return their ids."""
    event_ids = [f"{name}{number}" for number in range(200)]
    to.http.post("/publish/batch", content="\n".join(map(frame, event_ids))).raise_for_status()
    return set(event_ids)


async def until_stored(event_ids: set[str], by: Sequence[RunningListener]) -> None:
    await until_among(by, lambda: event_ids <= {one for each in by for one in each.heard.ids(EventsStored)}, 60)


async def until_connected(listener: RunningListener, times: int = 1) -> None:
    await listener.heard.until(lambda h: len(h.of(SourceConnected)) >= times, 30)


async def test_shares_move_when_listeners_join_and_die(
    servers: dict[str, Any],
    producer: RunningProducer,  # noqa: F811
) -> None:
    async with running_listener(ws_url=producer.stream, **servers, **ON) as a:
        await until_connected(a)
        wanted = publish(producer, "alone")
        await until_stored(wanted, [a])
        async with running_listener(ws_url=producer.stream, instance_id="b", **servers, **ON) as b:
            await until_connected(b)
            await until_connected(a, 2)
            assert not a.heard.of(SourceLost), "the session ended as planned"
            wanted |= publish(producer, "both")
            await until_stored(wanted, [a, b])
            assert b.heard.ids(EventsStored)
            wanted |= publish(producer, "dies")
            await b.crash()
            wanted |= publish(producer, "left")
            theirs = set(b.heard.ids(EventsStored))
            # A row whose listener died before it could say so is a duplicate here.
            await a.heard.until(lambda h: wanted <= theirs | set(h.ids(EventsStored)) | set(h.ids(EventsDuplicate)), 60)
    assert_law(wanted, await rows_of(servers["database_url"]), [])


async def test_a_group_changes_over_and_back_while_events_come(
    servers: dict[str, Any],
    producer: RunningProducer,  # noqa: F811
) -> None:
    wanted = set[str]()
    for number, (first, second) in enumerate([(OFF, ON), (ON, OFF)]):
        async with running_listener(ws_url=producer.stream, **servers, **first) as a:
            await until_connected(a)
            wanted |= publish(producer, f"one{number}-")
            async with running_listener(ws_url=producer.stream, instance_id="b", **servers, **second) as b:
                await until_connected(b)
                wanted |= publish(producer, f"mixed{number}-")
                await a.stop()
                wanted |= publish(producer, f"other{number}-")
                new = {one for one in wanted if one.split("-")[0].endswith(str(number))}
                await until_stored(new, [a, b])
    assert_law(wanted, await rows_of(servers["database_url"]), [])
