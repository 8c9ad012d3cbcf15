"""The router: where a user's module declares functions for types of events, by decorators."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.order_key import AfterLetter
from unlost.listener.routing.declared import OTHERWISE, Declared, Function, Options, Upcast, When

F = TypeVar("F", bound=Callable[..., Any])


class Router:
    """Declares routes. A decorated function stays as it is, and can be called and tested by itself."""

    def __init__(self, *, version_field: str = "version") -> None:
        """Make one. ``version_field``: where the version of an event stands, for ``upcast``.

        It is the name of a field beside ``type``, or a path into the payload: ``payload.version``.
        """
        self.version_field = version_field
        self.upcasts: list[Upcast] = []
        self.routes: list[Declared] = []
        self.others: list[Declared] = []
        self.rejects_unknown = False
        self.lifespans: list[Function] = []
        self.middlewares: list[Function] = []

    def on(
        self,
        *types: str,
        when: When | None = None,
        retry: Backoff | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        key: str | None = None,
        after_letter: AfterLetter | None = None,
    ) -> Callable[[F], F]:
        """Run the function for events of these types. ``*`` stands for any characters: ``order.*``.

        The most specific pattern takes an event. ``when`` gets the ``Delivery`` and returns whether this route takes
        it; if not, the next route is tried. ``retry``, ``timeout`` (seconds of one attempt) and ``concurrency``
        (attempts at once in this process) replace the settings; the last two may only be lower. ``key`` is a path in
        the payload, as ``account_id`` or ``account.id``: events with the same value there are processed one at a time,
        in the order of their source. It replaces ``ORDER_BY`` and the ``key`` of a profile for these types.
        ``after_letter`` replaces ``ORDER_AFTER_LETTER`` for these types: behind a letter, later events of its key wait
        as letters (``park``), go on (``continue``), or wait while nothing is read (``stop``).
        """

        def declare(function: F) -> F:
            options = Options(retry, timeout, concurrency, key, after_letter)
            self.routes.append(Declared(function, types, when, options))
            return function

        return declare

    @overload
    def otherwise(self, function: F, /) -> F: ...
    @overload
    def otherwise(
        self,
        /,
        *,
        retry: Backoff | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        key: str | None = None,
        after_letter: AfterLetter | None = None,
    ) -> Callable[[F], F]: ...

    def otherwise(self, function: Any = None, /, **options: Any) -> Any:
        """Run the function for events that no route takes. Without one, they are stored and nothing runs."""

        def declare(function: F) -> F:
            self.others.append(Declared(function, (OTHERWISE,), None, Options(**options)))
            return function

        return declare if function is None else declare(function)

    def upcast(self, event_type: str, *, from_version: int) -> Callable[[F], F]:
        """Bring payloads of this type from one version to the next, before their type is checked.

        The function gets the payload, as decoded JSON, and returns that of the next version. Several make a chain. An
        event without a version has version 1. The row keeps what the publisher sent.
        """

        def declare(function: F) -> F:
            self.upcasts.append(Upcast(event_type, from_version, function))
            return function

        return declare

    def reject_unknown(self) -> None:
        """Make events that no route takes dead letters at once, reason ``rejected``."""
        self.rejects_unknown = True

    def lifespan(self, function: F) -> F:
        """Enter this context once per process, before the first event, and leave it after the last.

        The function is an async generator that yields once, or returns an async context manager. It yields a mapping:
        a parameter that has the name of a key gets its value.
        """
        self.lifespans.append(function)
        return function

    def middleware(self, function: F) -> F:
        """Run every attempt inside this context. The function gets the ``Delivery``.

        It is an async generator that yields once, or returns an async context manager. Exceptions of the attempt are
        raised at the ``yield``. The middleware that was declared first is the outermost.
        """
        self.middlewares.append(function)
        return function
