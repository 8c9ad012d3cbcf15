"""Errors are classed by what to do next, cursors by the number at their end, statements by their name."""

import asyncpg
import pytest
from redis import exceptions

from unlost.listener.claims.redis import errors as redis_errors
from unlost.listener.core.cursor import ordinal_of
from unlost.listener.core.errors import NotPermitted, Permanent, Transient, Unavailable
from unlost.listener.store.postgres import errors
from unlost.listener.store.postgres.statements import statements


@pytest.mark.parametrize("sqlstate", ["22003", "22P05", "23505", "42601", "54001"])
def test_bad_data_is_permanent(sqlstate: str) -> None:
    error = errors.translated(asyncpg.PostgresError.new({"C": sqlstate, "M": "no"}), "storing")
    assert isinstance(error, Permanent)
    assert error.sqlstate == sqlstate


@pytest.mark.parametrize("sqlstate", ["08006", "40001", "40P01", "53300", "57P01", "58030", "55P03", "25006", "XX000"])
def test_an_error_of_the_server_is_transient(sqlstate: str) -> None:
    error = errors.translated(asyncpg.PostgresError.new({"C": sqlstate, "M": "no"}), "storing")
    assert isinstance(error, Transient)
    assert error.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("error", "lost"),
    [(TimeoutError(), False), (ConnectionResetError(), True), (asyncpg.InterfaceError("closed"), True)],
)
def test_an_error_of_the_wire_is_transient(error: Exception, lost: bool) -> None:
    assert isinstance(errors.translated(error, "storing"), Transient)
    assert errors.lost_connection(error) is lost


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), asyncpg.PostgresError.new({"C": "08006"})])
def test_a_failed_connection_is_no_error_of_the_event(error: Exception) -> None:
    assert isinstance(errors.not_begun(error, "storing"), Unavailable)
    broken = errors.not_begun(asyncpg.PostgresError.new({"C": "42601", "M": "no"}), "storing")
    assert isinstance(broken, Permanent), "another connection would not help"


def test_a_right_that_we_lack_is_an_outage_and_one_that_a_handler_lacks_is_its_mistake() -> None:
    error = asyncpg.PostgresError.new({"C": "42501", "M": "permission denied for table events"})
    for ours in (errors.translated(error, "storing"), errors.not_begun(error, "storing")):
        assert isinstance(ours, NotPermitted)
        assert str(ours).startswith("storing: a right is missing: permission denied for table events (SQLSTATE 42501)")
    assert isinstance(errors.translated(error, "handling", own_tables=False), Permanent)


@pytest.mark.parametrize("sqlstate", errors.RESTORING)
def test_tables_of_ours_that_are_missing_are_an_outage_and_a_handlers_are_its_mistake(sqlstate: str) -> None:
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "no"})
    assert isinstance(errors.translated(error, "storing"), Unavailable)
    assert "is PostgreSQL being restored?" in str(errors.translated(error, "storing"))
    assert not isinstance(errors.translated(error, "handling", own_tables=False), Unavailable)


def test_data_that_cannot_be_sent_is_permanent_and_costs_no_connection() -> None:
    error = asyncpg.exceptions._base.DataError("invalid input for query argument $1: value out of int64 range")  # noqa: SLF001
    assert isinstance(errors.translated(error, "reading"), Permanent)
    assert not errors.lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("refused"),
        exceptions.TimeoutError("silent"),
        exceptions.BusyLoadingError("loading"),
        exceptions.MaxConnectionsError("pool"),
        exceptions.ReadOnlyError("replica"),
        exceptions.ResponseError("PLACECHANGED this is another"),
        exceptions.OutOfMemoryError("full"),
        OSError("name resolution"),
    ],
)
def test_an_error_of_redis_is_transient(error: Exception) -> None:
    assert isinstance(redis_errors.translated(error, "claiming"), Transient)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("WRONGPASS"),
        exceptions.NoPermissionError("NOPERM"),
        exceptions.ResponseError("WRONGPASS invalid"),
        exceptions.ResponseError("NOAUTH Authentication required."),
    ],
)
def test_a_refused_password_is_permanent(error: Exception) -> None:
    assert isinstance(redis_errors.translated(error, "claiming"), Permanent)
    assert not redis_errors.may_try_again(error)


@pytest.mark.parametrize(("cursor", "ordinal"), [("j-12", 12), ("007", 7), ("12-j", None), ("", None), ("٣", None)])
def test_the_number_at_the_end_of_a_cursor(cursor: str, ordinal: int | None) -> None:
    assert ordinal_of(cursor) == ordinal


def test_statements_are_found_by_name() -> None:
    found = statements("unlost.listener.store.postgres", "cursors.sql")
    assert set(found) == {"start", "read", "read_all", "read_in", "advance", "reset"}


@pytest.mark.parametrize(
    ("sqlstate", "gone"),
    [("57P01", True), ("57P02", True), ("57P03", True), ("25006", True), ("57014", False), ("53300", False)],
)
def test_a_server_that_ends_takes_all_its_connections_along(sqlstate: str, gone: bool) -> None:
    assert errors.lost_connection(asyncpg.PostgresError.new({"C": sqlstate, "M": "no"})) is gone
