"""Links between a process and a server. Requests and replies are delayed, lost, cut, or applied long after the caller
gave up. One ``Link`` joins one process (by its name, across restarts) and one server.

    ok       delays only
    refused  each request fails at once
    silent   nothing passes; half of what was sent meanwhile arrives when the link heals
    deaf     requests arrive, replies do not
    slow     delays around the caller's time limit
    flaky    some of everything: lost requests, lost replies, cut connections, requests applied too late
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from tests.simulation.world import AFTERLIFE, Process, World
from unlost.listener.ports.membership import MembershipView

T = TypeVar("T")


class Lost(Exception):
    """No answer: refused, cut, or too late. Whether the request took effect is unknown."""


class Blocked:
    """``apply`` returns this to say: not yet, ask again when something has changed."""


BLOCKED = Blocked()


class ServerLink(Protocol):
    """How an adapter reaches its server."""

    def ask(self, what: str, apply: Callable[[], T | Blocked], *, timeout: float) -> Awaitable[T]:
        """Run ``apply`` at the server, and return what it returned. Raises ``Lost`` if no answer comes."""
        ...

    def hang_up(self, callback: Callable[[], None]) -> None:
        """Cut the connection. ``callback`` runs at the server when it learns of the cut."""
        ...


HANG_UP = "hang up"
AFTER_ALL_ELSE = 0.01


class Troubles:
    """Periods in which something was in trouble."""

    def __init__(self) -> None:
        self.all: list[tuple[float, float]] = []
        self._began: float | None = None

    def begin(self, now: float) -> None:
        if self._began is None:
            self._began = now

    def end(self, now: float) -> None:
        self.all.append((now if self._began is None else self._began, now))
        self._began = None

    def until(self, now: float) -> list[tuple[float, float]]:
        """The finished periods, and the current one."""
        return self.all if self._began is None else [*self.all, (self._began, now)]

    def since(self, when: float) -> bool:
        """Whether there was any trouble since then."""
        return self._began is not None or (bool(self.all) and self.all[-1][1] >= when)


class Server:
    """Up, frozen (requests wait and are applied when it is woken) or down (they fail)."""

    def __init__(self, world: World, name: str, *, latency: float) -> None:
        self.world = world
        self.name = name
        self.latency = latency
        self.state = "up"
        self.links: dict[str, Link] = {}
        self.troubles = Troubles()
        self._waiting: list[Request] = []
        self._blocked: list[Request] = []

    def link(self, process_name: str) -> "Link":
        return self.links.setdefault(process_name, Link(self, process_name))

    def wire(self, process: Process) -> "SimulatedWire":
        return SimulatedWire(process, self.link(process.name))

    def freeze(self) -> None:
        self.state = "frozen"
        self.troubles.begin(self.world.now)

    def down(self) -> None:
        """As after kill -9: everything in progress is lost."""
        self.state = "down"
        self.troubles.begin(self.world.now)
        lost, self._waiting, self._blocked = self._waiting + self._blocked, [], []
        for request in lost:
            request.fail("connection reset")

    def touch(self) -> None:
        """Trouble that is over at once."""
        if self.state == "up":
            self.troubles.end(self.world.now)

    def up(self) -> None:
        """Started again, or woken."""
        self.state = "up"
        self.troubles.end(self.world.now)
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            after = AFTER_ALL_ELSE if request.what is HANG_UP else 0.0
            self.world.later(after + self.world.rng.random() * 0.001, self.arrive, request)

    def arrive(self, request: "Request") -> None:
        if self.state == "down":
            request.fail("connection refused")
        elif self.state == "frozen":
            self._waiting.append(request)
            request.arm()
        else:
            self.work(request)

    def work(self, request: "Request") -> None:
        try:
            result = request.apply()
        except Exception as error:  # noqa: BLE001 - the server's answer is an error
            self.world.note(request.who, f"{request.what} !! {error}")
            request.link.reply(request, None, error)
            return
        if result is BLOCKED:
            self._blocked.append(request)
            request.arm()
            return
        if self.world.trace is not None:
            late = " (LATE)" if request.future.done() else ""
            self.world.note(request.who, f"{request.what} -> {shown(result)}{late}")
        request.link.reply(request, result, None)

    def unblock(self) -> None:
        blocked, self._blocked = self._blocked, []
        for request in blocked:
            self.arrive(request)


def shown(result: object) -> object:
    """The same text for the same result in every run: sets are sorted."""
    if isinstance(result, set | frozenset):
        return sorted(result)
    if isinstance(result, dict):
        return {key: shown(value) for key, value in result.items()}
    if isinstance(result, tuple | list):
        return [shown(item) for item in result]
    if isinstance(result, MembershipView):
        return shown(msgspec.structs.asdict(result))
    return result


class Request(msgspec.Struct, eq=False):
    """One request in progress."""

    who: str
    link: Any
    what: str
    apply: Callable[[], Any]
    future: Any
    due: float
    armed: bool = False

    def arm(self) -> None:
        """The reply may not come in time any more, so start the caller's time limit."""
        if not self.armed:
            self.armed = True
            world = self.link.server.world
            world.later(max(0.0, self.due - world.now), self.fail, "no answer in time")

    def fail(self, why: str) -> None:
        if not self.future.done():
            self.link.server.world.note(self.who, f"{self.what} ?? {why}")
            self.future.set_exception(Lost(why))
            self.future.exception()  # mark it as retrieved: the caller may be gone

    def answer(self, result: object, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
            self.future.exception()
        else:
            self.future.set_result(result)


class Link:
    """The way between one process name and one server."""

    def __init__(self, server: Server, process_name: str) -> None:
        self.server = server
        self.process_name = process_name
        self.mode = "ok"
        self.troubles = Troubles()
        self._chance, self._latency = server.world.rng.random, server.latency
        self._held: list[Callable[[], None]] = []

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode == "ok":
            self.troubles.end(self.server.world.now)
        else:
            self.troubles.begin(self.server.world.now)
        if mode != "silent":
            held, self._held = self._held, []
            for deliver in held:
                self.server.world.later(self._delay(), deliver)

    def troubled_since(self, when: float) -> bool:
        """Whether this link or its server was in trouble at any time since then."""
        return self.troubles.since(when) or self.server.troubles.since(when)

    def troubled(self) -> list[tuple[float, float]]:
        """The periods in which this link or its server was in trouble."""
        now = self.server.world.now
        return self.troubles.until(now) + self.server.troubles.until(now)

    def hang_up(self, process: Process, callback: Callable[[], None]) -> None:
        """The server learns of the end of a connection, perhaps late."""
        server = self.server
        request = Request(process.name, self, HANG_UP, callback, process.create_future(), server.world.now)
        if self.mode == "silent":
            self._held.append(lambda: server.arrive(request))
        else:
            server.world.later(self._delay() + AFTER_ALL_ELSE, server.arrive, request)

    def send(self, request: Request) -> None:
        server, world, mode = self.server, self.server.world, self.mode
        if server.state == "down" or mode == "refused":
            world.later(0.0005, request.fail, "connection refused")
            return
        delay = self._delay()
        if mode == "silent":
            request.arm()
            if world.rng.random() < 0.5:
                self._held.append(lambda: server.arrive(request))
            return
        if mode == "slow":
            request.arm()
            delay += world.rng.random() * 1.5 * (request.due - world.now)
        elif mode == "flaky":
            self._send_flaky(request, delay)
            return
        world.later(delay, server.arrive, request)

    def _send_flaky(self, request: Request, delay: float) -> None:
        server, world = self.server, self.server.world
        chance = world.rng.random()
        request.arm()
        if chance < 0.1:
            world.later(delay, request.fail, "connection reset, request lost")
        elif chance < 0.15:
            pass
        elif chance < 0.25:
            world.later(delay, server.arrive, request)
            world.later(delay + 1e-9, request.fail, "connection reset, reply lost")
        elif chance < 0.35:
            world.later(request.due - world.now + world.rng.random() * 2.0, server.arrive, request)
        else:
            world.later(delay, server.arrive, request)

    def reply(self, request: Request, result: object, error: Exception | None) -> None:
        if self.mode in ("silent", "deaf"):
            request.arm()
        elif not request.future.done():
            self.server.world.later(self._delay(), request.answer, result, error)

    def _delay(self) -> float:
        chance = self._chance()
        return self._latency * (0.3 + 4.0 * chance * chance * chance)


class SimulatedWire:
    """A process's way to a server."""

    def __init__(self, process: Process, link: Link) -> None:
        self.process = process
        self.link = link

    def ask(self, what: str, apply: Callable[[], T | Blocked], *, timeout: float) -> Awaitable[T]:
        process = self.process
        if process.state is AFTERLIFE:
            raise asyncio.CancelledError
        future: asyncio.Future[T] = asyncio.Future(loop=process)
        self.link.send(Request(process.name, self.link, what, apply, future, process.world.now + timeout))
        return future

    def hang_up(self, callback: Callable[[], None]) -> None:
        """See ``ServerLink``. Whatever was sent earlier on the connection arrives earlier."""
        self.link.hang_up(self.process, callback)
