"""``TestApp``: runs events through a user's application as a listener does, without servers and without waiting.

Routing, decoding, middleware, error handling and retries are the listener's own code. Not included: claims, peers,
takeovers and limits of concurrency.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from unlost.listener.core.attempts import AttemptPolicy, Backoff, must_fit, raised
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import InvalidPayload, Permanent, Transient, failure_of
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import Handler, HandlerRefused, attempt
from unlost.listener.pipeline.policy import Policy
from unlost.listener.ports.rows import NewRow, Rows
from unlost.listener.routing.finding import find_handler, handler_of
from unlost.listener.routing.handler import AppHandler
from unlost.ops.testkit.memory import MemoryRows
from unlost.ops.testkit.result import Outcome, Result
from unlost.producer.client.conversation import outgoing

if TYPE_CHECKING:
    import asyncpg

SETTINGS = Policy()


class TestApp:
    """Runs events through ``target``: an ``App``, a handler function, or ``"package.module:object"``.

        async with TestApp(app, resources={"client": FakeClient()}) as test:
            result = await test.send({"sku": "a"}, type="order.created")
            assert result.outcome == "stored"

    ``with TestApp(app) as test: test.run(...)`` does the same in a test that is not asynchronous.

    Without ``resources`` the lifespan is entered. ``answers`` maps a part of a query's text to what it returns in a
    transaction. ``postgres=True`` runs transactions on a PostgreSQL of its own instead, which is ready within a second
    (``pip install "unlost[local]"``); ``postgres="postgresql://…"`` uses that database. Then ``connection`` is open.
    """

    __test__ = False  # for pytest: no class of tests

    def __init__(
        self,
        target: object,
        *,
        resources: Mapping[str, Any] | None = None,
        answers: Mapping[str, Any] | None = None,
        postgres: bool | str = False,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._handler: Handler = find_handler(target) if isinstance(target, str) else handler_of("test:app", target)
        must_fit(self._handler.policies, timeout=SETTINGS.handle_timeout, concurrency=SETTINGS.handle_concurrency)
        self._resources = resources
        self._answers = answers or {}
        self._postgres = postgres
        self._rng = rng
        self._buried: dict[str, bytes] = {}
        self._rows: MemoryRows | Rows = MemoryRows(self._answers)
        self._open = AsyncExitStack()
        self._runner: asyncio.Runner | None = None
        self.waited = 0.0
        """The seconds that a listener would have paused so far, on the virtual clock."""
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def __aenter__(self) -> Self:
        """Enter the lifespan, and start PostgreSQL if requested."""
        async with AsyncExitStack() as opened:
            if self._postgres:
                from unlost.ops.testkit.postgres import open_store

                store = await opened.enter_async_context(open_store(self._postgres))
                self._rows, self._connection = store
            if self._resources is None:
                await self._handler.open()
                opened.push_async_callback(self._handler.close)
            elif isinstance(self._handler, AppHandler):
                self._handler.bind(self._resources, check_types=False)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the lifespan, and stop PostgreSQL."""
        await self._open.aclose()

    def __enter__(self) -> Self:
        """Enter it on an event loop of its own."""
        self._runner = asyncio.Runner()
        try:
            self._runner.run(self.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do the same."""
        assert self._runner is not None
        with self._runner:
            self._runner.run(self.__aexit__(kind, error, trace))

    @property
    def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection to the PostgreSQL of this test: for its tables before, and its assertions after."""
        if self._connection is None:
            raise RuntimeError("there is no PostgreSQL: enter TestApp(postgres=True)")
        return self._connection

    def run(self, payload: Any = None, **event: Any) -> Result:
        """Do what ``send`` does, within ``with TestApp(...)``."""
        assert self._runner is not None, "enter it first: with TestApp(...) as test"
        return self._runner.run(self.send(payload, **event))

    def execute(self, statements: str) -> None:
        """Run statements on the PostgreSQL of this test, within ``with TestApp(...)``."""
        assert self._runner is not None, "enter it first: with TestApp(...) as test"
        self._runner.run(self.connection.execute(statements))

    def fetchval(self, query: str, *args: Any) -> Any:
        """Return one value from the PostgreSQL of this test."""
        assert self._runner is not None, "enter it first: with TestApp(...) as test"
        return self._runner.run(self.connection.fetchval(query, *args))

    async def send(
        self,
        payload: Any = None,
        *,
        type: str | None = None,  # noqa: A002  the event's field
        event_id: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Result:
        """Run one event until it is a row or a letter. Without ``event_id``, its id is random."""
        event = {**(fields or {}), "event_id": event_id, "type": type, "payload": payload}
        frame = outgoing(event, lambda: str(uuid.uuid4())).line
        parsed = parse(frame, max_bytes=len(frame))
        return await self._run(flight_of(parsed, frame, None, 0.0, 0.0))

    async def _run(self, flight: InFlight) -> Result:
        event = flight.event
        known = (await self._rows.settled([flight.request])).get(event.event_id)
        if known is not None:
            return Result(event.event_id, "duplicate" if known.same else "conflict", 0)
        if event.event_id in self._buried:
            same = self._buried[event.event_id] == event.digest
            return Result(event.event_id, "duplicate" if same else "conflict", 0)
        result = await self._attempts(flight) if self._handler.runs(event.type) else await self._stored(flight, 0)
        if result.is_letter:
            self._buried[event.event_id] = event.digest
        return result

    async def _attempts(self, flight: InFlight) -> Result:
        """Make as many attempts as the route allows, as ``Handling`` does."""
        policy = self._handler.policy_of(flight.event)
        retry = policy.retry or Backoff.fixed(SETTINGS.handle_attempts, SETTINGS.handle_delay)
        number, waited = 1, 0.0
        while True:
            try:
                return await self._attempt(flight, number, policy, retry, waited)
            except (Transient, Permanent) as error:
                flight.attempts.append(failure_of(error, stage="handle", at=waited))
                pause = retry.again_after(number, error, self._rng())
                if pause is None:
                    return Result(flight.claim_id, _outcome(error), number, tuple(flight.attempts), waited)
            waited += pause
            self.waited += pause
            number += 1

    async def _attempt(
        self, flight: InFlight, number: int, policy: AttemptPolicy, retry: Backoff, waited: float
    ) -> Result:
        form, call, arguments = self._handler.prepare(flight, number)
        timed = partial(self._timed, policy.timeout or SETTINGS.handle_timeout, retry)
        match form:
            case "transaction":
                row = NewRow(flight.event, 1, number, 0.0)
                await self._rows.insert_with(row, lambda connection: timed(call(*arguments, connection)))
                statements = self._rows.statements if isinstance(self._rows, MemoryRows) else ()
                effects: Effects = getattr(arguments[0], "effects", NO_EFFECTS)
                return Result(
                    flight.claim_id, "stored", number, tuple(flight.attempts), waited, tuple(statements),
                    tuple(effects.taken()),
                )  # fmt: skip
            case "plain":
                await timed(call(*arguments))
                return await self._stored(flight, number, waited)
            case _:
                return await self._stored(flight, number - 1, waited)

    @staticmethod
    async def _timed(timeout: float, retry: Backoff, work: Any) -> None:
        try:
            await attempt(work, timeout=timeout)
        except Transient as error:
            if retry.kind_of(raised(error)) == "permanent":
                raise HandlerRefused(error) from error.__cause__
            raise

    async def _stored(self, flight: InFlight, ran: int, waited: float = 0.0) -> Result:
        await self._rows.insert([NewRow(flight.event, 1, max(ran, 1), 0.0)])
        return Result(flight.claim_id, "stored", ran, tuple(flight.attempts), waited)


def _outcome(error: Transient | Permanent) -> Outcome:
    if isinstance(error, InvalidPayload):
        return "invalid"
    return "rejected" if isinstance(error, Permanent) else "letter"
