"""Arguments: which value each parameter of a route's function gets. Decided once at start, from its signature.

A parameter is filled by its annotation (``Delivery``, ``Transaction``), else by its name (a resource of the lifespan).
The remaining parameter gets the payload.
"""

import dis
import inspect
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, get_origin

import msgspec

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.effects import NO_TRANSACTION
from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.payloads import Decode, NotReadable, decoder_of
from unlost.listener.routing.threads import SyncTransaction
from unlost.listener.routing.transaction import Transaction

Filling = Literal["delivery", "transaction", "session", "payload", "resource"]
TRANSACTIONS = (Transaction, SyncTransaction)
SYNCHRONOUS = {
    "Transaction": "SyncTransaction",
    "sqlalchemy.AsyncSession": "sqlalchemy.Session",
    "psycopg.AsyncConnection": "psycopg.Connection",
}
"""The types that an `async def` may take for its transaction, and the ones that a `def` takes instead."""
SESSIONS = tuple(name for pair in SYNCHRONOUS.items() for name in pair if "." in name)
_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature(msgspec.Struct, frozen=True):
    """The parameters of a function by name, with their annotations; ``optional`` ones have a default."""

    name: str
    asynchronous: bool
    required: Mapping[str, Any]
    optional: Mapping[str, Any]

    @property
    def takes_transaction(self) -> bool:
        """Whether it works in the transaction of the row."""
        return any(one in TRANSACTIONS or is_session(one) for one in self.required.values())

    @property
    def session(self) -> Any:
        """The class of the session that it asks for; None if it asks for none."""
        return next((one for one in self.required.values() if is_session(one)), None)


class Binding(msgspec.Struct, frozen=True):
    """How a function's arguments are made: by name, what fills each. ``decode`` reads the payload, if one is wanted."""

    fillings: Mapping[str, Filling]
    resources: Mapping[str, Any]
    decode: Decode | None
    payload: Any = Any
    """The type that ``decode`` reads."""


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read a function's signature; raise ``Misconfigured`` with one sentence if it cannot be a route's."""
    name = name_of(function)
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except Exception as error:  # noqa: BLE001  the annotations are evaluated, and may raise anything
        raise Misconfigured(f"{name}(): its annotations cannot be read: {error}") from None
    named = [one for one in parameters.values() if one.kind not in _VARIADIC]
    wanted = Signature(
        name,
        is_asynchronous(function),
        {one.name: one.annotation for one in named if one.default is _EMPTY},
        {one.name: one.annotation for one in named if one.default is not _EMPTY},
    )
    why = _mistake(wanted, named)
    if not wanted.takes_transaction:
        events = [one.name for one in named if one.annotation is Delivery]
        why = why or next(filter(None, (effects_without_transaction(function, one) for one in events)), "")
    if why:
        raise Misconfigured(f"{name}(): {why}")
    return wanted


def effects_without_transaction(function: Callable[..., Any], event: str) -> str:
    """Return why a function without a transaction cannot use the effects of its event; empty if it does not use them.

    Its code is searched for ``event.effects``. A use that this search misses is refused when it happens.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    steps = list(dis.get_instructions(code)) if code is not None else []
    for loaded, got in itertools.pairwise(steps):
        names = loaded.argval if isinstance(loaded.argval, tuple) else (loaded.argval,)
        if loaded.opname.startswith("LOAD_FAST") and names[-1] == event and got.argval == "effects":
            return f"{event}.effects cannot be used: {NO_TRANSACTION}"
    return ""


def _mistake(wanted: Signature, named: Collection[inspect.Parameter]) -> str:
    if unnamed := [one.name for one in named if one.kind is inspect.Parameter.POSITIONAL_ONLY]:
        return f"arguments are passed by name, and {unnamed[0]} is positional only"
    if "self" in wanted.required:
        return "a route is a function, not a method: nothing fills self"
    for kind in (Delivery, *TRANSACTIONS):
        if list(wanted.required.values()).count(kind) > 1:
            return f"two parameters are annotated with {kind.__name__}"
    if sum(map(is_session, wanted.required.values())) > 1:
        return "two parameters are annotated with a session or connection"
    for annotation in wanted.required.values():
        if why := _wrong_kind(annotation, asynchronous=wanted.asynchronous):
            return why
    return ""


