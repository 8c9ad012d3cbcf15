"""Fixtures for all tests, and one that runs for every test."""

import gc
import os
from collections.abc import Iterator
from itertools import islice

import pytest
import structlog

from tests.support.clusters import remove_cluster
from tests.support.servers import (
    _database_numbers,
    _databases,
    cluster_url,
    database_url,
    own_postgres,
    own_valkey,
    postgres_server,
    redis_url,
    valkey_cluster,
    valkey_server,
)
from unlost.dlq.commands.replay import ReplaySettings
from unlost.listener.app.settings import ListenerSettings
from unlost.ops.audit.places import AuditSettings
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.system.up import UpSettings
from unlost.producer.app.settings import ProducerSettings

__all__ = [
    "_database_numbers",
    "_databases",
    "cluster_url",
    "database_url",
    "own_postgres",
    "own_valkey",
    "postgres_server",
    "redis_url",
    "valkey_cluster",
    "valkey_server",
]


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> None:
    """Environment variables with a system's addresses must not change any test."""
    for settings in (ListenerSettings, ProducerSettings, AuditSettings, UpSettings, ReplaySettings, ConsoleSettings):
        for name in settings.model_fields:
            os.environ.pop(name.upper(), None)


@pytest.fixture(autouse=True)
def no_log_is_configured_for_later_tests() -> Iterator[None]:
    """A command that a test runs in this process configures the log, and its level would hide lines of other tests."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="session")
def no_cluster_is_left() -> Iterator[None]:
    """The cluster that servers of tests begin with is removed at the end."""
    yield
    remove_cluster()


def pytest_sessionstart() -> None:
    """Garbage is not collected while tests are: what is loaded stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Later collections scan what tests leave alone: not again the modules and the tests, a million objects."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker begins with its share of the longest tests. Started last, they would be waited for alone."""
    longest = [item for item in items if item.get_closest_marker("long")]
    others = iter([item for item in items if not item.get_closest_marker("long")])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    left = len(items)
    items.clear()
    for worker in range(workers):
        share = left // (workers - worker)  # how pytest-xdist splits them at the start
        left -= share
        own = longest[worker::workers]
        items += own + list(islice(others, max(0, share - len(own))))
