"""Finds the user's handler, and calls its three forms.

``HANDLER=package.module:function`` names it. ``async def handle(event)`` and ``def handle(event)`` run before the row
is inserted. ``async def handle(event, connection)`` runs inside the transaction that inserts the row.
"""

import asyncio
import contextvars
import importlib
import inspect
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import msgspec
from structlog.contextvars import bind_contextvars

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Permanent, Reject, Transient

MOST_HUNG = 64
"""At most so many threads may hang: they exceeded their time limit and still run."""

Form = Literal["plain", "transaction"]
Call = Callable[..., Awaitable[None]]


class Handler(msgspec.Struct, frozen=True):
    """A handler that was found: its name, its form and how to call it."""

    name: str
    form: Form
    call: Call


def find_handler(name: str) -> Handler:
    """Import ``package.module:function``; raise ``Misconfigured`` with one sentence if it is not a handler."""
    function = _import(name)
    try:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"HANDLER={name}: its parameters cannot be read: {error}") from None
    asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object with an async __call__ is a handler too
    )
    if len(parameters) == 1:
        return Handler(name, "plain", function if asynchronous else _in_thread(function))
    if len(parameters) == 2 and asynchronous:
        return Handler(name, "transaction", function)
    if len(parameters) == 2:
        raise Misconfigured(f"HANDLER={name}: a handler that takes a connection must be an `async def`")
    raise Misconfigured(
        f"HANDLER={name}: a handler takes (event) or (event, connection), not {len(parameters)} parameters"
    )


def _import(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise Misconfigured(f"HANDLER={name}: write package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        target: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module that ends the process would end it without a word
        raise Misconfigured(
            f"HANDLER={name}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    for part in function_name.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        raise Misconfigured(f"HANDLER={name}: {module_name} has no function {function_name}")
    return target  # type: ignore[no-any-return]


def _in_thread(function: Callable[[Delivery], object]) -> Call:
    """Run each call in a daemon thread: one that hangs cannot be cancelled, and must not keep a stopped process alive.

    The caller bounds how many run at once. This function bounds how many hang beyond their time limit.
    """
    given_up: set[Future[None]] = set()

    async def call(delivery: Delivery) -> None:
        if len(given_up) >= MOST_HUNG:
            raise HandlerTimeout(f"{len(given_up)} threads of the handler hang; until one ends, none is started")
        ended: Future[None] = Future()

        def run() -> None:
            try:
                function(delivery)
            except (Reject, Permanent, Transient) as error:
                ended.set_exception(error)
            except BaseException as error:  # noqa: BLE001  a future refuses some, and others end an event loop
                ended.set_exception(HandlerFailed(error))
            else:
                ended.set_result(None)

        ended.set_running_or_notify_cancel()
        run_here = contextvars.copy_context().run
        threading.Thread(target=run_here, args=(run,), name=f"handler {delivery.event_id[:64]}", daemon=True).start()
        try:
            await asyncio.wrap_future(ended)
        except asyncio.CancelledError:
            given_up.add(ended)
            ended.add_done_callback(given_up.discard)
            raise

    return call


async def attempt(work: Awaitable[None], *, timeout: float, said: Mapping[str, str] | None = None) -> None:
    """Run one attempt within its time limit and sort its errors: ``Reject`` is permanent, all others are transient.

    The handler's log lines also get the fields of ``said``.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await _in_own_context(work, said or {})
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
    except Exception as error:  # the border to the user's code: it may raise anything
        raise HandlerFailed(error) from error


@types.coroutine
def _in_own_context(work: Awaitable[None], said: Mapping[str, str]) -> Generator[Any, Any, None]:
    """Await this like a task of its own, at a seventh of the cost: context variables set in it end with it.

    Also what would end the process (``SystemExit``, ``KeyboardInterrupt``), or look like the end of this generator, is
    a failure of the handler. A real Ctrl-C never arrives here: the event loop handles that signal.
    """
    run = contextvars.copy_context().run
    run(bind_contextvars, **said)
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
    """One attempt exceeded its time limit. The class name in letters distinguishes a hang from a failure.

    ``origin`` is the cancellation that ended the attempt. Its traceback shows where it was.
    """

    def __init__(self, message: str, origin: BaseException | None = None) -> None:
        super().__init__(message)
        self.origin = origin or self


class HandlerFailed(Transient):
    """The user's code raised ``origin``. ``error_type`` is the name of its class."""

    def __init__(self, error: BaseException) -> None:
        sqlstate = getattr(error, "sqlstate", None)
        super().__init__(_text(error), sqlstate=sqlstate if isinstance(sqlstate, str) else None)
        self.error_type = type(error).__name__
        self.origin = self.__cause__ = error


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception as failed:  # noqa: BLE001  also the user's code
        return f"{type(error).__name__}, whose text cannot be had: {type(failed).__name__}"
