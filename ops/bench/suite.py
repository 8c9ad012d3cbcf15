"""The order of all measurements. ``results.py`` keeps what was measured."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from unlost.ops.bench import (
    comparison,
    fleet,
    growth,
    handlers,
    keys,
    latency,
    machine,
    pipeline,
    replay,
    routes,
    secured,
    sizes,
    soak,
    stages,
)  # fmt: skip
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.extent import Extent
from unlost.ops.bench.figures import Latencies, Measured, better, missed_bars, work_conserving_limit
from unlost.ops.bench.results import BY_HAND, Findings, Results, Say

SIZE = 300
RATE = 1_000
SHORT = comparison.Load(count=500, size=SIZE, rate=RATE, seconds=0.1, warm_seconds=0.1)
FAILING_LATENCY_SECONDS = 4.0
"""Longer than all attempts of an event that fails."""
HANDLED, BESIDE = "handler, plain 0 ms", "the same beside 5 % that fail"
FLOOR = "hop + round trip + commit"
IN_A_ROW = "the same, one right after another"
SIZES = (100, 1_000, 16_000)
SHARES = (0.1, 0.5)
LOOKS_AGAIN = 2


class Suite:
    """One run of all measurements."""

    def __init__(self, bed: Bed, extent: Extent, say: Say) -> None:
        self._bed = bed
        self._extent = extent
        self._say = say
        self._results = results = Results(say)
        self.found = results.found
        self._keep, self._keep_latency, self._compare = results.keep, results.keep_latency, results.compare

    async def run(self) -> Findings:
        """Run all requested measurements."""
        for child in self._bed.system.listeners:
            await asyncio.to_thread(child.stop)
        await {"": self._all, "keys": self._keys, "rivals": self._rivals, "soak": self._soak}[self._extent.only]()
        self.found.ratios = self._results.ratios()
        if self._extent.quick:
            await self._look_again()
        return self.found

    async def _all(self) -> None:
        await self._in_turn()
        if not self._extent.quick:
            await self._pipeline()
        await self._loops()
        await self._rivals()
        await self._latency()
        await self._secured()
        await self._handlers()
        if self._extent.full:
            await self._keys()
            await self._beside()
        await self._growth()
        if self._extent.quick:
            await self._soak()

    async def _look_again(self) -> None:
        """Measure again what misses its bar by far: one short round may show only the noise of that moment.

        Either side may have had a bad moment, so both are measured, and the better result counts. This only decides
        whether a quick run fails; a whole run measures once.
        """
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "sequential": self._beside_loops, "concurrent": self._beside_loops, "limit": self._in_turn,
            "by_hand": self._in_turn, "two_listeners": self._in_turn, "batch_publish": self._in_turn,
            "latency": self._latency, "transaction": self._transaction,
            "failing": self._failing, "failing_p99": self._failing_latency,
            "token": self._secured, "proven": self._secured,
        }  # fmt: skip
        for _ in range(LOOKS_AGAIN):
            missed = [name for name in missed_bars(self.found.ratios, noisy=True) if name in parts]
            if not missed:
                return
            self._say(f"\nMeasured once more, for noise: {', '.join(missed)}")
            for measure in dict.fromkeys(parts[name] for name in missed):
                await measure()
            again = self._results.ratios()
            for name in missed:
                self.found.ratios[name] = better(name, self.found.ratios[name], again[name])

    async def _in_turn(self) -> None:
        """Measure stages, one listener, two listeners, and repeat: so other work of the machine affects all alike.

        The machine's speed changes by a third within minutes, so only values of the same round are compared.
        """
        count, several = self._extent.events, self._extent.listeners > 1
        taken: list[dict[str, Measured]] = []
        one: list[Measured] = []
        two: list[Measured] = []
        by_hand = comparison.Taken()
        rival = comparison.RIVALS[comparison.NATS]
        measures_hand = self._extent.quick and rival.is_installed()
        for number in range(self._extent.rounds_of_listeners if several else self._extent.rounds):
            if number < self._extent.rounds:
                taken.append(await stages.measure(self._bed, count=count, size=SIZE))
            one.append(await self._stored(1, count, SIZE, 0.0))
            if several:
                two.append(await self._stored(2, count, SIZE, 0.0))
            if measures_hand:
                await comparison.by_hand(self._bed, rival, replace(SHORT, count=count, duplicates=0), by_hand)
        for name in taken[0]:
            self._keep(f"stage {name}", [each[name] for each in taken])
        self._keep("pipeline", one)
        limits = [work_conserving_limit(each, machine.cores(), stages.NEEDED) for each in taken]
        self._compare("limit", [each.rate for each in one], limits)
        self._compare("batch_publish", *([each[name].rate for each in taken] for name in ("publish", "journal")))
        if measures_hand:
            self._keep(BY_HAND, by_hand.backlog)
            self._compare("by_hand", [each.rate for each in one], [each.rate for each in by_hand.backlog])
        if several:
            self._keep("two listeners", two)
            self._compare("two_listeners", [each.rate for each in two], [each.rate for each in one])

    async def _pipeline(self) -> None:
        count = self._extent.events
        for share in SHARES:
            await self._rounds(f"pipeline, {share:.0%} duplicates", lambda: self._stored(1, count, SIZE, share))  # noqa: B023
        for size in SIZES:
            some = max(2_000, min(count, 40_000_000 // size))
            await self._rounds(f"pipeline, {size:,} bytes", lambda: self._stored(1, some, size, 0.0), 1)  # noqa: B023

    async def _stored(self, listeners: int, count: int, size: int, share: float) -> Measured:
        return await pipeline.stored(self._bed, listeners=listeners, count=count, size=size, duplicates=share)

    async def _beside_loops(self) -> None:
        """Measure both sides again: to measure only the loops again would pick their worst moments."""
        await self._rounds("pipeline", lambda: self._stored(1, self._extent.events, SIZE, 0.0))
        await self._loops()

    async def _loops(self) -> None:
        count = self._extent.events
        for form, some in (("sequential", count // 20), ("concurrent", count // 4)):
            await self._rounds(f"loop, {form}", lambda: pipeline.loop(self._bed, form, count=some, size=SIZE))  # noqa: B023

    async def _rivals(self) -> None:
        """Measure Unlost in turn with what experts write by hand."""
        if self._extent.quick:
            await self._try_rivals()
            return
        load = comparison.Load(self._extent.events, SIZE, RATE, self._extent.latency_seconds)
        taken = await comparison.measure(self._bed, load, rounds=self._extent.rounds, say=self._say)
        self._results.keep_comparison(taken)
        self._results.compared |= comparison.ratios(taken)

    async def _try_rivals(self) -> None:
        """Run those that a quick run does not measure: they must store every event."""
        taken = {name: comparison.Taken() for name in comparison.installed(comparison.SHORT, self._say)}
        for name, found in taken.items():
            await comparison.by_hand(self._bed, comparison.RIVALS[name], SHORT, found)
        self._results.keep_comparison(taken)

    async def _soak(self) -> None:
        found = await soak.soak(
            self._bed, minutes=self._extent.soak_minutes, rate=self._extent.soak_rate, say=self._say
        )
        self.found.soak = found
        self._results.compared["soak_p99"] = found.drift

    async def _latency(self) -> None:
        found: defaultdict[str, list[Latencies]] = defaultdict(list)
        for _ in range(self._extent.rounds_of_latency):  # alternate, so that both see the same machine
            found[FLOOR].append(
                await latency.floor(self._bed, times=round(RATE * self._extent.latency_seconds), rate=RATE)
            )
            found[_at(RATE)].append(await self._seen(RATE))
        for _ in range(0 if self._extent.quick else self._extent.rounds):
            found[IN_A_ROW].append(await latency.floor(self._bed, times=1_000))
            for rate in (100, 5_000):
                found[_at(rate)].append(await self._seen(rate))
        for name, rounds in found.items():
            self._keep_latency(name, rounds)
        self._compare("latency", *([one.p99 for one in found[name]] for name in (_at(RATE), FLOOR)))

    async def _seen(self, rate: int) -> Latencies:
        return await latency.published_to_visible(self._bed, rate=rate, seconds=self._extent.latency_seconds)

    async def _secured(self) -> None:
        events, rounds = self._extent.events, self._extent.rounds_of_latency
        await secured.measure(self._bed, self._results, count=events, size=SIZE, rounds=rounds)

    async def _handlers(self) -> None:
        count = self._extent.events // 4
        if "plain" in self._extent.handlers:
            if not self._extent.quick:
                await self._rounds("handler, plain 5 ms", lambda: handlers.stored(self._bed, "plain", count=count), 1)
            await self._failing()
        if "transaction" in self._extent.handlers:
            await self._transaction()
        if self._extent.full:
            taken = await routes.measure(self._bed, count=self._extent.events // 2, rounds=self._extent.rounds)
            for name, rounds in taken.items():
                self._keep(name, rounds)
            self._results.compared |= routes.ratios(taken, count=self._extent.events // 2)
            for name, (without, beside) in (
                await routes.beside_failing(self._bed, count=self._extent.events // 2, rounds=self._extent.rounds)
            ).items():
                self._keep(f"{name}, healthy alone", without)
                self._keep(BESIDE, beside)
                self._compare(name, [each.rate for each in beside], [each.rate for each in without])

    async def _failing(self) -> None:
        count = self._extent.events // 2
        without: list[Measured] = []
        beside: list[Measured] = []
        for _ in range(self._extent.rounds):
            without.append(await handlers.healthy(self._bed, handlers.INSTANT, count=count, failing=False))
            beside.append(await handlers.healthy(self._bed, handlers.INSTANT, count=count, failing=True))
        self._keep(HANDLED, without)
        self._keep(BESIDE, beside)
        self._compare("failing", [each.rate for each in beside], [each.rate for each in without])
        await self._failing_latency()

    async def _failing_latency(self) -> None:
        without: list[Latencies] = []
        beside: list[Latencies] = []
        for _ in range(self._extent.rounds):
            for found, failing in ((without, False), (beside, True)):
                found.append(
                    await handlers.seen(self._bed, rate=RATE, seconds=FAILING_LATENCY_SECONDS, failing=failing)
                )
        self._keep_latency(f"{HANDLED}, publish to row", without)
        self._keep_latency(BESIDE, beside)
        self._compare("failing_p99", [each.p99 for each in beside], [each.p99 for each in without])

    async def _transaction(self) -> None:
        await self._transactions("transaction", handlers.BY_HAND)
        if self._extent.full:
            await self._transactions("transaction_64", routes.MANY)

    async def _transactions(self, ratio: str, at_once: int) -> None:
        count = self._extent.events // 4
        ours: list[Measured] = []
        by_hand: list[Measured] = []
        for _ in range(self._extent.rounds):
            ours.append(await handlers.stored(self._bed, "transaction", count=count, HANDLE_CONCURRENCY=str(at_once)))
            by_hand.append(await handlers.by_hand(self._bed, count=count, at_once=at_once))
        self._keep(f"handler, transaction, {at_once} at once", ours)
        self._keep(f"transaction by hand, {at_once} at once", by_hand)
        self._compare(ratio, [each.rate for each in ours], [each.rate for each in by_hand])

    async def _keys(self) -> None:
        extent = self._extent
        taken = await keys.measure(self._bed, count=extent.events, rounds=extent.rounds, chosen=extent.handlers)
        for name, rounds in taken.items():
            self._keep(name, rounds)
        self._results.compared |= keys.ratios(taken)
        seen = await keys.latencies(self._bed, seconds=extent.latency_seconds, rounds=extent.rounds_of_latency)
        for name, found in seen.items():
            self._keep_latency(name, found)
        self._results.compared["ordered_latency"] = keys.latency_ratio(seen)
        if extent.full:
            sizes = await keys.memory(self._bed)
            self._results.keep_amount(f"listener in order, MB after {keys.DISTINCT:,} keys", sizes[-1])
            self._results.compared["keys_memory"] = keys.memory_ratio(sizes)

    async def _beside(self) -> None:
        """Measure many listeners, listeners without Redis, large payloads and replays."""
        extent, results = self._extent, self._results
        await fleet.measure(self._bed, results, count=extent.events, size=SIZE, rounds=extent.rounds)
        await sizes.measure(self._bed, results, count=extent.events, rounds=extent.rounds)
        await replay.measure(self._bed, results, count=extent.events // 2, rounds=extent.rounds)

    async def _growth(self) -> None:
        listener, count = self._bed.system.listeners[0], self._extent.events
        self._results.keep_amount("redis_bytes", await growth.redis_bytes(self._bed, listener, count=count))
        if not self._extent.quick:
            handled = handlers.child_of(self._bed, handlers.INSTANT)
            self._results.keep_amount("redis_bytes_handled", await growth.redis_bytes(self._bed, handled, count=count))
        if self._extent.full:
            await growth.measure(self._bed, self._results, count=self._extent.events, size=SIZE)

    async def _rounds(self, name: str, once: Callable[[], Awaitable[Measured]], rounds: int | None = None) -> None:
        self._keep(name, [await once() for _ in range(rounds or self._extent.rounds)])


def _at(rate: int) -> str:
    return f"publish to row at {rate:,}/s"
