"""The acts from which drills are made: damage, repair, and waiting for what a drill must see before it goes on."""

import asyncio
import contextlib
import time

import httpx

from unlost.ops.faults.drills.drill import Act
from unlost.ops.faults.drills.stage import Stage, StageError

OUTLAST_ATTEMPTS = 9.0
"""Longer than three attempts, 2 s apart, including attempts that began late."""
BEYOND_LEASE = 3.0
HOLDS_SOME = 6
REFUSED_WITHIN, LET_IT_TRY = 30.0, 2.0
LOOKS, LOOK_SECONDS, LETTERS_LOOK_SECONDS = 200, 0.02, 0.1
SHORT = 2.0
BALANCED_AGAIN = 1.0
"""The balancer asks producers twice a second whether they are ready."""


def stop(part: str) -> Act:
    """Stop a part in order."""
    return lambda stage: stage.stop(part)


def kill(part: str) -> Act:
    """Kill a part."""
    return lambda stage: stage.kill(part)


def freeze(part: str) -> Act:
    """Freeze a part."""
    return lambda stage: stage.freeze(part)


def thaw(part: str) -> Act:
    """Thaw a part."""
    return lambda stage: stage.thaw(part)


def start(part: str, *, empty: bool = False) -> Act:
    """Start a part again."""
    return lambda stage: stage.start(part, empty=empty)


async def start_first(stage: Stage) -> None:
    """Start the first listener again."""
    await stage.start(stage.listeners[0])


async def outlast_lease(stage: Stage) -> None:
    """Let the damage outlast every claim that was held when it began."""
    await asyncio.sleep(stage.lease + BEYOND_LEASE)


def an_owner(act: str) -> Act:
    """Act on a listener that holds events now. With one that holds none, the drill would prove nothing."""

    async def do(stage: Stage) -> None:
        await getattr(stage, act)(await busiest(stage))

    return do


async def busiest(stage: Stage) -> str:
    """Return the listener with the most claims, once one has several."""
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for _ in range(LOOKS):
            held = [(await client.get(f"{url}/health")).json()["claims_held"] for url in stage.listener_urls]
            if max(held) >= HOLDS_SOME:
                return stage.listeners[held.index(max(held))]
            await asyncio.sleep(LOOK_SECONDS)
    raise StageError("no listener held several events at once; publish faster (--rate)")


def every_listener(act: str) -> Act:
    """Do it to all listeners."""

    async def do(stage: Stage) -> None:
        for listener in stage.listeners:
            await getattr(stage, act)(listener)

    return do


async def letters_are_written(stage: Stage) -> None:
    """Wait until there are letters. Without letters, the drill would prove nothing."""
    for _ in range(LOOKS):
        if await stage.letters():
            return
        await asyncio.sleep(LETTERS_LOOK_SECONDS)
    raise StageError("no letter was written; publish faster (--rate)")


async def restart_one_by_one(stage: Stage) -> None:
    """Stop and start each listener, and wait until it is ready before the next one."""
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for listener, url in zip(stage.listeners, stage.listener_urls, strict=True):
            await stage.stop(listener)
            await stage.start(listener)
            await _ready(client, url)


async def _ready(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(LOOKS * 10):
        with contextlib.suppress(httpx.TransportError):
            if (await client.get(f"{url}/health/ready")).status_code == httpx.codes.OK:
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"{url} was not ready again")


async def upgrade(stage: Stage) -> None:
    """Upgrade as documented: the tables, each listener, each producer, the console. Each is ready before the next.

    The earlier version has written letters by then, which the newer one must be able to replay.
    """
    await letters_are_written(stage)
    await stage.migrate()
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for listener, url in zip(stage.listeners, stage.listener_urls, strict=True):
            await _replace(stage, listener)
            await _ready(client, url)
        for producer in ("producer-1", "producer-2"):
            await _replace(stage, producer)
            await stage.producer_is_ready(producer)
            await asyncio.sleep(BALANCED_AGAIN)
        await _replace(stage, "console")
        if stage.console is not None:
            await _ready(client, stage.console.url)


async def _replace(stage: Stage, part: str) -> None:
    await stage.stop(part)
    await stage.upgrade(part)
    await stage.start(part)


