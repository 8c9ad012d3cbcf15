"""The subjects of promises: code of our own, and its twin that uses the library as its authors meant."""

import pytest

from unlost.listener.fast.pool import FAST
from unlost.listener.store.postgres.connections import ConnectionKind
from unlost.listener.store.postgres.pool import PLAIN


@pytest.fixture(params=[PLAIN, FAST], ids=["plain", "fast"])
def kind(request: pytest.FixtureRequest) -> ConnectionKind:
    """How connections to PostgreSQL are made and kept."""
    return request.param
