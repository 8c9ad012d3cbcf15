"""Which servers of a Redis Cluster are asked for its topology, and in which order."""

from collections.abc import Callable, Iterable

import pytest
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004  the library's name

from unlost.listener.claims.redis import servers
from unlost.listener.claims.redis.servers import RedisServers, redis_servers
from unlost.listener.core.errors import Permanent

URL = "redis://:secret@{}"
SLOTS = [[0, 8_000, [b"one", 1]], [8_001, 16_383, [b"two", 2]]]


class Network:
    """For ``Clients``: hosts that answer or not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dead: set[str] = set()
        self.kept: list[str] = []
        self.answer: object = SLOTS
        self.closed = False

    def __call__(self, **_: object) -> "Network":
        return self

    def at(self, url: str) -> "Server":
        return Server(self, url.rpartition("@")[2])

    async def keep(self, urls: Iterable[str]) -> None:
        self.kept = [url.rpartition("@")[2] for url in urls]

    async def close(self) -> None:
        self.closed = True


class Server:
    """For ``RedisCalls``."""

    def __init__(self, network: Network, host: str) -> None:
        self._network = network
        self.host = host

    async def ask_again(self, read: Callable[[object], object], *command: bytes | str | int) -> object:
        assert command == ("CLUSTER", "SLOTS")
        self._network.asked.append(self.host)
        if self.host in self._network.dead:
            raise ConnectionError(f"{self.host} is dead")
        if isinstance(self._network.answer, Exception):
            raise self._network.answer
        return read(self._network.answer)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(servers, "Clients", network)
    return network


def tag(number: int) -> bytes:
    return b"g.%d" % number


async def asked(network: Network, found: RedisServers) -> list[str]:
    """Look once more; return who was asked, in this order."""
    network.asked.clear()
    found.doubt()
    await found.find(tag)
    return network.asked


async def failed(network: Network, found: RedisServers) -> tuple[list[str], str]:
    network.asked.clear()
    with pytest.raises(ConnectionError) as error:
        await found.find(tag)
    return network.asked, str(error.value)


async def test_each_look_asks_three_and_the_next_one_begins_with_those_that_were_not_asked(network: Network) -> None:
    network.dead = {*"abcde"}
    found = redis_servers(URL.format("a,b,c,d,e"))
    assert await failed(network, found) == (["a", "b", "c"], "a is dead")
    assert await failed(network, found) == (["d", "e", "a"], "d is dead")
    network.dead = {"b"}
    assert await asked(network, found) == ["b", "c"]


async def test_fewer_servers_are_asked_once_each(network: Network) -> None:
    network.dead = {*"ab"}
    assert await failed(network, redis_servers(URL.format("a,b"))) == (["a", "b"], "a is dead")


async def test_the_node_that_answered_is_asked_first_and_then_the_primaries_that_it_named(network: Network) -> None:
    network.dead = {"a"}
    found = redis_servers(URL.format("a,b,c"))
    homes = await found.find(tag)
    assert network.asked == ["a", "b"]
    assert len(homes) == 2
    assert network.kept == ["b", "one:1", "two:2"]
    network.asked.clear()
    assert await found.find(tag) == homes
    assert network.asked == [], "only every few seconds, or after a failure"
    network.dead = {"b", "one:1"}
    assert await asked(network, found) == ["b", "one:1", "two:2"]
    network.dead = {"two:2"}
    assert await asked(network, found) == ["two:2", "one:1"]
    await found.close()
    assert network.closed


async def test_a_server_that_is_no_node_is_used_alone_and_named_where_there_are_several(network: Network) -> None:
    network.answer = ResponseError("ERR This instance has cluster support disabled")
    (home,) = await (found := redis_servers(URL.format("a"))).find(tag)
    assert home.number == 0
    found.doubt()
    network.dead = {"a"}
    several = redis_servers(URL.format("a,b"))
    with pytest.raises(Permanent, match="but b is no node of a Redis Cluster"):
        await several.find(tag)
