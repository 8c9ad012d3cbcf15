"""Handling: the user's code, bounded in time, attempts and number, and what each form of handler means for the row."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from listener.attempts import attempts
from listener.claims.desk import Desk
from listener.delivery import Delivery
from listener.errors import Permanent, Transient, failure_of
from listener.event import decode
from listener.facts import AttemptFailed, Facts, HandlerRan
from listener.handlers import Handler, attempt
from listener.pipeline.intake import Clocks
from listener.pipeline.passage import Doom, Passage
from listener.pipeline.policy import Policy
from listener.pipeline.settling import Settling
from listener.pipeline.storing import Storing
from listener.store import events as rows
from listener.store.database import Connection
from listener.store.port import Rows

MAY_RUN_PAUSE_SECONDS = 0.05
STOP_SECONDS = 1.0
"""How long a cancelled handler may take to clean up."""


class Recording:
    """No handler: a claimed event goes straight to its row."""

    handled = False
    must_look_before = False

    def __init__(self, storing: Storing) -> None:
        self._storing = storing

    def start_all(self, passages: Sequence[Passage]) -> None:
        """Insert them."""
        self._storing.put_all(passages)

    async def idle_of_suspects(self) -> None:
        """Nothing of the user's runs."""

    async def run(self) -> None:
        """Insert until cancelled."""
        await self._storing.run()

    async def stop(self, *, begun: bool) -> list[str]:  # noqa: ARG002
        """Inserts under way are not stopped: the primary key fences them."""
        return []

    def lose(self, passage: Passage) -> bool:  # noqa: ARG002
        """An insert under way is not stopped: the primary key fences it."""
        return False


