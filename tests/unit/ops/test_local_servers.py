"""The servers on which everything else is tested: they keep data, and can be killed, frozen and thawed."""

import stat
import subprocess
import sys
import textwrap

import asyncpg
import psutil
import pytest
import redis

from tests.support.servers import running_postgres, running_valkey
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Won
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.sockets import address_of
from unlost.ops.system.valkey import ValkeyServer


async def test_each_test_gets_an_empty_database_and_fsync_is_on(database_url):
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("show fsync") == "on"
    assert await connection.fetchval("show synchronous_commit") == "on"
    assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(database_url.replace("unlost:", "unlost:x"))


def test_each_test_gets_an_empty_redis(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("k", "v")


async def test_postgres_survives_a_crash_with_its_data(own_postgres):
    connection = await asyncpg.connect(own_postgres.url)
    await connection.execute("create table t as select 1 as x")
    own_postgres.kill()
    connection.terminate()
    own_postgres.start()
    assert own_postgres.sql("select x from t", "unlost") == "1"


async def test_a_frozen_postgres_is_silent_until_thawed(own_postgres):
    connection = await asyncpg.connect(own_postgres.url)
    own_postgres.freeze()
    with pytest.raises(TimeoutError):
        await connection.fetchval("select 1", timeout=0.2)
    own_postgres.thaw()
    connection.terminate()
    assert own_postgres.sql("select 2") == "2"


def test_valkey_keeps_keys_over_a_restart_and_forgets_when_wiped(own_valkey):
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set("k", "v")
    own_valkey.restart()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.get("k") == b"v"
    own_valkey.stop()
    own_valkey.wipe()
    own_valkey.start()
    with redis.Redis.from_url(own_valkey.url) as client:
        assert client.get("k") is None


async def test_neighbours_reach_postgres_by_its_socket_which_is_nobody_elses():
    with running_postgres(by_socket=True) as server:
        server.kill()
        server.start()
        connection = await asyncpg.connect(server.nearest_url)
        assert await connection.fetchval("select inet_client_addr() is null and current_database() = 'unlost'")
        await connection.close()
        assert server.socket is not None
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.nearest_url.replace("unlost:", "unlost:x"))
        assert server.sql("select inet_client_addr()") == "127.0.0.1", "loopback stays"


async def test_claims_reach_valkey_by_its_socket_which_is_nobody_elses():
    with running_valkey(by_socket=True) as server:
        server.kill()
        server.start()
        client = connect_redis(server.nearest_url)
        claims = RedisClaims(
            redis_servers(server.nearest_url), token="me", group="g", lease_seconds=30, window_seconds=600
        )
        assert (await claims.claim([ClaimRequest("e", bytes(32))], take_over=False)) == [Won(1, 0)]
        assert all(str(server.socket) in one["addr"] for one in await client.client_list())
        await claims.close()
        await client.aclose()
        assert server.socket is not None
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        stranger = redis.Redis.from_url(server.nearest_url.replace("unix://:", "unix://:x"))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis.from_url(server.url) as far:
            assert far.ping(), "loopback stays"


def test_where_the_path_is_too_long_for_a_socket_there_is_loopback(tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    valkey = ValkeyServer(deep, 6379, by_socket=True)
    assert valkey.nearest_url == valkey.url
    assert PostgresServer(deep, 5432, by_socket=True).socket is None
    assert "path is too long" in address_of(6379, valkey.socket, wanted=True)


def test_a_child_dies_with_its_killed_parent(tmp_path):
    program = textwrap.dedent(
        """
        import sys, pathlib
        from unlost.ops.system.child import Child
        child = Child("sleeper", ["sleep", "1000"], log=pathlib.Path(sys.argv[1]))
        child.start()
        print(child.pid, flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        sleeper = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert not psutil.wait_procs([sleeper], timeout=10)[1]