async def one_after_another(stage: Stage) -> None:
    """Kill and freeze listeners, empty Redis, and stop PostgreSQL, each for about two seconds."""
    first, *_, last = stage.listeners
    await stage.kill(first)
    await asyncio.sleep(SHORT)
    await stage.start(first)
    await stage.kill("redis")
    await stage.start("redis", empty=True)
    await stage.freeze(last)
    await asyncio.sleep(stage.lease + BEYOND_LEASE)
    await stage.thaw(last)
    await stage.kill("postgres")
    await asyncio.sleep(SHORT)
    await stage.start("postgres")
    await stage.kill(last)
    await stage.start(last)


def every_wire(kind: str, *wires: str, **attributes: float) -> Act:
    """Add a toxic to these wires of every listener."""

    async def do(stage: Stage) -> None:
        for listener in stage.listeners:
            for wire in wires:
                await stage.wires.add(listener, wire, kind, **attributes)

    return do


async def kill_an_owner_and_turn_the_clock_back(stage: Stage) -> None:
    """The claims of the killed owner must not stay held for as long as the clock jumped."""
    await an_owner("kill")(stage)
    await stage.turn_clock_back()


async def repair_all(stage: Stage) -> None:
    """Repair every wire."""
    for listener in stage.listeners:
        for wire in ("redis", "postgres", "source"):
            await stage.wires.repair(listener, wire)


async def flap(stage: Stage) -> None:
    """Start and kill Redis repeatedly, faster than anything can settle."""
    for _ in range(5):
        await asyncio.sleep(0.5)
        await stage.start("redis")
        await asyncio.sleep(0.5)
        await stage.kill("redis")


async def reset_again_and_again(stage: Stage) -> None:
    """Let connections come back, and reset them again."""
    for _ in range(4):
        await asyncio.sleep(0.5)
        await repair_all(stage)
        await asyncio.sleep(0.5)
        await RESET(stage)


async def cut_one_off(stage: Stage) -> None:
    """Stop PostgreSQL, then cut one listener off from Redis too."""
    await stage.stop("postgres")
    await stage.wires.cut(stage.listeners[0], "redis")


async def forget_letters(stage: Stage) -> None:
    """Empty Redis. Only Redis could know of events that the other listeners have buried by then."""
    await asyncio.sleep(OUTLAST_ATTEMPTS)
    await stage.kill("redis")
    await stage.start("redis", empty=True)


async def let_all_meet(stage: Stage) -> None:
    """Start PostgreSQL again, and let every listener reach the empty Redis."""
    await repair_all(stage)
    await stage.start("postgres")


def come_with(handler: str) -> Act:
    """Stop the last listener, and start it with this handler."""

    async def do(stage: Stage) -> None:
        newcomer = stage.listeners[-1]
        await stage.stop(newcomer)
        await stage.configure(newcomer, handler=handler)
        await stage.start(newcomer)

    return do


async def until_refused(stage: Stage) -> None:
    """Return some seconds after the last listener has reported that another handler is at work."""
    deadline = time.monotonic() + REFUSED_WITHIN
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.get(f"{stage.listener_urls[-1]}/health/ready")
                if "another handler is at work" in answer.text:
                    await asyncio.sleep(LET_IT_TRY)
                    return
            await asyncio.sleep(LOOK_SECONDS)
    raise StageError(f"the listener with another handler did not say so within {REFUSED_WITHIN:g} s")


async def kill_two_owners(stage: Stage) -> None:
    """Kill a listener that holds events, let it come back, and then kill one again."""
    async with httpx.AsyncClient(timeout=2, trust_env=False, headers=stage.headers) as client:
        for again in (True, False):
            killed = await busiest(stage)
            await stage.kill(killed)
            if again:
                await stage.start(killed)
                await _ready(client, stage.listener_urls[stage.listeners.index(killed)])


async def hand_over_and_kill(stage: Stage) -> None:
    """Hand over in order, and kill the new primary once its replica can take over."""
    await stage.fail_over_redis()
    await stage.kill("redis-primary")


async def promoted_and_followed(stage: Stage) -> None:
    """Wait until the standby leads, and until the former primary follows it."""
    await stage.promote_standby()
    await stage.start("standby")


RESET = every_wire("reset_peer", "redis", "postgres", "source", timeout=0)