class Handling:
    """A handler of either form. One task an event; attempts share ``handle_concurrency`` slots."""

    handled = True

    def __init__(
        self,
        *,
        handler: Handler,
        desk: Desk,
        store: Rows,
        storing: Storing,
        settling: Settling,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self.must_look_before = handler.form == "plain"
        self._handler = handler
        self._desk = desk
        self._store = store
        self._storing = storing
        self._settling = settling
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self._slots = asyncio.Semaphore(policy.handle_concurrency)
        self._lanes = Lanes()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._suspects: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self.on_claim_lost: Callable[[Passage], None] = lambda _: None

    async def run(self) -> None:
        """Handle until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._storing.run()

    def start_all(self, passages: Sequence[Passage]) -> None:
        """Begin the attempts, each event's in a task of its own."""
        for passage in passages:
            self._start(passage)

    def _start(self, passage: Passage) -> None:
        assert self._tasks is not None, "run() must be running"
        claim_id = passage.claim_id  # a conflict gives the passage another one
        task = self._tasks.create_task(self._handle(passage), name=f"handle {claim_id[:64]}")
        self._running[claim_id] = task
        task.add_done_callback(lambda done: self._forget(claim_id, done))
        if passage.takeovers:
            self._suspects.add(task)
            task.add_done_callback(self._suspects.discard)

    def _forget(self, claim_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(claim_id) is task:
            del self._running[claim_id]
            self._begun.discard(claim_id)

    async def idle_of_suspects(self) -> None:
        """Return when no taken-over event is at work, those included whose task has not had its first turn yet."""
        while self._suspects:
            await asyncio.wait(self._suspects)

    async def stop(self, *, begun: bool) -> list[str]:
        """Cancel handlers, and wait until they have ended: only then may their claims be given back."""
        stopping = {id_: task for id_, task in self._running.items() if begun or id_ not in self._begun}
        for task in stopping.values():
            task.cancel()
        if stopping:
            await asyncio.wait(stopping.values(), timeout=STOP_SECONDS)
        return [claim_id for claim_id, task in stopping.items() if task.done()]

    def lose(self, passage: Passage) -> bool:
        """Cancel the handler of an event whose claim is lost."""
        task = self._running.pop(passage.claim_id, None)
        self._begun.discard(passage.claim_id)
        return task is not None and task.cancel()

    async def _handle(self, passage: Passage) -> None:
        lane = self._lanes.suspect() if passage.takeovers else self._lanes.fresh()
        try:
            async with lane:
                await self._attempts(passage)
                if passage.takeovers:
                    await self._until_settled(passage)
        except Permanent as error:
            self._failed(passage, error, retried=False)
            self._settling.bury(passage, Doom("rejected", "handle"))
        except Transient:
            await self._storing.give_up([passage], "handle")
        except _ClaimLost:
            self.on_claim_lost(passage)

    async def _until_settled(self, passage: Passage) -> None:
        """If the next suspect kills this process, one whose row is on its way would count one owner more."""
        self._running.pop(passage.claim_id, None)  # it is storing's now: losing the claim sends it nowhere else
        self._begun.discard(passage.claim_id)
        await self._desk.wait_gone(passage.claim_id)

    async def _attempts(self, passage: Passage) -> None:
        await attempts(
            lambda number: self._one_attempt(passage, number),
            count=self._policy.handle_attempts,
            delay=self._policy.handle_delay,
            failed=lambda error, retried: self._failed(passage, error, retried=retried),
        )

    async def _one_attempt(self, passage: Passage, number: int) -> None:
        async with self._slots:
            await self._wait_until_it_may_run(passage)
            self._begun.add(passage.claim_id)
            delivery = _delivery(passage, number)
            if self._handler.form == "plain":
                await self._timed(passage, self._handler.call(delivery))
                self._storing.put_all((passage,))
            else:
                await self._in_transaction(passage, delivery)

    async def _in_transaction(self, passage: Passage, delivery: Delivery) -> None:
        async def work(connection: Connection) -> None:
            self._check_held(passage)  # the insert may have waited long for another's transaction
            await self._timed(passage, self._handler.call(delivery, connection))
            self._check_held(passage)  # woken after the lease: an heir may be at it, or have buried it

        row = rows.NewRow(
            event=passage.event,
            epoch=passage.epoch,
            attempts=len(passage.attempts) + 1,
            received_at=passage.received_at,
        )
        await self._storing.stored([passage], [await self._store.insert_with(row, work)])

    async def _wait_until_it_may_run(self, passage: Passage) -> None:
        """Claims must meet: the last look before the user's code runs."""
        while not self._desk.may_run(passage.claim_id):
            self._check_held(passage)
            await asyncio.sleep(MAY_RUN_PAUSE_SECONDS)

    def _check_held(self, passage: Passage) -> None:
        if not self._desk.is_held(passage.claim_id):
            raise _ClaimLost

    async def _timed(self, passage: Passage, work: Awaitable[None]) -> None:
        started = self._clocks.monotonic()
        succeeded = False
        try:
            await attempt(work, timeout=self._policy.handle_timeout)
            succeeded = True
        finally:
            seconds = self._clocks.monotonic() - started
            self._facts(HandlerRan(passage.event.event_id, seconds, succeeded))

    def _failed(self, passage: Passage, error: Transient | Permanent, *, retried: bool) -> None:
        failure = failure_of(error, stage="handle", at=self._clocks.now())
        passage.attempts.append(failure)
        self._facts(AttemptFailed("handle", failure.error_class, failure.message, retried, 1, passage.event.event_id))


def _delivery(passage: Passage, number: int) -> Delivery:
    event = passage.event
    other = decode(event.other) if event.other else {}
    return Delivery(event.event_id, event.type, decode(event.payload), other, number, passage.epoch)


class _ClaimLost(Exception):
    """Found out here, not told by ``lose``: the event goes back to stand by."""


class Lanes:
    """Fresh events run together; a suspect runs alone, and those that come meanwhile wait for it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._fresh = 0
        self._suspects = 0
        self._alone = False

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[None]:
        """Run beside other fresh events."""
        while self._suspects:
            await self._change()
        self._fresh += 1
        try:
            yield
        finally:
            self._fresh -= 1
            self._changed.set()

    @contextlib.asynccontextmanager
    async def suspect(self) -> AsyncIterator[None]:
        """Run alone."""
        self._suspects += 1
        try:
            while self._alone or self._fresh:
                await self._change()
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
        finally:
            self._suspects -= 1
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
