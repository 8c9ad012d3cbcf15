"""The user's handler as the pipeline sees it, and the border around each attempt.

A handler of the plain form runs before the row is inserted; one of the form ``transaction`` runs inside the transaction
that inserts the row. ``routing/finding.py`` makes a handler of what ``HANDLER`` names.
"""

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from structlog.contextvars import bind_contextvars

from unlost.listener.core.attempts import AttemptPolicy, Line
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import Permanent, Reject, Transient
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight, delivery_of
from unlost.listener.core.order_key import AfterLetter
from unlost.listener.pipeline.handler_threads import HandlerThreads

MOST_HUNG = 64
"""The largest number of threads that may hang: they exceeded their time limit and still run."""

Form = Literal["plain", "transaction"]
Call = Callable[..., Awaitable[None]]


Prepared = tuple[Form | Literal["store"], Call, tuple[Any, ...]]
"""One attempt: its form, the function, and its arguments. In a transaction the connection is passed after them, and the
first argument, the ``Delivery`` if there is one, has recorded effects.
"""


class Handler(Protocol):
    """The user's code: one function, or an application with routes."""

    name: str
    line: Line | None
    """The line of its only function, if its attempts only wait for a thread."""

    @property
    def policies(self) -> Sequence[AttemptPolicy]:
        """All policies that ``policy_of`` may return; empty if the settings apply to every attempt."""

    def policy_of(self, event: Event) -> AttemptPolicy:
        """Return the policy for this event. Called once for each claim, if there are policies. Must not raise."""

    def looks_before(self, event_type: str | None) -> bool:
        """Return whether the table must be queried before it runs, because the insert comes only afterwards."""

    @property
    def keys(self) -> Mapping[str, str]:
        """The paths of keys that it declares, by pattern of types."""

    def key_of_type(self, event_type: str | None) -> str:
        """Return the path of the key that it declares for events of this type; empty if it declares none."""

    @property
    def after_letters(self) -> Mapping[str, AfterLetter]:
        """The declared effects of letters on the keys of their events, by pattern of types."""

    def after_letter_of_type(self, event_type: str | None) -> AfterLetter | None:
        """Return what it declares for events of this type, if anything."""

    def runs(self, event_type: str | None) -> bool:
        """Return whether any code may run for events of this type. If not, they are stored."""

    def prepare(self, flight: InFlight, number: int) -> Prepared:
        """Return how to run this attempt. ``runs`` must be true for the event's type. Raises what an attempt raises."""

    async def open(self) -> None:
        """Prepare for the first event. Raises ``Transient`` or ``Misconfigured``."""

    async def close(self) -> None:
        """Clean up after the last event."""

    async def until_ended(self) -> str:
        """Wait until what the handler needs has ended by itself; return why no attempt can succeed any more."""


class FunctionHandler:
    """A handler that is one function: its name, its form and how to call it."""

    def __init__(self, name: str, form: Form, call: Call) -> None:
        self.name = name
        self.form = form
        self.call = call
        self.line: Line | None = call.line if form == "plain" and isinstance(call, InThread) else None
        self.policies: Sequence[AttemptPolicy] = ()
        self.keys: Mapping[str, str] = {}
        self.after_letters: Mapping[str, AfterLetter] = {}

    def policy_of(self, event: Event) -> AttemptPolicy:  # noqa: ARG002
        """See ``Handler``, as for the other methods."""
        return AttemptPolicy(self.name)

    def looks_before(self, event_type: str | None) -> bool:  # noqa: ARG002
        """See ``Handler``."""
        return self.form == "plain"

    def key_of_type(self, event_type: str | None) -> str:  # noqa: ARG002
        """A function declares none."""
        return ""

    def after_letter_of_type(self, event_type: str | None) -> AfterLetter | None:  # noqa: ARG002
        """A function declares nothing."""
        return None

    def runs(self, event_type: str | None) -> bool:  # noqa: ARG002
        """It runs for every event."""
        return True

    def prepare(self, flight: InFlight, number: int) -> Prepared:
        """See ``Handler``."""
        effects = Effects() if self.form == "transaction" else NO_EFFECTS
        return self.form, self.call, (delivery_of(flight, number, effects),)

    async def open(self) -> None:
        """There is nothing to prepare."""

    async def close(self) -> None:
        """There is nothing to clean up."""

    async def until_ended(self) -> str:
        """A function needs nothing that could end."""
        await asyncio.get_running_loop().create_future()
        return ""


