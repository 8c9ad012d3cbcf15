"""Redis' and redis-py's errors, translated by what to do next. Pure: one table, one function."""

from redis import exceptions

from unlost.listener.core.errors import Permanent, Transient, UnlostError

PERMANENT = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)
"""Nothing that the listener does helps: somebody must change a password or a permission."""

PERMANENT_WORDS = ("NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "ERR unknown command")

LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
"""The wire failed, or was never there (refused, silent, reset, name not resolved, still loading, pool exhausted)."""

LIBRARY_ERRORS = (exceptions.RedisError, OSError)


def translated(error: BaseException, doing: str) -> UnlostError:
    """The error as one of ours; ``doing`` says in the message what was being done."""
    message = f"{doing}: {type(error).__name__}: {error}"
    if isinstance(error, PERMANENT):
        return Permanent(message)
    if isinstance(error, LOST) or not str(error).startswith(PERMANENT_WORDS):
        return Transient(message)
    return Permanent(message)


def may_try_again(error: BaseException) -> bool:
    """Whether one more try at once makes sense: a pooled connection may have died long ago."""
    return isinstance(error, LOST) and not isinstance(error, PERMANENT)


def is_reset(error: RuntimeError) -> bool:
    """Whether uvloop says so of a connection that was reset before redis-py noticed; anything else is a defect."""
    return str(error).endswith("the handler is closed")
