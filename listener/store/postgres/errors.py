"""Errors of PostgreSQL and asyncpg, translated by what to do next. Pure: one table, one function.

Unknown errors count as transient: another attempt costs a moment, a wrong burial costs a replay.
"""

from collections.abc import Mapping

import asyncpg

from unlost.listener.core.errors import NotPermitted, Permanent, Transient, Unavailable, UnlostError
from unlost.ops.kit.telemetry.tls import tls_failure

PERMANENT_CLASSES = {
    "22": "the data is refused",
    "23": "a constraint is violated",
    "42": "the statement does not fit the schema, or is not permitted",
    "54": "a limit of the server is exceeded",
}
"""Classes of SQLSTATE for which the same call always fails: the data or the schema is at fault."""

UNAVAILABLE_CLASSES = frozenset({"40", "53", "57"})
"""Classes of SQLSTATE that say nothing about the data: deadlocks, resources, shutdown.

A lost connection (08) may be the data's fault: a row may be more than a proxy or the server can bear.
"""
READ_ONLY, LOCK_NOT_AVAILABLE = "25006", "55P03"
INSUFFICIENT_PRIVILEGE = "42501"
RESTORING = {
    "42P01": "a table",
    "42703": "a column",
    "42P10": "a key",
    "3F000": "the group's schema",
    "3D000": "the database",
}
"""SQLSTATEs of objects that are missing during a restore. Our migrations made them and they will return: an outage.

Keys come last, after all rows. Each insert names its key, so nothing is inserted before it is there.
"""
QUERY_CANCELED = "57014"
"""May be this row's own fault: a trigger that hangs, and a time limit in the server."""

FORGOTTEN = frozenset({"26000", "42P05"})
"""A prepared statement is unknown, or its name is taken: a pooler in transaction mode gave us another session."""

LOST = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)
"""Errors that show that a connection is gone, and probably the pool's others too. A timeout is an OSError."""

LIBRARY_ERRORS = (asyncpg.PostgresError, *LOST)

MISCONFIGURED_CLASSES = frozenset({"28", "3D"})


def translated(error: BaseException, doing: str, *, own_tables: bool = True) -> UnlostError:
    """Return the error as one of ours. ``doing`` says in the message what was being done.

    ``own_tables`` is false for a handler's statements: a table that they miss is their mistake.
    """
    if isinstance(error, LOST) and (failed := tls_failure(error, ca="DATABASE_CA", cert="DATABASE_CERT")):
        return Transient(f"{doing}: {failed}")
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if own_tables and (lacking := RESTORING.get(state)):
            return Unavailable(
                f"{doing}: {lacking} is missing: {error} (SQLSTATE {state}); is PostgreSQL being restored?",
                sqlstate=state,
            )
        if own_tables and state == INSUFFICIENT_PRIVILEGE:
            return NotPermitted(
                f"{doing}: a right is missing: {error} (SQLSTATE {state}); grant it, for example by `unlost migrate "
                "--grants-listener ROLE` or `--grants-console ROLE`",
                sqlstate=state,
            )
        if own_tables and state in FORGOTTEN:
            return Unavailable(
                f"{doing}: a pooler in transaction mode before PostgreSQL keeps no prepared statements: {error} "
                f"(SQLSTATE {state}); none are used from now on",
                sqlstate=state,
            )
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
    """Translate an error from before any statement, for lack of a connection: it says nothing about data."""
    if isinstance(error, TimeoutError):
        return Unavailable(f"{doing}: PostgreSQL did not answer in time, or all connections were in use")
    meant = translated(error, doing)
    return Unavailable(str(meant), sqlstate=meant.sqlstate) if type(meant) is Transient else meant


def most_telling(failed: Mapping[str, BaseException]) -> BaseException:
    """Choose one error to raise after connecting to several servers failed; ``failed`` has one for each place.

    An error that a server reported is preferred. Otherwise the message names each server with its error.
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
    """Return whether to give up the other pooled connections too: the server went away, or accepts no rows any more."""
    if isinstance(error, TimeoutError) or not_sendable(error):
        return False
    if forgot_statements(error):
        return True
    return isinstance(error, LOST) or (isinstance(error, asyncpg.PostgresError) and _shutting_down(error))


def forgot_statements(error: BaseException) -> bool:
    """Return whether a prepared statement was not found again."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in FORGOTTEN


def not_sendable(error: BaseException) -> bool:
    """Return whether asyncpg refused the data before sending anything: the connection is still good."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def _says_unavailable(state: str) -> bool:
    if state in (READ_ONLY, LOCK_NOT_AVAILABLE):
        return True
    return state[:2] in UNAVAILABLE_CLASSES and state != QUERY_CANCELED


def _shutting_down(error: asyncpg.PostgresError) -> bool:
    return (error.sqlstate or "") in ("57P01", "57P02", "57P03", READ_ONLY)
