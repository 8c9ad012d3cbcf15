"""Which servers keep a group's claims: one Redis, the primaries of a Cluster, or the primary that Sentinels name.

``find`` looks again every few seconds, and at once after a call failed: a moved slot, a primary that became a replica,
a server that does not answer. No call is repeated on another server: each call names its place, another server is
another place, and would refuse the call.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from redis.exceptions import (
    ConnectionError,  # noqa: A004  the library's name
    InvalidResponse,
    NoPermissionError,
    ResponseError,
)

from unlost.listener.claims.redis.address import RedisAddress, host_of, read_address
from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.client import Clients
from unlost.listener.claims.redis.errors import LIBRARY_ERRORS
from unlost.listener.claims.redis.topology import Node, SlotRange, Tag, shards, slot_ranges
from unlost.listener.core.errors import Misconfigured, Permanent

LOOK_EVERY_SECONDS = 5.0
ASKED_AT_MOST = 3
"""Nodes of a Cluster that are asked for its topology in one look. The next look begins with another one."""
NO_CLUSTER = ("cluster support disabled", "unknown command")


class TagServer(NamedTuple):
    """Where the keys under one hash tag are kept."""

    number: int
    calls: RedisCalls


class RedisServers(Protocol):
    """The servers that keep a group's claims."""

    async def find(self, tag: Tag) -> Sequence[TagServer]:
        """Return the hash tags to use and where each is kept. Raises one of the library's errors, or ``Permanent``."""
        ...

    def doubt(self) -> None:
        """Record that a call failed, so that ``find`` looks again."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def redis_servers(url: str, *, timeout: float = 0.3, connections: int = 4) -> RedisServers:
    """Return the servers that ``REDIS_URL`` names. Nothing is connected yet."""
    try:
        address = read_address(url)
    except ValueError as error:
        raise Misconfigured(f"REDIS_URL is no address of a Redis: {error}") from None
    clients = Clients(timeout=timeout, connections=connections)
    if address.service:
        return _BySentinels(address, clients)
    for server in address.urls:
        clients.at(server)  # so that what is no address is reported now
    return _Direct(address, clients)


class _Direct:
    """One Redis, or a Redis Cluster: the server says which."""

    def __init__(self, address: RedisAddress, clients: Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clients = clients
        self._clock = clock
        self._asked = list(address.urls)
        self._homes: tuple[TagServer, ...] = ()
        self._look_at = 0.0

    def doubt(self) -> None:
        """See ``RedisServers``."""
        self._look_at = 0.0

    async def find(self, tag: Tag) -> Sequence[TagServer]:
        """See ``RedisServers``."""
        if not self._homes or self._clock() >= self._look_at:
            ranges = await self._ask()
            self._homes = (await self._cluster(ranges, tag)) if ranges is not None else self._alone()
        return self._homes

    async def close(self) -> None:
        """See ``RedisServers``."""
        await self._clients.close()

    def _alone(self) -> tuple[TagServer, ...]:
        if len(self._address.urls) > 1:
            raise Permanent(
                f"REDIS_URL names several servers, but {host_of(self._asked[0])} is no node of a Redis Cluster: "
                "name one server, or Sentinels with redis+sentinel://"
            )
        self._look_at = float("inf")
        return (TagServer(0, self._clients.at(self._address.urls[0])),)

    async def _cluster(self, ranges: list[SlotRange], tag: Tag) -> tuple[TagServer, ...]:
        found = shards(ranges, tag)
        if not found:
            raise ConnectionError("this node of a Redis Cluster knows of no hash slot")
        urls = {node: self._address.of(*node) for node in found}
        self._asked = list(dict.fromkeys((self._asked[0], *urls.values(), *self._address.urls)))
        await self._clients.keep((self._asked[0], *urls.values()))
        self._look_at = self._clock() + LOOK_EVERY_SECONDS
        return tuple(TagServer(number, self._clients.at(urls[node])) for node, number in found.items())

    async def _ask(self) -> list[SlotRange] | None:
        """Ask for the topology; ``None`` from a server that is no node of a Cluster."""
        failed: list[Exception] = []
        for _ in range(min(ASKED_AT_MOST, len(self._asked))):
            try:
                return await self._ask_at(self._asked[0])
            except LIBRARY_ERRORS as error:
                failed.append(error)
                self._asked = self._asked[1:] + self._asked[:1]
        raise failed[0]

    async def _ask_at(self, url: str) -> list[SlotRange] | None:
        host = host_of(url)
        try:
            return await self._clients.at(url).ask_again(lambda reply: slot_ranges(reply, host), "CLUSTER", "SLOTS")
        except NoPermissionError:
            return None  # if it is a node nevertheless, it answers MOVED
        except ResponseError as error:
            if any(sign in str(error) for sign in NO_CLUSTER):
                return None
            raise


class _BySentinels:
    """The primary that most Sentinels name."""

    def __init__(self, address: RedisAddress, clients: Clients, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clients = clients
        self._clock = clock
        self._homes: tuple[TagServer, ...] = ()
        self._look_at = 0.0

    def doubt(self) -> None:
        """See ``RedisServers``."""
        self._look_at = 0.0

    async def find(self, tag: Tag) -> Sequence[TagServer]:  # noqa: ARG002  one server keeps all tags
        """See ``RedisServers``."""
        if not self._homes or self._clock() >= self._look_at:
            url = self._address.of(*await self._primary())
            self._homes = (TagServer(0, self._clients.at(url)),)
            await self._clients.keep((url, *self._address.urls))
            self._look_at = self._clock() + LOOK_EVERY_SECONDS
        return self._homes

    async def close(self) -> None:
        """See ``RedisServers``."""
        await self._clients.close()

    async def _primary(self) -> Node:
        """Ask all Sentinels. One that was cut off may still name an earlier primary, so the most named one counts."""
        urls = self._address.urls
        answers = await asyncio.gather(*map(self._named_by, urls))
        named = Counter(answer for answer in answers if isinstance(answer, Node))
        if not named:
            why = "; ".join(f"{host_of(url)}: {answer}" for url, answer in zip(urls, answers, strict=True))
            raise ConnectionError(f"no Sentinel names the primary {self._address.service!r}: {why}")
        return named.most_common(1)[0][0]

    async def _named_by(self, url: str) -> Node | str:
        command = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service
        try:
            return await self._clients.at(url).ask_again(_named, *command) or "does not know it"
        except LIBRARY_ERRORS as error:
            return str(error) or type(error).__name__


def _named(reply: object) -> Node | None:
    match reply:
        case None:
            return None
        case [bytes(host), bytes(port)] if host and port.isdigit():
            # The same form as in a topology, and so the same checks.
            return slot_ranges([[0, 0, [host, int(port)]]], "")[0].node
    raise InvalidResponse(f"asked for a primary, the Sentinel answered {repr(reply)[:60]}")
