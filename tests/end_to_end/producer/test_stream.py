"""Reading the stream of a real producer."""

import asyncio
import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.end_to_end.producer.conftest import RunningProducer
from unlost.listener.source.stream.lines import batch_of
from unlost.listener.source.stream.partitions import Arrivals
from unlost.ops.system.layout import executable
from unlost.producer.journal.groups import Group
from unlost.producer.journal.sqlite import groups


def publish(producer: RunningProducer, *ids: str) -> list[str]:
    body = "\n".join(json.dumps({"event_id": one, "payload": {"of": one}}) for one in ids)
    answer = producer.http.post("/publish/batch", content=body)
    return [json.loads(line)["cursor"] for line in answer.text.splitlines()]


def reading(producer: RunningProducer, after: str | None = None, **options: Any) -> connect:
    url = producer.stream if after is None else f"{producer.stream}?after={after}"
    return connect(url, proxy=None, compression=None, **options)


async def ids_of(client: ClientConnection, count: int) -> list[str]:
    return [json.loads(await client.recv())["event_id"] for _ in range(count)]


async def test_live_from_now_as_plain_objects_with_their_cursor(producer: RunningProducer) -> None:
    (before,) = publish(producer, "before")
    async with reading(producer) as client:
        assert client.response.headers["unlost-cursor"] == before
        (cursor,) = await asyncio.to_thread(publish, producer, "now")
        assert json.loads(await client.recv()) == {"event_id": "now", "payload": {"of": "now"}, "cursor": cursor}


async def test_catches_up_and_goes_on_live_with_any_number_of_clients(producer: RunningProducer) -> None:
    ids = [f"e{number}" for number in range(3_000)]
    cursors = await asyncio.to_thread(publish, producer, *ids)

    async def read(number: int) -> None:
        async with reading(producer, cursors[number]) as client:
            assert client.response.headers["unlost-cursor"] == cursors[number]
            assert await ids_of(client, 2_999 - number + 1) == [*ids[number + 1 :], "live"]

    readers = asyncio.gather(*(read(number * 100) for number in range(10)))
    await asyncio.to_thread(publish, producer, "live")
    await readers


async def test_a_restarted_producer_catches_a_client_up_from_disk(producer: RunningProducer) -> None:
    cursors = publish(producer, "a", "b", "c")
    producer.end(kill=True)
    producer.start()
    async with reading(producer, cursors[0]) as client:
        assert await ids_of(client, 2) == ["b", "c"]
        assert "unlost-gap" not in client.response.headers


@pytest.mark.parametrize("unknown", ["0123456789ab.1", "nonsense", "", "%0d%0aset-cookie:x"])
async def test_an_unknown_cursor_starts_at_the_oldest_and_says_so(producer: RunningProducer, unknown: str) -> None:
    publish(producer, "a", "b")
    async with reading(producer, unknown) as client:
        headers = client.response.headers
        assert "unlost-gap" in headers
        assert "set-cookie" not in headers
        assert headers["unlost-cursor"] == headers["unlost-oldest"]
        assert await ids_of(client, 2) == ["a", "b"]


async def test_a_wiped_journal_does_not_know_the_cursors_of_the_old_one(producer: RunningProducer) -> None:
    (_, old) = publish(producer, "a", "b")
    producer.end()
    for file in producer.journal.parent.glob("journal.sqlite*"):
        file.unlink()
    producer.start()
    publish(producer, "c", "d")
    async with reading(producer, old) as client:
        assert client.response.headers["unlost-gap"] == old
        assert await ids_of(client, 2) == ["c", "d"]


async def test_a_slow_client_harms_nobody_and_gets_all_in_the_end(producer: RunningProducer) -> None:
    filler = "x" * 20_000
    body = "\n".join(json.dumps({"event_id": f"e{number}", "payload": filler}) for number in range(2_500))
    async with reading(producer, max_queue=1) as slow, reading(producer) as quick:
        await asyncio.to_thread(producer.http.post, "/publish/batch", content=body)
        expected = [f"e{number}" for number in range(2_500)]
        assert await ids_of(quick, 2_500) == expected
        assert await ids_of(slow, 2_500) == expected


