"""An open feed: usually one connection, two while connections are replaced."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from unlost.listener.core.cursor import is_further
from unlost.listener.core.errors import UnlostError
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.feed.beating import beat, end_if_silent, watch
from unlost.listener.source.feed.connection import FeedConnection
from unlost.listener.source.feed.hook import Again, Beat, Keepalive, Missed, Stop
from unlost.listener.source.feed.losses import failed_code, stopped
from unlost.listener.source.feed.moves import Moves
from unlost.listener.source.feed.ready import PendingReceipt, ReadyQueue
from unlost.listener.source.feed.taking import Order, Taking, acknowledgement, counted_as, has_events, take_in

if TYPE_CHECKING:
    from unlost.listener.source.feed.source import FeedSource

CLOSE_SECONDS = 5.0


class FeedSession:
    """A ``Session``."""

    def __init__(self, source: "FeedSource") -> None:
        self.opening = Opened()
        self._source = source
        self._feed = source.feed
        self._ready = ReadyQueue()
        self._changed = asyncio.Event()
        self._connections: list[FeedConnection] = []
        self._stacks: dict[int, contextlib.AsyncExitStack] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._side: dict[int, dict[str, asyncio.Task[None]]] = {}
        self._loss: Loss | None = None
        self._moves = Moves(self._connections, self._connect_again, self._changed.set, source.moved_late)
        self._cursor: str | None = None
        """The last cursor that was read, or the one after which the feed was to continue."""
        self._stopped_by: Loss | None = None
        self._paused: Callable[[], bool] = lambda: False
        self._heard_at = asyncio.get_running_loop().time()
        self._last_sign = float("-inf")

    @property
    def last_sign(self) -> float:
        """When any connection showed its last sign of life, by the event loop's clock; -inf if none was open."""
        return max([self._last_sign, *(connection.heard_at for connection in self._connections)])

    # -- Session --------------------------------------------------------------------------------

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``. A message is never divided."""
        while not self._ready:
            if self._loss is not None and not self._connections and not self._moves.active:
                raise SourceEnded(self._loss)
            self._changed.clear()
            await self._changed.wait()
        return self._ready.take(most, size)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``."""
        return self._ready.take(most, size) if self._ready else None

    async def run(self, paused: Callable[[], bool]) -> None:
        """See ``Session``. Watches for silence, and replaces connections before the feed ends them."""
        self._paused = paused
        async with asyncio.TaskGroup() as tasks:
            if self._feed.fresh is not None:
                watching = watch(self._feed.fresh, lambda: self._heard_at, self._is_idle, self._source.silent_for)
                tasks.create_task(watching, name="watch for silence")
            if self._feed.renew is not None:
                tasks.create_task(self._renew(self._feed.renew), name="renew connections")

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``."""
        for pending in receipts:
            assert isinstance(pending, PendingReceipt)
            pending.connection.unsettled = max(0, pending.connection.unsettled - 1)
            self._changed.set()
            with contextlib.suppress(SourceEnded):  # the feed sends its message again, and it is a duplicate then
                if (send := acknowledgement(self._feed, pending.value)) is not None:
                    await pending.connection.send(send.text)
                    self._source.counts.acknowledged += 1

    async def give_back(self) -> None:
        """See ``Session``. A feed takes nothing back: it sends again what is not acknowledged."""

    def abort(self) -> None:
        """See ``Session``."""
        self._moves.end()
        for connection in self._connections:
            connection.link.abort()

    def has_read(self, loss: Loss) -> bool:
        """Return whether events were read although no connection could be opened. ``take`` returns them first."""
        self._loss = loss
        return bool(self._ready)

    async def connect(self, after: str | None, again: Again | None = None) -> FeedConnection:
        """Open a connection, and begin to read it."""
        self._cursor = after
        stack = contextlib.AsyncExitStack()
        made: list[FeedConnection] = []
        try:
            connection = await self._source.dial(after, again, stack, made.append)
        except BaseException:
            for failed in made:
                await self._give_up(failed)
            await _closed(stack)
            raise
        connection.count = self._source.counting.begin()
        self._stacks[id(connection)] = stack
        self._connections.append(connection)
        self._beside(connection, "keepalive", connection.link.keep_alive(self._is_idle))
        if self._feed.beats_every is not None:
            self._beside(connection, "heartbeat", beat(connection, self._feed, self._feed.beats_every))
        self._start(self._read(connection), "feed")
        return connection

    async def close(self) -> None:
        """End everything. Messages that had arrived are kept for ``take_rest``, even those without room until now."""
        connections = list(self._connections)
        side = [task for tasks in self._side.values() for task in tasks.values()]
        tasks = [*self._tasks, *side, *self._moves.end()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)  # connections that were left just now
        for stack in self._stacks.values():
            await _closed(stack)
        self._stacks.clear()
        self._connections.clear()
        for connection in connections:
            await self._take_rest_of(connection)

    # -- reading --------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, connection: FeedConnection) -> None:
        """Read one connection to its end."""
        loss = Loss("the connection was left")
        try:
            loss = await self._read_to_the_end(connection)
            self._source.counting.end(connection.count)
        finally:
            self._left(connection, loss)

    async def _read_to_the_end(self, connection: FeedConnection) -> Loss:
        try:
            while True:
                messages = await self._next(connection)
                sends = [send for message in messages for send in self._take_in(connection, message)]
                self._changed.set()
                await self._answer(connection, sends)
        except SourceEnded as error:
            connection.link.abort()  # it may be open still; what has arrived can be read all the same
            await self._take_rest_of(connection)
            return connection.ended_by or self._source.sorted(error).loss
        except UnlostError as error:
            return Loss(str(error))
        except Exception as error:  # noqa: BLE001 - what an outsider sends ends a connection, never a listener
            return failed_code("reading", error).loss

    async def _next(self, connection: FeedConnection) -> Sequence[bytes | Oversized]:
        clock, room = asyncio.get_running_loop().time, self._ready.room
        if not room.is_set():
            connection.signs.pause(clock())
            await room.wait()
            connection.signs.resume(clock())
        messages = await connection.take()
        self._heard_at = clock()
        connection.signs.heard(self._heard_at)
        return messages

    async def _give_up(self, connection: FeedConnection) -> None:
        """Take the events that a connection delivered although the feed could not subscribe; errors are no letters."""
        connection.link.abort()
        connection.count = self._source.counting.begin()
        await self._take_rest_of(connection, lambda message: has_events(self._feed, message))
        self._source.counting.end(connection.count)
        if connection.delivered:
            self._last_sign = max(self._last_sign, connection.heard_at)

    async def _take_rest_of(self, connection: FeedConnection, wanted: Callable[[bytes], bool] = lambda _: True) -> None:
        """Take what had arrived when a connection ended."""
        while rest := await connection.take_rest():
            for message in rest:
                if isinstance(message, Oversized) or wanted(message):
                    self._take_in(connection, message, obeys=False)

    def _left(self, connection: FeedConnection, loss: Loss) -> None:
        self._loss = loss
        self._last_sign = max(self._last_sign, connection.heard_at)
        if connection in self._connections:
            self._connections.remove(connection)
        for task in self._side.pop(id(connection), {}).values():
            task.cancel()
        if (stack := self._stacks.pop(id(connection), None)) is not None:
            self._start(_closed(stack), "leave a connection")
        self._moves.left(connection)
        self._changed.set()

    async def _answer(self, connection: FeedConnection, sends: Sequence[str]) -> None:
        for text in sends:
            await connection.send(text)
        if self._stopped_by is not None:
            raise SourceEnded(self._stopped_by)

    def _take_in(self, connection: FeedConnection, message: bytes | Oversized, *, obeys: bool = True) -> Sequence[str]:
        """Act on a message, unless the session has ended; return what must be sent."""
        if isinstance(message, Oversized):
            self._ready.put_oversized(message)
            self._source.counts.oversized += 1
            return ()
        taking = take_in(self._feed, message)
        if isinstance(taking, tuple):
            body, event = taking
            self._ready.put_event(body, event.cursor, len(message))
            self._cursor = event.cursor or self._cursor
            self._source.counts.events += 1
            self._source.counts.unacknowledged += self._feed.acknowledges
            connection.delivered = True
            if connection.expected is not None:
                self._compare(connection, (event.cursor,))
            if event.sequence is not None:
                self._count(connection, counted_as(event.sequence), event.cursor)
            return ()
        self._keep(connection, taking, len(message))
        if connection.expected is not None:
            self._compare(connection, taking.cursors)
        for sequence, cursor in taking.numbers:
            self._count(connection, sequence, cursor)
        for order in taking.orders if obeys else ():
            self._obey(connection, order)
        return taking.sends

    def _obey(self, connection: FeedConnection, order: Order) -> None:
        match order:
            case Beat():
                self._beside(connection, "heartbeat", beat(connection, self._feed, order.every))
            case Keepalive():
                self._beside(connection, "silence", end_if_silent(connection, order.within))
            case Again():
                self._moves.move(connection, order)
            case Stop():
                self._stopped_by = stopped(order.why)
            case Missed():
                self._source.missed()
            case _:
                assert_never(order)

    def _compare(self, connection: FeedConnection, cursors: Sequence[str | None]) -> None:
        """Compare the first cursor of a connection with the one after which the feed was to continue."""
        asked, first = connection.expected, next((one for one in cursors if one is not None), None)
        if asked is None or first is None:
            return
        connection.expected = None
        if is_further(first, asked):
            self._source.resumed_late(asked, first)

    def _count(self, connection: FeedConnection, sequence: tuple[str, int], cursor: str | None) -> None:
        self._source.counting.take(connection.count, sequence, cursor)

    def _keep(self, connection: FeedConnection, taking: Taking, size: int) -> None:
        counts = self._source.counts
        if not taking.bodies:
            counts.control += 1
            return
        counts.events += len(taking.bodies) - taking.refused
        counts.refused += taking.refused
        counts.unacknowledged += self._feed.acknowledges and taking.receipt is None
        connection.delivered = True
        self._cursor = next(filter(None, reversed(taking.cursors)), self._cursor)
        self._ready.put(connection, taking, size)

    # -- beside reading -------------------------------------------------------------------------

    async def _connect_again(self, again: Again) -> FeedConnection | None:
        try:
            return await self.connect(self._cursor if self._source.follows_cursor else None, again)
        except SourceEnded as error:
            self._loss = error.loss
            return None

    def _is_idle(self) -> bool:
        """Whether nothing is read now, so that silence proves nothing."""
        return self._paused() or not self._ready.room.is_set()

    def _beside(self, connection: FeedConnection, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something while a connection is open, in place of what was begun under this name."""
        tasks = self._side.setdefault(id(connection), {})
        if (before := tasks.get(name)) is not None:
            before.cancel()
        tasks[name] = asyncio.create_task(work, name=f"feed {name}")

    async def _renew(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            for connection in self._connections[-1:]:
                self._moves.move(connection, Again(f"a connection is renewed every {every:g} s"))


async def _closed(stack: contextlib.AsyncExitStack) -> None:
    """Close a connection. It is left anyway, so neither its errors nor its silence matter."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await stack.aclose()
