"""A NATS server for journals, and the address of one that nobody has made yet."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.brokers import running
from unlost.ops.system.nats import NatsServer

NUMBERS = count(1)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with running(NatsServer) as server:
        yield server


@pytest.fixture
def jetstream_url(nats_server: NatsServer) -> str:
    return f"nats://{nats_server.host}/journal-{next(NUMBERS)}?monitor=http://{nats_server.monitor}"
