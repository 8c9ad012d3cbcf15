"""SQLAlchemy's synchronous session in the transaction of the row, for a ``def`` in a thread.

It is the same dialect, on the same connection, as the asynchronous session of ``session.py``. SQLAlchemy runs its code
in a greenlet, which passes each call of the driver to its parent. There the event loop awaits it; here the thread
passes it to the event loop.

Imported only if a route asks for a session (``pip install "unlost[sqlalchemy]"``).
"""

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet
from sqlalchemy.orm import Session

from unlost.listener.ports.rows import HandlerConnection
from unlost.listener.routing.session import row_connection, row_engine
from unlost.listener.routing.threads import Bridge

Use = Callable[[Session], None]
WithSession = Callable[[HandlerConnection, Bridge, Use], None]


class _Waiting(greenlet):
    """Runs code of SQLAlchemy that waits for a driver. SQLAlchemy knows such a greenlet by this attribute."""

    __sqlalchemy_greenlet_provider__ = True

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(work)
        self.gr_context = getcurrent().gr_context


def sync_sessions_of(kind: type[Session]) -> WithSession:
    """Return a function that, in a thread, opens a session of this class, lets it be used, and commits it."""
    engine = row_engine().sync_engine

    def with_session(connection: HandlerConnection, bridge: Bridge, use: Use) -> None:
        def work() -> None:
            with engine.connect() as own, kind(bind=own, expire_on_commit=False) as session:
                use(session)
                session.commit()

        before = row_connection.set(connection)
        try:
            _run(work, bridge)
        finally:
            row_connection.reset(before)

    return with_session


def _run(work: Callable[[], None], bridge: Bridge) -> None:
    """Run this in a greenlet. Its awaits are passed to the event loop."""
    waiting = _Waiting(work)
    step: Any = waiting.switch()
    while not waiting.dead:
        try:
            value = bridge.wait(step)
        except BaseException as error:  # noqa: BLE001  raised where it is waited for, as ``await`` does
            step = waiting.throw(error)
        else:
            step = waiting.switch(value)