async def test_a_client_that_does_not_read_is_not_written_to_without_end(producer: RunningProducer) -> None:
    def lag() -> float:
        shown = producer.http.get("/metrics").text
        found = re.search(r"^unlost_producer_stream_lag_entries (\S+)$", shown, re.MULTILINE)
        assert found is not None
        return float(found[1])

    filler, count = "x" * 60_000, 0
    async with reading(producer, max_queue=1) as slow:
        while await asyncio.to_thread(lag) < 5:  # until the buffers on both sides are full
            assert count < 1_000
            for _ in range(10):
                event = {"event_id": f"e{count}", "payload": filler}
                assert (await asyncio.to_thread(producer.http.post, "/publish", json=event)).status_code == 202
                count += 1
        assert await ids_of(slow, count) == [f"e{number}" for number in range(count)]


async def test_clients_that_talk_are_ignored_and_bounded(producer: RunningProducer) -> None:
    async with reading(producer) as client:
        await client.send("hello")
        await asyncio.to_thread(publish, producer, "a")
        assert await ids_of(client, 1) == ["a"]
        await client.send("x" * 10_000)
        with pytest.raises(ConnectionClosed):
            await client.recv()


@pytest.mark.parametrize("producer", [{"MAX_CLIENTS": "1"}], indirect=True)
async def test_bounds_its_clients_and_forgets_those_that_left(producer: RunningProducer) -> None:
    for _ in range(3):
        await asyncio.to_thread(producer.http.get, producer.stream.replace("ws://", "http://"))
    async with reading(producer) as client:
        with pytest.raises(InvalidStatus) as refusal:
            await reading(producer)
        assert refusal.value.response.status_code == 503
        await client.close()
    while (await asyncio.to_thread(producer.http.get, "/health")).json()["clients"]:
        continue
    async with reading(producer):
        pass


async def test_pages_of_other_sites_may_not_read(producer: RunningProducer) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await reading(producer, origin="https://evil.example")
    assert refusal.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refusal:
        await reading(producer, origin="http://127.0.0.1:1")
    assert refusal.value.response.status_code == 403
    async with reading(producer, origin=producer.stream.replace("ws://", "http://").rstrip("/")):
        pass


async def test_an_orderly_end_says_goodbye_with_1001(producer: RunningProducer) -> None:
    async with reading(producer) as client:
        assert await asyncio.to_thread(producer.end) == 0
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd.code == 1001


