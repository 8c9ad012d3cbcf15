"""A user of Redis with few rights, on a real Valkey: listeners can work, and everything else is refused."""

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.rights import rules
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Won
from unlost.listener.core.errors import UnlostError
from unlost.listener.core.store_mark import StoreMark
from unlost.ops.system.valkey import ValkeyServer

FEW = [ClaimRequest(f"few {i}", bytes(32)) for i in range(20)]
DATABASE = 0
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"


@pytest.fixture
async def user(valkey_server: ValkeyServer) -> AsyncIterator[tuple[str, str]]:
    """A user that has the rights of a listener of group ``g``: its name, and the URL by which it connects."""
    name, administrator = f"claims-{secrets.token_hex(4)}", Redis.from_url(valkey_server.url)
    await administrator.execute_command("ACL", "SETUSER", name, "on", ">pw", *rules("g", newer=True).split())
    yield name, f"redis://{name}:pw@{urlsplit(valkey_server.url).netloc.rpartition('@')[2]}/{DATABASE}"
    await administrator.execute_command("ACL", "DELUSER", name)
    await administrator.aclose()


@pytest.fixture
async def claims_of(user: tuple[str, str]) -> AsyncIterator[Callable[[str], RedisClaims]]:
    made = []

    def make(group: str) -> RedisClaims:
        servers = redis_servers(user[1])
        made.append(RedisClaims(servers, token="a", group=group, lease_seconds=30, window_seconds=600))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_its_rights_are_enough(
    user: tuple[str, str], claims_of: Callable[[str], RedisClaims], valkey_server: ValkeyServer
) -> None:
    claims = claims_of("g")
    claims.file_under("store")
    await claims.place()
    assert await claims.remember(StoreMark("g", 1, "i")) is None
    assert await claims.claim(FEW, take_over=0) == [Won(1, 0)] * 20
    assert await claims.look(FEW) == [False] * 20
    assert await claims.settle(FEW, "done") == [True] * 20
    administrator = Redis.from_url(valkey_server.url, decode_responses=True)
    denied = [one for one in await administrator.acl_log() if one["username"] == user[0]]
    await administrator.aclose()
    assert denied == [], "nothing was tried in vain"


@pytest.mark.parametrize("other", ["h", "g.x", "g.0", "g.0.0", "g.00", "gg"])
async def test_another_group_is_closed_to_it_whatever_its_name(
    claims_of: Callable[[str], RedisClaims], other: str
) -> None:
    with pytest.raises(UnlostError, match=r"NOPERM|permission"):
        await claims_of(other).place()


REFUSED = (
    ("GET", "{g.1}place"), ("GET", "{g.0"), ("GET", "users"), ("SET", "{h.0}place", "x"), ("FLUSHALL",), ("FLUSHDB",),
    ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/tmp"), ("ACL", "LIST"), ("KEYS", "*"), ("SHUTDOWN",),
    ("CLIENT", "LIST"), ("SCRIPT", "FLUSH"), ("FUNCTION", "LIST"), ("MONITOR",),
    ("RENAME", "{g.0}a", "{g.0}b"), ("EXPIRE", "{g.0}a", "1"), ("PUBLISH", "c", "m"), ("REPLICAOF", "NO", "ONE"),
    ("EVAL", "return redis.call('GET', KEYS[1])", "1", "{h.0}place"),
)  # fmt: skip


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
async def test_everything_else_is_refused(user: tuple[str, str], command: tuple[str, ...]) -> None:
    client = Redis.from_url(user[1])
    with pytest.raises(NoPermissionError):
        await client.execute_command(*command)
    await client.aclose()


async def test_a_script_reaches_no_key_of_others(user: tuple[str, str]) -> None:
    client = Redis.from_url(user[1])
    with pytest.raises(Exception, match=r"permission|ACL"):
        await client.eval("return redis.call('GET', '{h.0}place')", 0)
    await client.aclose()


def test_the_page_has_the_same_rights() -> None:
    lines = [one.split(" >password ")[1] for one in PAGE.read_text().splitlines() if one.startswith("ACL SETUSER")]
    assert lines == [rules("unlost", newer=True), rules("unlost", cluster=True, newer=True)]
