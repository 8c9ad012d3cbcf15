"""The plugin for pytest: fixtures for tests of handlers. Everything is imported when a fixture is used."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from unlost.ops.testkit.app import TestApp


@pytest.fixture
def unlost_app() -> "Iterator[Callable[..., TestApp]]":
    """A function that enters ``TestApp(...)`` with its arguments; all are left at the end of the test.

    Its events run by ``run``. In an asynchronous test, use ``async with TestApp(...)``.
    """
    from unlost.ops.testkit.app import TestApp

    with ExitStack() as opened:

        def enter(target: object, **options: Any) -> "TestApp":
            return opened.enter_context(TestApp(target, **options))

        yield enter


@pytest.fixture(scope="session")
def unlost_postgres() -> Iterator[str]:
    """The address of a PostgreSQL that runs as long as the tests: ``TestApp(app, postgres=unlost_postgres)``."""
    from unlost.ops.testkit.postgres import running_postgres

    with running_postgres() as server:
        yield server.url
