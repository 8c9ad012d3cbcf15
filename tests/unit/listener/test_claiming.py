"""Claiming when the table cannot be asked: claims that were won fill all room, and must not be waited for."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from listener.claims.desk import Desk
from listener.claims.port import Answer, Ask, Dead, Done, Won
from listener.errors import Transient
from listener.pipeline.claiming import Claiming
from listener.pipeline.inbox import Inbox
from listener.pipeline.intake import Clocks
from listener.pipeline.passage import Passage
from listener.pipeline.policy import Policy
from listener.pipeline.turns import Turns

POLICY = Policy()


class Room:
    """As much of the desk as claiming asks: what it grants is held, and nobody ends it."""

    open = True

    def __init__(self) -> None:
        self.ids: set[str] = set()

    @property
    def held(self) -> int:
        return len(self.ids)

    async def wait_open(self) -> None:
        """Always open."""

    async def wait_below(self, limit: int) -> None:
        if len(self.ids) >= limit:
            await asyncio.Event().wait()

    async def claim(self, asks: Sequence[Ask], **_: bool) -> list[Answer]:
        self.ids |= {ask.event_id for ask in asks}
        return [Won(1, 0) for _ in asks]


class Watch:
    """Of the outages."""

    async def counts(self, *_: object) -> bool:
        return True


class Table:
    """Away for the first question."""

    def __init__(self) -> None:
        self.asked = 0

    async def settled(self, asks: Sequence[Ask]) -> dict[str, Done | Dead]:
        self.asked += 1
        if self.asked == 1:
            raise Transient("PostgreSQL is away")
        return {}


class Work:
    """Keeps what was begun."""

    handled = True
    must_look_before = True

    def __init__(self, enough: int) -> None:
        self.begun: list[Any] = []
        self.enough = asyncio.Event()
        self._count = enough

    def start_all(self, passages: Sequence[Any]) -> None:
        self.begun += passages
        if len(self.begun) >= self._count:
            self.enough.set()


class Ends:
    """Hears of events, and does nothing."""

    def tell_received(self) -> None:
        """Nothing is told."""

    def done(self, ended: Sequence[object]) -> None:
        """Nothing ends here."""


class Event:
    """A passage, as far as claiming looks at one."""

    doom = None
    revive = of_peer = False
    takeovers = epoch = 0

    def __init__(self, event_id: str) -> None:
        self.event_id = self.claim_id = event_id
        self.event = self
        self.ask = Ask(event_id, b"")


async def test_a_batch_that_fills_all_room_begins_once_the_table_answers_again():
    full = POLICY.claims_wait_below(handled=True)
    work, desk, inbox = Work(full), Room(), cast("Inbox[Passage]", Inbox())
    inbox.put_all(cast("list[Passage]", [Event(f"e{number}") for number in range(full)]))
    claiming = Claiming(
        inbox=inbox, turns=Turns(inbox, peer_wait=0),
        desk=cast("Desk", desk), intake=cast("Any", Ends()),
        store=cast("Any", Table()), watch=cast("Any", Watch()), work=cast("Any", work), settling=cast("Any", Ends()),
        policy=POLICY, clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    running = asyncio.create_task(claiming.run())
    async with asyncio.timeout(20):
        await work.enough.wait()
    running.cancel()
    await asyncio.wait([running])
    assert [one.event_id for one in work.begun] == [f"e{number}" for number in range(full)]