def _wrong_kind(annotation: object, *, asynchronous: bool) -> str:
    kind = Transaction if annotation is Transaction else SyncTransaction if annotation is SyncTransaction else None
    name = kind.__name__ if kind else session_kind(annotation)
    if not asynchronous and name in SYNCHRONOUS:
        return f"a function that works in this transaction must be an `async def`; a `def` asks for {SYNCHRONOUS[name]}"
    instead = next((one for one, other in SYNCHRONOUS.items() if other == name), "")
    if asynchronous and instead:
        return f"an `async def` must not block in a transaction: it asks for {instead}"
    return ""


def session_kind(annotation: object) -> str:
    """Return which session or connection of a library this is, or is made from, without importing it; else empty."""
    annotation = get_origin(annotation) or annotation
    if not inspect.isclass(annotation):
        return ""
    bases = [f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in annotation.__mro__]
    return next((name for name in SESSIONS if name in bases), "")


def is_session(annotation: object) -> bool:
    """Return whether this is a session of SQLAlchemy, or a connection of psycopg."""
    return bool(session_kind(annotation))


def bind(wanted: Signature, resources: Mapping[str, Any], *, check_types: bool = True) -> Binding:
    """Decide what fills each parameter; raise ``Misconfigured`` with one sentence if something cannot be filled."""
    fillings: dict[str, Filling] = {}
    left: dict[str, Any] = {}
    for name, annotation in (wanted.required | wanted.optional).items():  # type: ignore[operator]
        if annotation is Delivery:
            fillings[name] = "delivery"
        elif annotation in TRANSACTIONS:
            fillings[name] = "transaction"
        elif is_session(annotation) and name in wanted.required:
            if name in resources:
                raise Misconfigured(
                    f"{wanted.name}(): {name} is a session in the transaction of the row, and the lifespan yields a "
                    f"resource of the same name: rename one"
                )
            fillings[name] = "session"
        elif name in resources:
            fillings[name] = "resource"
            if check_types:
                _check_type(wanted.name, name, annotation, resources[name])
        elif name in wanted.required:
            left[name] = annotation
    decode = _payload(wanted.name, left, resources)
    fillings |= dict.fromkeys(left, "payload")
    used = {name: resources[name] for name in fillings if name in resources}
    return Binding(fillings, used, decode, _annotation(*left.values()))


def _payload(function: str, left: Mapping[str, Any], resources: Collection[str]) -> Decode | None:
    if not left:
        return None
    known = f"the lifespan yields {', '.join(sorted(resources))}" if resources else "there are no resources"
    if len(left) > 1:
        raise Misconfigured(f"{function}(): only one of {', '.join(left)} can be the payload, and {known}")
    ((name, annotation),) = left.items()
    try:
        return decoder_of(Any if annotation is _EMPTY else annotation)
    except NotReadable as error:
        raise Misconfigured(f"{function}(): nothing fills {name}: {error}, and {known}") from None


def likely_payload(wanted: Signature) -> Any:
    """Return the type of the payload as far as it is known without resources; ``Any`` if it cannot.

    A resource is known by its name alone. So of several parameters the only one that can be read from JSON is meant.
    """
    left = [one for one in wanted.required.values() if one not in (Delivery, *TRANSACTIONS) and not is_session(one)]
    found = [one for one in left if one is not _EMPTY and one is not Any and _is_readable(one)]
    return found[0] if len(found) == 1 else Any


def _is_readable(annotation: Any) -> bool:
    try:
        decoder_of(annotation)
    except NotReadable:
        return False
    return True


def _annotation(*left: Any) -> Any:
    return left[0] if left and left[0] is not _EMPTY else Any


def _check_type(function: str, name: str, annotation: Any, resource: Any) -> None:
    """Compare a resource with its annotation, where that is an ordinary class."""
    if annotation is _EMPTY or not inspect.isclass(annotation):
        return
    try:
        fits = isinstance(resource, annotation)
    except TypeError:  # a protocol, or a generic
        return
    if not fits:
        raise Misconfigured(
            f"{function}(): {name} is annotated with {annotation.__qualname__}, and the lifespan yields an object of "
            f"type {type(resource).__qualname__}"
        )


def name_of(function: Callable[..., Any]) -> str:
    """Return how a function is called in messages and lists."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def is_asynchronous(function: Callable[..., Any]) -> bool:
    """Return whether calling it returns an awaitable; an object with an ``async __call__`` counts too."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object with an async __call__ is a function too
    )
