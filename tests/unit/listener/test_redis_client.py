"""How the Redis client is built: it neither limits nor retries calls, because each call has our own limit."""

import pytest

from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.rights import NEWER, rules
from unlost.listener.core.errors import Misconfigured


async def test_an_answer_has_no_limit_of_the_librarys_but_connecting_has():
    client = connect_redis("redis://u:sesame@h:7/3", timeout=0.7, connections=5)
    pool = client.connection_pool
    connection = pool.make_connection()
    assert connection.socket_timeout is None
    assert connection.socket_connect_timeout == 0.7
    assert connection.retry.get_retries() == 0
    assert connection.health_check_interval == 0
    assert (connection.host, connection.port, connection.db) == ("h", 7, 3)
    assert (pool.max_connections, getattr(pool, "timeout", "none")) == (5, None)
    assert connection.protocol == 2, "with another one a server may send what was not asked for"
    assert connection.encoder.decode_responses is False
    await client.aclose()


def test_commands_that_not_every_server_knows_are_allowed_only_if_asked_for():
    plain, all_of_them = rules("g").split(), rules("g", newer=True).split()
    assert [one for one in all_of_them if one not in plain] == [f"+{one}" for one in NEWER]
    assert plain[0] == "~{g.0}*"


def test_an_invalid_address_is_refused_with_a_sentence():
    with pytest.raises(Misconfigured, match=r"^REDIS_URL is no address of a Redis: "):
        connect_redis("http://h/")
