"""The roles of a local system, where its PostgreSQL does not answer."""

import pytest

from tests.support.fakes import as_a
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.ports import free_port
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.roles import LocalRoles


class Away:
    """For ``PostgresServer``: nobody answers there."""

    url = f"postgresql://unlost:hidden@127.0.0.1:{free_port()}/unlost"


def test_a_server_that_does_not_answer_ends_the_start_with_one_sentence():
    with pytest.raises(ChildFailed) as failed:
        LocalRoles(as_a(PostgresServer, Away()), "unlost").provide()
    said = str(failed.value)
    assert said.startswith("postgres has no tables and roles yet: connecting to PostgreSQL at 127.0.0.1:")
    assert "\n" not in said
    assert "hidden" not in said
