"""PostgreSQL's and asyncpg's errors, translated by what to do next. Pure: one table, one function.

What is unknown counts as transient: trying again costs a moment, burying by mistake costs a replay.
"""

from collections.abc import Mapping

import asyncpg

from unlost.listener.core.errors import Permanent, Transient, Unavailable, UnlostError

PERMANENT_CLASSES = {
    "22": "the data is refused",
    "23": "a constraint is violated",
    "42": "the statement does not fit the schema, or is not permitted",
    "54": "a limit of the server is exceeded",
}
"""Classes of SQLSTATE for which the same call fails every time: it is about the data or the schema."""

UNAVAILABLE_CLASSES = frozenset({"40", "53", "57"})
"""Classes of SQLSTATE that say nothing of the data: deadlocks, resources, shutdown. A lost connection (08) may: a row
may be what a proxy, or the server, cannot bear."""
READ_ONLY, LOCK_NOT_AVAILABLE = "25006", "55P03"
QUERY_CANCELED = "57014"
"""May be this row's own: a trigger that hangs, and a time limit in the server."""

LOST = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)
"""What tells that a connection is gone, and that the pool's others probably are too. A timeout is an OSError."""

LIBRARY_ERRORS = (asyncpg.PostgresError, *LOST)

MISCONFIGURED_CLASSES = frozenset({"28", "3D"})


def translated(error: BaseException, doing: str) -> UnlostError:
    """The error as one of ours; ``doing`` says in the message what was being done."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if meaning := PERMANENT_CLASSES.get(state[:2]):
            return Permanent(f"{doing}: {meaning}: {error} (SQLSTATE {state})", sqlstate=state)
        kind = Unavailable if _says_unavailable(state) else Transient
        return kind(f"{doing}: {error} (SQLSTATE {state})", sqlstate=state or None)
    if isinstance(error, TimeoutError):
        return Transient(f"{doing}: PostgreSQL did not answer in time")
    if not_sendable(error):
        return Permanent(f"{doing}: the data cannot be sent: {error}")
    return Transient(f"{doing}: {type(error).__name__}: {error}")


def not_begun(error: BaseException, doing: str) -> UnlostError:
    """The same before anything was asked, for want of a connection: that says nothing of any data."""
    if isinstance(error, TimeoutError):
        return Unavailable(f"{doing}: PostgreSQL did not answer in time, or all connections were in use")
    told = translated(error, doing)
    return Unavailable(str(told), sqlstate=told.sqlstate) if type(told) is Transient else told


def most_telling(failed: Mapping[str, BaseException]) -> BaseException:
    """Of what connecting to several servers ended with, by their places, the error that stands for all.

    What a server said rather than that one is not there; else each server with what is the matter with it.
    """
    errors = list(failed.values())
    if len(errors) == 1 or all(isinstance(error, TimeoutError) for error in errors):
        return errors[0]
    said = [error for error in errors if isinstance(error, asyncpg.PostgresError)]
    if said:
        return said[0]
    return ConnectionError("; ".join(f"{place}: {_short(error)}" for place, error in failed.items()))


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def lost_connection(error: BaseException) -> bool:
    """Whether the other pooled connections are to be given up too: the server went away, or takes no rows any more."""
    if isinstance(error, TimeoutError) or not_sendable(error):
        return False
    return isinstance(error, LOST) or (isinstance(error, asyncpg.PostgresError) and _shutting_down(error))


def not_sendable(error: BaseException) -> bool:
    """Whether asyncpg itself refused the data, before anything was sent: the connection is as good as before."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def _says_unavailable(state: str) -> bool:
    if state in (READ_ONLY, LOCK_NOT_AVAILABLE):
        return True
    return state[:2] in UNAVAILABLE_CLASSES and state != QUERY_CANCELED


def _shutting_down(error: asyncpg.PostgresError) -> bool:
    return (error.sqlstate or "") in ("57P01", "57P02", "57P03", READ_ONLY)
