"""Errors of Redis and redis-py, translated by what to do next. Pure: one table, one function."""

from redis import exceptions

from unlost.listener.core.errors import Permanent, Transient, UnlostError
from unlost.ops.kit.telemetry.tls import tls_failure

PERMANENT = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)
"""Errors that need a person: somebody must change a password or a permission."""

PERMANENT_WORDS = ("NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "ERR unknown command")

LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""The connection failed or was never made (refused, silent, reset, name not resolved, loading, pool exhausted)."""

LIBRARY_ERRORS = (exceptions.RedisError, OSError)


def translated(error: BaseException, doing: str) -> UnlostError:
    """Return the error as one of ours. ``doing`` says in the message what was being done."""
    failed = tls_failure(error, ca="REDIS_CA", cert="REDIS_CERT")
    message = f"{doing}: {failed or f'{type(error).__name__}: {error}'}"
    if isinstance(error, PERMANENT):
        return Permanent(message)
    if isinstance(error, LOST) or not str(error).startswith(PERMANENT_WORDS):
        return Transient(message)
    return Permanent(message)


def may_try_again(error: BaseException) -> bool:
    """Return whether one more try at once makes sense: a pooled connection may have died long ago."""
    return isinstance(error, LOST) and not isinstance(error, PERMANENT)


def is_reset(error: RuntimeError) -> bool:
    """Return whether this is uvloop's error for a connection reset before redis-py noticed. Any other is a defect."""
    return str(error).endswith("the handler is closed")
