"""Delivering effects with fakes around: what fails around a delivery, hosts that hang, and a stop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.effects import EffectLettersInMemory, EffectsInMemory
from tests.support.fakes import as_a
from unlost.listener.core.attempts import Backoff
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.effects import DELIVERED, DeliveryOutcome, Effect
from unlost.listener.core.facts import EffectBuried, EffectDelivered, Fact
from unlost.listener.pipeline import effect_delivery
from unlost.listener.pipeline.effect_delivery import EffectDelivery, EffectPolicy
from unlost.listener.pipeline.effect_letters import EffectLetters
from unlost.listener.ports.effects import EffectRows

POLICY = EffectPolicy(Backoff(attempts=3, first=0.01, longest=0.01), timeout=5.0, concurrency=2)


def effect(name: str, host: str = "a", attempts: int = 0) -> Effect:
    return Effect(name, 1, f"msg_{name}", "post", f"https://{host}/", host, {}, b"", attempts)


@contextlib.asynccontextmanager
async def delivering(
    table: EffectsInMemory,
    send: Callable[[Effect], Awaitable[DeliveryOutcome]],
    letters: EffectLettersInMemory | None = None,
) -> AsyncIterator[tuple[EffectDelivery, list[Fact]]]:
    facts: list[Fact] = []

    class Sends:
        async def send(self, effect: Effect) -> DeliveryOutcome:
            return await send(effect)

    delivery = EffectDelivery(
        rows=as_a(EffectRows, table), channel=Sends(), letters=as_a(EffectLetters, letters or EffectLettersInMemory()),
        policy=POLICY, clocks=Clocks(time.time, time.monotonic), facts=facts.append, rng=lambda: 0.5,
    )  # fmt: skip
    running = asyncio.create_task(delivery.run())
    yield delivery, facts
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() or running.exception() is None


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effect_delivery, "AGAIN_SECONDS", 0.0)


async def accept(_: Effect) -> DeliveryOutcome:
    return DELIVERED


async def test_an_outcome_is_recorded_although_postgresql_is_away_for_a_moment() -> None:
    table = EffectsInMemory(effect("e"), away=3)
    async with delivering(table, accept) as (delivery, facts):
        await until(lambda: bool(facts))
        assert (delivery.waiting, delivery.oldest_seconds) == (0, 7.0)
    assert table.outcomes == [("delivered", "e")]
    assert isinstance(facts[0], EffectDelivered)


async def test_an_effect_waits_if_its_letter_cannot_be_written() -> None:
    async def refuse(_: Effect) -> DeliveryOutcome:
        return DeliveryOutcome("never", "HTTP 400")

    table = EffectsInMemory(effect("e"))
    async with delivering(table, refuse, EffectLettersInMemory("the disk is full")):
        await until(lambda: bool(table.outcomes))
    assert table.outcomes == [("failed", "e", "HTTP 400", False)]
    table = EffectsInMemory(effect("e"))
    async with delivering(table, refuse) as (_, facts):
        await until(lambda: bool(facts))
    assert table.outcomes == [("buried", "e", "letter of e")]
    assert facts == [EffectBuried("e", "msg_e", "permanent", "HTTP 400")]


async def test_the_last_attempt_that_fails_is_a_letter() -> None:
    async def fail(_: Effect) -> DeliveryOutcome:
        return DeliveryOutcome("again", "HTTP 500", "HTTP 500")

    table = EffectsInMemory(effect("first"), effect("last", attempts=2))
    async with delivering(table, fail):
        await until(lambda: len(table.outcomes) == 2)
    assert sorted(table.outcomes) == [("buried", "last", "letter of last"), ("failed", "first", "HTTP 500", True)]


async def test_a_host_that_hangs_holds_up_no_other() -> None:
    async def send(effect: Effect) -> DeliveryOutcome:
        if effect.host == "hangs":
            await asyncio.Event().wait()
        return DELIVERED

    table = EffectsInMemory(*[effect(f"h{n}", "hangs") for n in range(9)], *[effect(f"e{n}") for n in range(3)])
    async with delivering(table, send):
        await until(lambda: len(table.outcomes) == 3)
    assert {name for _, name in table.outcomes} == {"e0", "e1", "e2"}
    assert len(table.ready) >= 5, "no more are taken than its limit"


async def test_a_stop_waits_for_what_is_on_its_way_and_takes_nothing_more() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    async def send(_: Effect) -> DeliveryOutcome:
        begun.set()
        await answered.wait()
        return DELIVERED

    table = EffectsInMemory(effect("e"))
    async with delivering(table, send) as (delivery, _):
        await begun.wait()
        stopping = asyncio.create_task(delivery.finish())
        table.ready.append(effect("later"))
        await asyncio.sleep(0)
        answered.set()
        await stopping
        assert delivery.done or not delivery.paused
    assert table.outcomes == [("delivered", "e")]
    assert [one.event_id for one in table.ready] == ["later"]