class InThread:
    """Runs each call of a function in a thread. ``line`` bounds how many run at once, this class how many hang."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.line = HandlerThreads(f"handler {getattr(function, '__name__', '')}", _sorted)

    async def __call__(self, *arguments: Any, **named: Any) -> None:
        """Return once it has ended, or raise what it raises."""
        if self.line.hung >= MOST_HUNG:
            raise HandlerTimeout(f"{self.line.hung} threads of the handler hang; until one ends, none is started")
        await self.line.run(partial(self._function, *arguments, **named), _begin_anew.get())


def _sorted(error: BaseException) -> Exception:
    return error if isinstance(error, Reject | Permanent | Transient) else HandlerFailed(error)


def _nothing() -> None:
    pass


_begin_anew: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar("begin_anew", default=_nothing)
"""Lets the time limit of the attempt begin anew: so far it only waited for a thread."""


def _now() -> float:
    return asyncio.get_running_loop().time()


async def attempt(
    work: Awaitable[None],
    *,
    timeout: float,
    said: Mapping[str, str] | None = None,
    starts: Callable[[], None] = _nothing,
) -> None:
    """Run one attempt within its time limit and sort its errors: ``Reject`` is permanent, all others are transient.

    The fields of ``said`` are added to the handler's log lines. ``starts`` is called in the handler's context.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await _in_own_context(work, said or {}, starts, lambda: limit.reschedule(_now() + timeout))
    except (Reject, Permanent, Transient):
        raise
    except TimeoutError as error:
        if limit.expired():
            raise HandlerTimeout(f"the handler took longer than {timeout:g} s", error.__cause__) from error
        raise HandlerFailed(error) from error  # the handler's own: one of its calls took too long
    except asyncio.CancelledError as error:
        if task.cancelling() > cancelled:
            raise
        raise HandlerFailed(error) from error  # something it waited for was cancelled, but not this task
    except Exception as error:  # the user's code may raise anything
        raise HandlerFailed(error) from error


@types.coroutine
def _in_own_context(
    work: Awaitable[None], said: Mapping[str, str], starts: Callable[[], None], begin_anew: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Await this as if in its own task, at a seventh of the cost: context variables that it sets end with it.

    Exceptions that would end the process (``SystemExit``, ``KeyboardInterrupt``) or this generator are failures of the
    handler too. A real Ctrl-C never arrives here: the event loop handles that signal.
    """
    run = contextvars.copy_context().run
    run(bind_contextvars, **said)
    run(_begin_anew.set, begin_anew)
    run(starts)
    steps = _awaited(work)
    closing = False
    try:
        awaited = run(steps.send, None)
        while True:
            try:
                answer = yield awaited
            except GeneratorExit:
                closing = True
                run(steps.close)
                raise
            except BaseException as error:  # noqa: BLE001  passed on to the work, as ``await`` does
                awaited = run(steps.throw, error)
            else:
                awaited = run(steps.send, answer)
    except StopIteration:
        return
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        if closing:
            raise
        raise HandlerFailed(error) from error


async def _awaited(work: Awaitable[None]) -> None:
    await work


class HandlerTimeout(Transient):
    """One attempt exceeded its time limit. In letters, the name of this class shows that the handler hung.

    ``origin`` is the cancellation that ended the attempt. Its traceback shows where it was.
    """

    raised = TimeoutError

    def __init__(self, message: str, origin: BaseException | None = None) -> None:
        super().__init__(message)
        self.origin = origin or self


class HandlerFailed(Transient):
    """The user's code raised ``origin``. ``error_type`` is the name of its class."""

    def __init__(self, error: BaseException) -> None:
        sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)  # SQLAlchemy keeps the driver's in ``orig``
        super().__init__(_text(error), sqlstate=sqlstate if isinstance(sqlstate, str) else None)
        self.error_type = type(error).__name__
        self.raised = type(error)
        self.origin = self.__cause__ = error


class HandlerRefused(Permanent):
    """The user's code raised what its route calls permanent."""

    def __init__(self, error: Transient) -> None:
        super().__init__(str(error), sqlstate=error.sqlstate)
        self.error_type = getattr(error, "error_type", type(error).__name__)
        self.origin = getattr(error, "origin", error)
        self.__cause__ = error.__cause__


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception as failed:  # noqa: BLE001  also the user's code
        return f"{type(error).__name__}, whose text cannot be read: {type(failed).__name__}"
