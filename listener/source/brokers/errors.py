"""Translates the errors of brokers' libraries into ``SourceEnded``, in this one place.

Beside its own errors, a library raises what Python does: for what a broker sends, for a connection that has ended
meanwhile, for a certificate. None of these is a mistake of ours. Any other is one, and reaches the reader's border.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from unlost.listener.ports.source import Loss, SourceEnded
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import tls_failure

MESSAGE_LIMIT = 300
_OF_PYTHON: tuple[type[Exception], ...] = (OSError, TimeoutError, asyncio.InvalidStateError)


@contextlib.contextmanager
def library_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Translate what a library raises. ``kinds``: the base classes of its own errors."""
    try:
        yield
    except SourceEnded:
        raise
    except _OF_PYTHON + kinds as error:
        raise SourceEnded(Loss(words_of(error))) from error


@contextlib.asynccontextmanager
async def within(seconds: float, doing: str) -> AsyncIterator[None]:
    """Limit a call to a broker, and name what took too long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise SourceEnded(Loss(f"{doing} took longer than {seconds:.0f} seconds")) from error


async def leave(call: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Leave a connection, session or group. Errors and delays of that do not matter."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(seconds):
            await call()


def words_of(error: BaseException) -> str:
    """Return an error's text on one line, without credentials.

    The libraries trust the authorities of the system, as OpenSSL finds them.
    """
    if failed := tls_failure(error, ca="SSL_CERT_FILE in the environment", cert=""):
        return failed
    return printable(masked(str(error))[:MESSAGE_LIMIT]) or type(error).__name__
