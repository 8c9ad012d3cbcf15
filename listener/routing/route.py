"""A route, ready to run: a function of the user's, and how one attempt calls it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, get_origin

from unlost.listener.core.attempts import Line
from unlost.listener.core.delivery import Delivery
from unlost.listener.pipeline.handlers import Form, InThread
from unlost.listener.ports.rows import HandlerConnection
from unlost.listener.routing.arguments import Binding, Signature, bind, likely_payload, session_kind
from unlost.listener.routing.declared import Declared, Function, Options, When
from unlost.listener.routing.threads import Bridge, SyncTransaction
from unlost.listener.routing.transaction import Transaction

OpenSession = Callable[[HandlerConnection], AbstractAsyncContextManager[Any]]
"""On the event loop: makes of the row's connection what the function gets, or what ``WithSession`` gets."""
WithSession = Callable[[Any, Bridge, Callable[[Any], None]], None]
"""In a thread: opens what the function gets, and lets it be used."""
Middleware = Callable[[Delivery], AbstractAsyncContextManager[Any]]
UNBOUND = Binding({}, {}, None)


class Route:
    """Calls one function. It can run after ``bind`` has decided what fills its parameters."""

    def __init__(self, declared: Declared, wanted: Signature, middlewares: Sequence[Middleware] = ()) -> None:
        self.name = wanted.name
        self.patterns = declared.patterns
        self.when: When | None = declared.when
        self.options: Options = declared.options
        self.form: Form = "transaction" if wanted.takes_transaction else "plain"
        self._wanted = wanted
        self._bridges = self.form == "transaction" and not wanted.asynchronous
        self._function = declared.function if wanted.asynchronous else InThread(self._in_its_thread(declared.function))
        self._middlewares = middlewares
        self._bound = UNBOUND
        self._session = ""
        self._open_session: OpenSession | None = None
        self._with_session: WithSession | None = None
        self.takes_delivery = True
        self.function = declared.function
        """As the user declared it."""

    @property
    def payload(self) -> Any:
        """The type of its payload: what was bound or, before that, what its signature shows."""
        return likely_payload(self._wanted) if self._bound is UNBOUND else self._bound.payload

    def bind(self, resources: Mapping[str, Any], *, check_types: bool = True) -> None:
        """Decide what fills each parameter; raise ``Misconfigured`` with one sentence if something cannot be filled."""
        self._bound = bound = bind(self._wanted, resources, check_types=check_types)
        session = next((name for name, filling in bound.fillings.items() if filling == "session"), None)
        if session is not None and not self._session:
            self._session = session
            self._prepare_sessions(self._wanted.required[session])
        self.takes_delivery = bool(self._middlewares) or "delivery" in bound.fillings.values()

    def _prepare_sessions(self, kind: Any) -> None:
        """Import a library only where a route asks for a session of it."""
        kind = get_origin(kind) or kind
        match session_kind(kind):
            case "sqlalchemy.AsyncSession":
                from unlost.listener.routing.session import sessions_of

                self._open_session = sessions_of(kind)
            case "sqlalchemy.Session":
                from unlost.listener.routing.sync_session import sync_sessions_of

                self._with_session = sync_sessions_of(kind)
            case "psycopg.AsyncConnection":
                from unlost.listener.routing.psycopg_connection import connections_of

                self._open_session = connections_of(kind)
            case _:
                from unlost.listener.routing.psycopg_connection import sync_connections_of

                self._open_session, self._with_session = sync_connections_of(kind)

    @property
    def line(self) -> Line | None:
        """Where attempts wait for a thread, if they do nothing else."""
        alone = self.form == "plain" and not self._middlewares
        return self._function.line if alone and isinstance(self._function, InThread) else None

    @property
    def needs_fast(self) -> bool:
        """Whether it asks for a connection of psycopg, which works on our own fast connections alone."""
        return any(session_kind(one).startswith("psycopg.") for one in self._wanted.required.values())

    async def run(self, delivery: Delivery | None, payload: bytes, connection: HandlerConnection | None = None) -> None:
        """Run one attempt. ``delivery`` is None if nothing asks for it; ``connection`` is the transaction's."""
        arguments = self._arguments(delivery, payload, connection)
        if not self._middlewares and self._open_session is None and not self._bridges:
            await self._function(**arguments)
            return
        async with AsyncExitStack() as around:
            for one in self._middlewares:
                assert delivery is not None
                await around.enter_async_context(one(delivery))
            own: Any = None
            if self._open_session is not None:
                assert connection is not None
                own = await around.enter_async_context(self._open_session(connection))
            if self._bridges:
                assert connection is not None
                bridge = Bridge()
                around.push_async_callback(bridge.close)
                await self._function(connection if own is None else own, bridge, arguments)
            else:
                await self._function(**arguments, **({self._session: own} if own is not None else {}))

    def _in_its_thread(self, function: Function) -> Function:
        """The callable for the thread: the function itself, or the function within the transaction."""
        if not self._bridges:
            return function

        def run(connection: Any, bridge: Bridge, arguments: dict[str, Any]) -> None:
            for name, filling in self._bound.fillings.items():
                if filling == "transaction":
                    arguments[name] = SyncTransaction(connection, bridge)
            if self._with_session is None:
                function(**arguments)
            else:
                self._with_session(connection, bridge, lambda own: function(**arguments, **{self._session: own}))

        return run

    def _arguments(
        self, delivery: Delivery | None, payload: bytes, connection: HandlerConnection | None
    ) -> dict[str, Any]:
        bound = self._bound
        arguments = dict(bound.resources)
        for name, filling in bound.fillings.items():
            if filling == "payload":
                assert bound.decode is not None
                arguments[name] = bound.decode(payload)
            elif filling == "delivery":
                arguments[name] = delivery
            elif filling == "transaction" and not self._bridges:
                assert connection is not None
                arguments[name] = Transaction(connection)
        return arguments
