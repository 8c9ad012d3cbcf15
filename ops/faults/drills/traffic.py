"""A steady stream: publishes events one by one at a rate, each until it is answered, and records when that was.

An event counts as published when the producer has answered 202, or 409 to a repetition whose first response was lost.
It is never sent again after that, so the drill detects a producer that loses acknowledged events.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx

from unlost.ops.faults.drills.drill import Poison

ACCEPTED = (202, 409)
SENDERS = 24
AGAIN = 0.1
ANSWER_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """The events to publish, and their rate. ``until_healed``: the stream ends soon after the healing."""

    prefix: str
    events: int
    rate: float
    poison: Poison | None = None
    until_healed: bool = False
    keys: int = 0
    """How many keys the events have. Those of one key are published one after another; 0: events have no key."""

    def key_of(self, number: int) -> int:
        """The key of the event with this number."""
        return number % self.keys

    def places(self, event_ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """The key of each of these events, and the event's number in it."""
        numbers = {event_id: int(event_id.removeprefix(self.prefix)) for event_id in event_ids}
        return {event_id: (f"k{self.key_of(number)}", number) for event_id, number in numbers.items()}

    def event(self, number: int) -> dict[str, object]:
        """The event with this number."""
        behaviour = self.poison.what if self.poison and self.poison.is_in(number, self.events) else None
        payload: dict[str, object] = {"number": number} | ({"drill": behaviour} if behaviour else {})
        if self.keys:
            payload["key"] = f"k{self.key_of(number)}"
        return {"event_id": f"{self.prefix}{number}", "type": "drill", "payload": payload}


@dataclass(slots=True)
class PublishTimes:
    """When each event was accepted, by event id; ``refused`` keeps responses that no healthy producer gives.

    ``begun``: when it was sent for the first time.
    """

    accepted: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    done: bool = False


async def publish(
    stream: Traffic,
    producer_url: str,
    published: PublishTimes,
    *,
    headers: Mapping[str, str],
    ending: Callable[[], bool],
    stopping: Callable[[], bool],
) -> None:
    """Publish the stream, however long the producer is away. Once ``ending``, only sent requests are awaited."""
    shared: asyncio.Queue[int] = asyncio.Queue()
    # Events of one key have one sender, so that the producer accepts them in their order.
    waiting = [asyncio.Queue[int]() if stream.keys else shared for _ in range(SENDERS)]
    limits = httpx.Limits(max_connections=SENDERS, max_keepalive_connections=SENDERS)
    async with (
        httpx.AsyncClient(
            base_url=producer_url, timeout=ANSWER_WITHIN, limits=limits, trust_env=False, headers=headers
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        senders = [tasks.create_task(_send_for_ever(client, stream, one, published)) for one in waiting]
        due, started = 0, time.monotonic()
        while due < stream.events and not ending() and not stopping():
            pause = started + due / stream.rate - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            waiting[stream.key_of(due) % SENDERS if stream.keys else 0].put_nowait(due)
            due += 1
        while not stopping() and len(published.accepted) + len(published.refused) < due:
            if ending():
                due -= sum(map(_emptied, waiting))
            await asyncio.sleep(AGAIN)
        for sender in senders:
            sender.cancel()
    published.done = True


def _emptied(waiting: "asyncio.Queue[int]") -> int:
    """Drop events that no sender has taken yet; return how many."""
    count = waiting.qsize()
    for _ in range(count):
        waiting.get_nowait()
    return count


async def _send_for_ever(
    client: httpx.AsyncClient, stream: Traffic, waiting: "asyncio.Queue[int]", published: PublishTimes
) -> None:
    while True:
        event = stream.event(await waiting.get())
        published.begun[str(event["event_id"])] = time.time()
        while not await _send(client, event, published):  # noqa: ASYNC110  nothing signals that the producer is back
            await asyncio.sleep(AGAIN)


async def _send(client: httpx.AsyncClient, event: dict[str, object], published: PublishTimes) -> bool:
    """Try once; return whether there was a final response."""
    event_id = str(event["event_id"])
    try:
        response = await client.post("/publish", json=event)
    except httpx.TransportError:
        return False
    # A 409 with "conflict" means another content under this id; other 409s say that the event is already accepted.
    if response.status_code in ACCEPTED and "conflict" not in response.text:
        published.accepted[event_id] = time.time()
        return True
    if response.status_code >= 500:
        return False
    published.refused.append(f"{event_id}: {response.status_code} {response.text[:200]}")
    return True
