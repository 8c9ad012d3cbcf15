"""A running local system: started in order, watched, restarted up to a limit, stopped in order.

Everything runs in the main thread, because children are bound to the thread that started them.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import httpx

from unlost.ops.system.balancer import Balancer, Pair
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.grace import grace_of
from unlost.ops.system.installed import Origin
from unlost.ops.system.layout import Layout
from unlost.ops.system.pooler import Pooler
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.postgres_pair import PostgresPair
from unlost.ops.system.postgres_topologies import PostgresTopology
from unlost.ops.system.redis_topologies import RedisTopology
from unlost.ops.system.restarts import StartStep, Watched, keep_running
from unlost.ops.system.roles import LocalRoles
from unlost.ops.system.sockets import address_of
from unlost.ops.system.valkey import ValkeyServer

READY_WITHIN = 60.0


class SystemStopped(Exception):
    """A stop was requested during the start."""


class System:
    """All processes of a layout."""

    def __init__(
        self,
        layout: Layout,
        say: Callable[[StartStep], None],
        stopping: threading.Event,
        *,
        postgres_options: tuple[str, ...] = (),
        by_socket: bool = False,
        redis: RedisTopology | None = None,
        pair: PostgresTopology | None = None,
        pooled: bool = False,
        balanced: int = 0,
        narrow: bool = False,
        postgres_from: Origin = "wheel",
        redis_from: Origin = "wheel",
    ) -> None:
        """``by_socket``: processes reach both servers by Unix sockets if the paths are short enough.

        ``redis``: servers in place of the one Valkey. ``pair``: a PostgreSQL with a standby, in place of one.
        ``pooled``: listeners reach PostgreSQL by way of a pgbouncer. ``balanced``: so many producers share a journal in
        PostgreSQL, behind a balancer. ``narrow``: daemons have roles with few rights.
        ``postgres_from``, ``redis_from``: whether the servers come from wheels, or are installed on this machine.
        """
        self.layout = layout
        self._by_socket = by_socket
        self._say = say
        self._stopping = stopping
        data, ports = layout.data, layout.ports
        self.pair = pair
        self._postgres = PostgresServer(
            data / "postgres", ports.postgres, log=layout.log("postgres"), options=postgres_options,
            by_socket=by_socket, origin=postgres_from,
        )  # fmt: skip
        self.valkey = ValkeyServer(
            data / "valkey", ports.redis, log=layout.log("valkey"), by_socket=by_socket,
            group=layout.group if narrow else "", origin=redis_from,
        )  # fmt: skip
        self.roles = LocalRoles(pair or self._postgres, layout.group, producers=balanced > 0) if narrow else None
        self.redis = redis
        self.pooler = Pooler(data / "pooler", self.postgres) if pooled else None
        behind = [Pair(free_port(), free_port()) for _ in range(balanced)]
        self.balancer = Balancer(data / "balancer", Pair(ports.producer, ports.stream), behind) if balanced else None
        self._behind = behind
        self.producers: list[Child] = [] if balanced else [layout.producer()]
        self.listeners: list[Child] = []
        self.console: Child | None = None
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Start all processes, and return when they are ready."""
        postgres, valkey = self.postgres, self.valkey
        self._timed(
            "postgres",
            (self.pair or postgres).start,
            address_of(postgres.port, postgres.socket, wanted=self._by_socket),
        )
        if self.pooler is not None:
            self._timed("pgbouncer", self.pooler.start, "transaction mode")
        if self.redis is None:
            self._timed("valkey", valkey.start, address_of(valkey.port, valkey.socket, wanted=self._by_socket))
        else:
            self._timed("valkey", self.redis.start, "several")
        if self.roles is not None:
            self._timed("roles", self.roles.provide, "listener, console and handler have few rights")
        self._start_producers()
        roles = self.roles
        self.listeners = (
            self.layout.listeners(roles.listener_url, self.redis_url, **roles.settings)
            if roles
            else self.layout.listeners(self.database_url, self.redis_url)
        )
        for child in self.listeners:
            child.start()
        for child, url in zip(self.listeners, self.layout.listener_urls, strict=True):
            self._timed(child.name, lambda child=child, url=url: self._await_ready(child, url), url)  # type: ignore[misc]
        if address := self.layout.console_url:
            self.console = console = (
                self.layout.console(
                    roles.console_url, self.redis_url, REPLAY_DATABASE_URL=roles.listener_url, **roles.settings
                )
                if roles
                else self.layout.console(self.database_url, self.redis_url)
            )
            self._timed(console.name, lambda: self._start_ready(console, address), address)

    def _start_producers(self) -> None:
        if self.balancer is not None:
            self.producers = self.layout.producers(self.journal_url, self._behind)
        for child in self.producers:
            child.start()
        for child in self.producers:
            at = self._producer_at if self.balancer is None else self._url_of(child)
            self._timed(child.name, lambda child=child: self.await_producer(child), at)  # type: ignore[misc]
        if self.balancer is not None:
            self._timed("haproxy", self.balancer.start, self._producer_at)

    def await_producer(self, child: Child) -> None:
        """Return when a producer is ready."""
        self._await_ready(child, self._url_of(child))

    @staticmethod
    def _url_of(producer: Child) -> str:
        return f"http://{LOOPBACK}:{producer.environment['PORT']}"

    @property
    def postgres(self) -> PostgresServer:
        """The server that takes rows."""
        return self.pair.primary if self.pair else self._postgres

    @property
    def producer(self) -> Child:
        """The only producer, or the first one."""
        return self.producers[0]

    @property
    def database_url(self) -> str:
        """The cheapest URL by which the processes of this system reach PostgreSQL."""
        if self.pooler is not None:
            return self.pooler.url
        return self.postgres.nearest_url if self.pair is None else self.pair.url

    @property
    def journal_url(self) -> str:
        """By which several producers reach their journal."""
        return self.roles.producer_url if self.roles else (self.pair or self.postgres).url

    @property
    def redis_url(self) -> str:
        """The cheapest URL by which they reach Redis."""
        if self.redis is not None:
            return self.redis.url
        return self.valkey.nearest_url_of_group if self.roles else self.valkey.nearest_url

    @property
    def _producer_at(self) -> str:
        return f"{self.layout.producer_url}  {self.layout.stream_url}"

    @property
    def commands(self) -> tuple[Child, ...]:
        """Unlost's own processes, each reader before what it reads from."""
        return (*([self.console] if self.console else []), *self.listeners, *self.producers)

    def watch(self) -> bool:
        """Keep everything running until a stop is requested; ``False`` if a process keeps dying."""
        return keep_running(list(self._watched()), self._say, self._stopping)

    def _watched(self) -> Iterator[Watched]:
        match self.pair:
            case PostgresPair() as pair:
                yield Watched(lambda: pair.primary.child, pair.take_over)
                yield Watched(lambda: pair.standby.child, pair.follow)
            case _:
                yield Watched(lambda: self.postgres.child, self.postgres.start)
        for node in self.redis.nodes if self.redis else [self.valkey]:
            yield Watched(lambda node=node: node.child, node.start)  # type: ignore[misc]
        if balancer := self.balancer:
            yield Watched(lambda: balancer.child, balancer.start)
        for child in (*(self.redis.sentinels if self.redis else ()), *self.commands):
            yield Watched(lambda child=child: child, child.start)  # type: ignore[misc]

    def stop(self) -> None:
        """Stop readers before what they read from, and the two servers last."""
        for child in self.listeners:  # all at once, so that they drain at the same time
            child.ask_to_stop()
        for child in self.commands:
            if child.pid is not None:
                self._say(_stopped(child.name, child.stop(grace_of(child.environment))))
        if self.balancer is not None:
            self.balancer.stop()
        (self.redis or self.valkey).stop()
        if self.pooler is not None:
            self.pooler.stop()
        (self.pair or self.postgres).stop()
        self._say(StartStep("valkey, postgres", "stopped"))

    def _timed(self, name: str, action: Callable[[], None], address: str) -> None:
        if self._stopping.is_set():
            raise SystemStopped
        self._say(StartStep(name, "starting"))
        started = time.monotonic()
        action()
        self._say(StartStep(name, f"ready in {time.monotonic() - started:.1f} s", detail=address))

    def _start_ready(self, child: Child, url: str) -> None:
        child.start()
        self._await_ready(child, url)

    def _await_ready(self, child: Child, url: str) -> None:
        answer = "no answer"

        def ready() -> bool:
            nonlocal answer
            if self._stopping.is_set():
                raise SystemStopped
            try:
                response = client.get("/health/ready")
            except httpx.TransportError:
                return False
            answer = response.text[:500]
            return response.status_code == 200

        tokens = self.layout.tokens
        headers = {"authorization": f"Bearer {tokens.user}"} if tokens else {}  # for the reasons in the answer
        with httpx.Client(base_url=url, timeout=2, trust_env=False, headers=headers) as client:
            try:
                child.wait_until(ready, READY_WITHIN)
            except ChildFailed as failed:
                raise ChildFailed(child.name, f"never got ready (last answer: {answer})", failed.tail) from None


def _stopped(name: str, code: int | None) -> StartStep:
    """How the stop went. A process killed by SIGTERM was still starting Python, before any signal handler was set."""
    if code == -signal.SIGTERM:
        return StartStep(name, "stopped before it had started")
    return StartStep(name, "stopped", code == 0, "" if code == 0 else f"exit code {code}")
