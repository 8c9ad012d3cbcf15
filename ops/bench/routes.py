"""Forms of handlers that only a full run measures: typed routes, slow ones, threads, and many transactions at once."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.ops.bench import handlers
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.load import events

SLOW_SECONDS = 0.05
AT_ONCE = 256
MANY = 64
PLAIN, TYPED, THREAD = "function, 0 ms", "typed route, 0 ms", "function in a thread, 0 ms"
SLOW = "50 ms, 256 at once"
FEW, MORE = "transactions, 16 at once", "transactions, 64 at once"


class Payload(msgspec.Struct):
    """The payload of all measurements."""

    number: int
    user: str
    text: str


typed = App()


@typed.otherwise
async def take(payload: Payload) -> None:
    """Take no time."""


failing = App()


@failing.otherwise
async def take_or_fail(payload: Payload, event: Delivery) -> None:  # noqa: ARG001  it is decoded
    """Take no time, and fail for marked events."""
    await handlers.instant(event)


async def slow(event: Delivery) -> None:  # noqa: ARG001  the signature of a handler
    """Wait, as for a slow response of another service."""
    await asyncio.sleep(SLOW_SECONDS)


def threaded(event: Delivery) -> None:
    """Take no time, in a thread, and fail for marked events."""
    if event.event_id.startswith(handlers.MARK):
        raise ConnectionError("as marked")


async def stored(bed: Bed, handler: str, *, count: int, **settings: str) -> Measured:
    """Measure one listener with one of the handlers above. Its cost is that of the listener alone."""
    await bed.forget_rows()
    return await bed.stored(
        [handlers.child_of(bed, f"{__name__}:{handler}", **settings)], events(count, bed.new_run(), 300), count
    )


async def measure(bed: Bed, *, count: int, rounds: int) -> Mapping[str, list[Measured]]:
    """Measure all forms, round by round, since the machine changes."""
    slow = {"HANDLE_CONCURRENCY": str(AT_ONCE)}
    many = {"HANDLE_CONCURRENCY": str(MANY)}
    forms: Mapping[str, Callable[[], Awaitable[Measured]]] = {
        PLAIN: lambda: handlers.stored(bed, "instant", count=count),
        TYPED: lambda: stored(bed, "typed", count=count),
        THREAD: lambda: stored(bed, "threaded", count=count),
        SLOW: lambda: stored(bed, "slow", count=count, **slow),
        FEW: lambda: handlers.stored(bed, "transaction", count=count),
        MORE: lambda: handlers.stored(bed, "transaction", count=count, **many),
    }
    taken: dict[str, list[Measured]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, once in forms.items():
            taken[name].append(await once())
    return taken


FORMS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "failing_5_ms": (f"{handlers.__name__}:plain", {"HANDLE_CONCURRENCY": str(MANY)}),
    "failing_transaction": (f"{handlers.__name__}:transaction", {}),
    "failing_typed": (f"{__name__}:failing", {}),
    "failing_thread": (f"{__name__}:threaded", {}),
}
"""The other forms of handlers beside events that fail, with their settings."""


async def beside_failing(bed: Bed, *, count: int, rounds: int) -> Mapping[str, tuple[list[Measured], list[Measured]]]:
    """Measure healthy events of each form without others, and beside some that fail."""
    taken: dict[str, tuple[list[Measured], list[Measured]]] = {name: ([], []) for name in FORMS}
    for _ in range(rounds):
        for name, (handler, settings) in FORMS.items():
            for failing, found in zip((False, True), taken[name], strict=True):
                found.append(await handlers.healthy(bed, handler, count=count, failing=failing, **settings))
    return taken


def ratios(taken: Mapping[str, Sequence[Measured]], *, count: int) -> dict[str, float]:
    """Return the ratios that have bars, each the median of all rounds."""
    ideal = -(-count // AT_ONCE) * SLOW_SECONDS
    more = [typed.cost - plain.cost for typed, plain in zip(taken[TYPED], taken[PLAIN], strict=True)]
    return {
        "typed_us": statistics.median(more),
        "thread_us": statistics.median(one.cost for one in taken[THREAD]),
        "slow_handlers": statistics.median(ideal / one.seconds for one in taken[SLOW]),
        "many_transactions": statistics.median(
            many.rate / few.rate for many, few in zip(taken[MORE], taken[FEW], strict=True)
        ),
    }