async def test_a_journal_restored_from_its_backup_announces_the_gap(producer: RunningProducer) -> None:
    publish(producer, "a", "b")
    backup = producer.journal.with_name("backup")
    with closing(sqlite3.connect(producer.journal)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    (_, lost) = publish(producer, "lost-1", "lost-2")
    producer.end(kill=True)
    for file in producer.journal.parent.glob("journal.sqlite*"):
        file.unlink()
    backup.rename(producer.journal)
    producer.start()
    new = publish(producer, "c", "d", "e")
    async with reading(producer, lost) as client:
        assert client.response.headers["unlost-gap"] == lost
        assert await ids_of(client, 3) == ["c", "d", "e"]
    async with reading(producer, new[0]) as client:
        assert "unlost-gap" not in client.response.headers
        assert await ids_of(client, 2) == ["d", "e"]


async def test_a_damaged_entry_is_reported_and_never_sent_and_the_stream_goes_on(producer: RunningProducer) -> None:
    cursors = publish(producer, "a", "bad", "c", "d")
    producer.end()
    with closing(sqlite3.connect(producer.journal, isolation_level=None)) as file:
        (body,) = file.execute("select body from entries where event_id = 'bad'").fetchone()
        file.execute("update entries set body = ? where event_id = 'bad'", (body.replace(b'"of"', b'"oF"'),))
    producer.start()
    assert "unlost_producer_journal_damaged_entries 0.0" in producer.http.get("/metrics").text
    for after, ids in ((cursors[0], ["c", "d", "new"]), (cursors[1], ["c", "d", "new"]), (cursors[2], ["d", "new"])):
        async with reading(producer, after) as client:
            assert await ids_of(client, len(ids) - 1) == ids[:-1]
            await asyncio.to_thread(
                producer.http.post, "/publish?redeliver=true", json={"event_id": "new", "payload": 1}
            )
            assert await ids_of(client, 1) == ids[-1:]
        cursors = [one["cursor"] for one in listed(producer)]
    health = producer.http.get("/health")
    assert (health.status_code, len(health.json()["remarks"])) == (200, 1)
    assert "number 2 (event bad)" in health.json()["remarks"][0]
    assert "unlost_producer_journal_damaged_entries 1.0" in producer.http.get("/metrics").text
    assert [one["state"] for one in listed(producer)][:4] == ["whole", "damaged", "whole", "whole"]


async def test_a_client_that_asks_for_lines_gets_the_same_events(producer: RunningProducer) -> None:
    """Also after a restart, beside a damaged entry, and live."""
    (before,) = publish(producer, "before")
    publish(producer, *(f"a{number}" for number in range(700)))
    producer.end()
    with closing(sqlite3.connect(producer.journal, isolation_level=None)) as file:
        file.execute("update entries set digest = x'00' where event_id = 'a300'")
    producer.start()
    publish(producer, *(f"b{number}" for number in range(3)))
    wanted = {"unlost-accept": "lines"}
    async with reading(producer, before) as plain, reading(producer, before, additional_headers=wanted) as client:
        assert (plain.response.headers.get("unlost-format"), client.response.headers["unlost-format"]) == (
            None,
            "lines",
        )
        await asyncio.to_thread(publish, producer, "live", "last")
        events: list[dict[str, object]] = []
        while not events or events[-1]["event_id"] != "last":
            events.append(json.loads(await plain.recv()))
        found: list[dict[str, object]] = []
        messages = 0
        while len(found) < len(events):
            batch = batch_of([await client.recv(decode=False)])
            found += [json.loads(body) | {"cursor": one} for body, one in zip(batch.bodies, batch.cursors, strict=True)]
            messages += 1
        assert found == events
        assert "a300" not in {one["event_id"] for one in events}
        assert messages <= 8, "many events in one message"


async def test_clients_of_partitions_get_their_events_and_learn_how_far_they_are(producer: RunningProducer) -> None:
    """From the journal and live, and also those whose partitions stand still."""
    (before,) = publish(producer, "before")
    publish(producer, *(f"a{number}" for number in range(700)))
    shares = [frozenset(range(at, 64, 2)) for at in range(2)]
    asked = [f"{before}&partitions={','.join(map(str, share))}/64" for share in shares]
    async with reading(producer, before) as plain, reading(producer, asked[0]) as a, reading(producer, asked[1]) as b:
        assert a.response.headers["unlost-format"] == "partitions"
        last = (await asyncio.to_thread(publish, producer, "live", "last"))[-1]
        wanted = [json.loads(await plain.recv()) for _ in range(702)]
        found: list[dict[str, object]] = []
        for client, share in zip((a, b), shares, strict=True):
            arrivals = Arrivals(share)
            while arrivals.cursor != last:
                arrived = arrivals.read([await client.recv(decode=False)])
                found += [json.loads(one.body) | {"cursor": one.cursor} for one in arrived]
        assert sorted(map(str, found)) == sorted(map(str, wanted))
    async with reading(producer, f"{last}&partitions=/64") as nobody:
        (newest,) = await asyncio.to_thread(publish, producer, "newest")
        arrivals = Arrivals(())
        assert arrivals.read([await nobody.recv(decode=False)]) == []
        assert arrivals.cursor == newest


async def test_what_is_no_share_is_refused(producer: RunningProducer) -> None:
    (before,) = publish(producer, "before")
    with pytest.raises(InvalidStatus) as refused:
        async with reading(producer, f"{before}&partitions=64/64"):
            pass
    assert refused.value.response.status_code == 400
    assert b"numbers below their count" in refused.value.response.body


def listed(producer: RunningProducer) -> list[dict]:
    return [json.loads(line) for line in producer.http.get("/api/journal").text.splitlines()]


FULL = {"MAX_JOURNAL_BYTES": str(1024 * 1024)}


def fill(producer: RunningProducer, count: int, first: int = 0) -> httpx.Response:
    filler = "x" * 10_000
    lines = [json.dumps({"event_id": f"e{number}", "payload": filler}) for number in range(first, first + count)]
    return producer.http.post("/publish/batch", content="\n".join(lines))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  another process reports no facts
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("producer", [FULL], indirect=True)
async def test_a_journal_full_of_unread_entries_refuses_publishing(producer: RunningProducer) -> None:
    def groups() -> dict:
        return producer.http.get("/api/journal/groups").json()

    async with reading(producer) as client:
        await client.send("no report")
        await client.send(json.dumps({"group": "unlost", "settled": client.response.headers["unlost-oldest"]}))
        await until(lambda: bool(groups()["groups"]))
    await asyncio.to_thread(fill, producer, 150)
    await until(lambda: producer.http.get("/health/ready").status_code == 503)
    health = (await asyncio.to_thread(producer.http.get, "/health")).json()
    assert health["checks"]["room"] is False
    assert "journal full: group unlost has not read 150 events" in health["reasons"][0]
    for refused in (
        await asyncio.to_thread(producer.http.post, "/publish", json={"event_id": "one more", "payload": 1}),
        await asyncio.to_thread(fill, producer, 3, 150),
    ):
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "journal full: group unlost has not read" in refused.text
    assert 'unlost_producer_group_unread_entries{group="unlost"} 150.0' in producer.http.get("/metrics").text
    oldest = groups()["oldest"]
    async with reading(producer, oldest) as client:
        assert "unlost-gap" not in client.response.headers
        frames = [json.loads(await client.recv()) for _ in range(150)]
        assert [one["event_id"] for one in frames] == [f"e{number}" for number in range(150)]
        await client.send(json.dumps({"group": "unlost", "settled": frames[99]["cursor"]}))
        await until(lambda: producer.http.get("/health/ready").status_code == 200)
    assert (await asyncio.to_thread(fill, producer, 3, 150)).status_code == 200
    reported = groups()
    assert (reported["dropped_unread"], reported["groups"][0]["group"], reported["groups"][0]["unread"]) == (
        0,
        "unlost",
        53,
    )


@pytest.mark.parametrize("producer", [FULL], indirect=True)
async def test_a_group_is_forgotten_while_the_producer_runs(producer: RunningProducer) -> None:
    async with reading(producer) as client:
        await client.send(json.dumps({"group": "old"}))
        await until(lambda: bool(producer.http.get("/api/journal/groups").json()["groups"]))
    await asyncio.to_thread(fill, producer, 150)
    await until(lambda: producer.http.get("/health/ready").status_code == 503)

    def ops(*arguments: str) -> subprocess.CompletedProcess[str]:
        run = [str(executable("unlost")), "journal", *arguments]
        return subprocess.run(
            [*run, "--journal", str(producer.journal)], capture_output=True, text=True, timeout=30, check=False
        )

    with closing(sqlite3.connect(producer.journal)) as file, file:
        for name in ("old@0000000a", "two@0000000a", "two@0000000b", "plain", "plain@0000000a"):
            groups.remember(file, [Group(name, 0, 0.0)])
    assert "name one of these: " in (await asyncio.to_thread(ops, "forget", "two")).stderr
    for name in ("two@0000000a", "two", "old@0000000a", "plain", "plain"):
        assert f"group {name}" in (await asyncio.to_thread(ops, "forget", name)).stdout
    listed = await asyncio.to_thread(ops, "groups")
    assert listed.returncode == 0
    assert "old  150 unread" in listed.stdout
    too_early = await asyncio.to_thread(ops, "forget", "old")
    assert too_early.returncode == 2
    assert "would be known again at once" in too_early.stderr
    with closing(sqlite3.connect(producer.journal, isolation_level=None)) as file:
        file.execute("update groups set at = at - 100")
    assert (await asyncio.to_thread(ops, "forget", "old")).returncode == 0
    await until(lambda: producer.http.get("/health/ready").status_code == 200)
    reported = producer.http.get("/api/journal/groups").json()
    assert reported["dropped_unread"] > 40
    assert (reported["groups"][0]["forgotten"], reported["groups"][0]["dropped_unread"]) == (
        True,
        reported["dropped_unread"],
    )
    assert (await asyncio.to_thread(ops, "forget", "old")).returncode == 2


async def test_a_stream_of_reports_is_bounded(producer: RunningProducer) -> None:
    async with reading(producer) as client:
        for number in range(70):
            await client.send(json.dumps({"group": f"g{number}"}))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd.code == 1013
    assert "64 groups are known already" in closed.value.rcvd.reason
    assert len((await asyncio.to_thread(producer.http.get, "/api/journal/groups")).json()["groups"]) == 64
