"""The order of all measurements. ``results.py`` keeps what was measured."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from unlost.ops.bench import growth, handlers, keys, latency, machine, pipeline, routes, secured, stages
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Latencies, Measured, better, missed_bars, work_conserving_limit
from unlost.ops.bench.results import BY_HAND, Findings, Results, Say

SIZE = 300
RATE = 1_000
LATENCY_SECONDS = 2.0
"""Duration of each rate."""
FAILING_LATENCY_SECONDS = 4.0
"""Longer than all attempts of an event that fails."""
HANDLED, BESIDE = "handler, plain 0 ms", "the same beside 5 % that fail"
FLOOR = "hop + round trip + commit"
IN_A_ROW = "the same, one right after another"
SIZES = (100, 1_000, 16_000)
SHARES = (0.1, 0.5)
WAITING = 1_000_000
IDLE_LISTENERS = 10
LOOKS_AGAIN = 2
IDLE = ("idle listener, processor ms/s", "idle listener, MB", "servers for ten idle listeners, processor ms/s")


@dataclass(frozen=True, slots=True)
class Extent:
    """The amount of each measurement."""

    events: int = 40_000
    rounds: int = 3
    listeners: int = 2
    handlers: tuple[str, ...] = ("none", "plain", "transaction")
    full: bool = False
    only_keys: bool = False
    quick: bool = False

    @property
    def rounds_of_listeners(self) -> int:
        """More rounds, because one and two listeners differ less than rounds do."""
        return self.rounds if self.quick else self.rounds + 2

    @property
    def rounds_of_latency(self) -> int:
        """More rounds, because they are short: one stall of the machine affects a hundredth of a round's events."""
        return self.rounds if self.quick else 2 * self.rounds + 1


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
        if self._extent.only_keys:
            await self._keys()
            self.found.ratios = self._results.compared
            return self.found
        await self._in_turn()
        await self._pipeline()
        await self._loops()
        await self._latency()
        await self._secured()
        await self._handlers()
        if self._extent.full:
            await self._keys()
        await self._growth()
        self.found.ratios = self._results.ratios()
        if self._extent.quick:
            await self._look_again()
        return self.found

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
        by_hand: list[Measured] = []
        for number in range(self._extent.rounds_of_listeners if several else self._extent.rounds):
            if number < self._extent.rounds:
                taken.append(await stages.measure(self._bed, count=count, size=SIZE))
            one.append(await self._stored(1, count, SIZE, 0.0))
            if several:
                two.append(await self._stored(2, count, SIZE, 0.0))
            if pipeline.has_queue():
                by_hand.append(await pipeline.queue(self._bed, count=count, size=SIZE, syncs=False))
        for name in taken[0]:
            self._keep(f"stage {name}", [each[name] for each in taken])
        self._keep("pipeline", one)
        limits = [work_conserving_limit(each, machine.cores(), stages.NEEDED) for each in taken]
        self._compare("limit", [each.rate for each in one], limits)
        self._compare("batch_publish", *([each[name].rate for each in taken] for name in ("publish", "journal")))
        if not by_hand:
            self._say(f"{BY_HAND:<32}not measured: it needs pip install 'unlost[bench]'")
        else:
            self._keep(BY_HAND, by_hand)
            self._compare("by_hand", [each.rate for each in one], [each.rate for each in by_hand])
        if several:
            self._keep("two listeners", two)
            self._compare("two_listeners", [each.rate for each in two], [each.rate for each in one])

    async def _pipeline(self) -> None:
        count = self._extent.events
        if not self._extent.quick and pipeline.has_queue():
            name = f"{BY_HAND}, synced"
            await self._rounds(name, lambda: pipeline.queue(self._bed, count=count, size=SIZE, syncs=True), 1)
        for share in SHARES:
            await self._rounds(f"pipeline, {share:.0%} duplicates", lambda: self._stored(1, count, SIZE, share))  # noqa: B023
        if not self._extent.quick:
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

    async def _latency(self) -> None:
        found: defaultdict[str, list[Latencies]] = defaultdict(list)
        for _ in range(self._extent.rounds_of_latency):  # alternate, so that both see the same machine
            found[FLOOR].append(await latency.floor(self._bed, times=round(RATE * LATENCY_SECONDS), rate=RATE))
            found[_at(RATE)].append(await self._seen(RATE))
        for _ in range(self._extent.rounds):
            found[IN_A_ROW].append(await latency.floor(self._bed, times=1_000))
            for rate in (100,) if self._extent.quick else (100, 5_000):
                found[_at(rate)].append(await self._seen(rate))
        for name, rounds in found.items():
            self._keep_latency(name, rounds)
        self._compare("latency", *([one.p99 for one in found[name]] for name in (_at(RATE), FLOOR)))

    async def _seen(self, rate: int) -> Latencies:
        return await latency.published_to_visible(self._bed, rate=rate, seconds=LATENCY_SECONDS)

    async def _secured(self) -> None:
        """Measure what tokens, TLS and proofs cost."""
        rounds = self._extent.rounds_of_latency
        some = {"count": self._extent.events // stages.SINGLES, "size": SIZE, "rounds": rounds}
        publishing = await secured.publishing(**some)
        claiming = await secured.claiming(self._bed, **some | {"count": self._extent.events})
        for name, taken in (publishing | claiming).items():
            self._keep(name, taken)
        if secured.WITH_TLS not in publishing:
            self._say(f"{secured.WITH_TLS:<32}not measured: it needs the command openssl")
        rates = ([one.rate for one in publishing[name]] for name in (secured.WITH_TOKEN, secured.OPEN))
        self._compare("token", *rates)
        times = ([one.seconds for one in claiming[name]] for name in (secured.PROVEN, secured.PLAIN))
        self._compare("proven", *times)

    async def _handlers(self) -> None:
        count = self._extent.events // 4
        if "plain" in self._extent.handlers:
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
        count = self._extent.events // 4
        ours: list[Measured] = []
        by_hand: list[Measured] = []
        for _ in range(self._extent.rounds):
            ours.append(await handlers.stored(self._bed, "transaction", count=count))
            by_hand.append(await handlers.by_hand(self._bed, count=count))
        self._keep("handler, transaction", ours)
        self._keep("transaction by hand", by_hand)
        self._compare("transaction", [each.rate for each in ours], [each.rate for each in by_hand])

    async def _keys(self) -> None:
        extent = self._extent
        taken = await keys.measure(self._bed, count=extent.events, rounds=extent.rounds, chosen=extent.handlers)
        for name, rounds in taken.items():
            self._keep(name, rounds)
        self._results.compared |= keys.ratios(taken)
        seen = await keys.latencies(self._bed, seconds=LATENCY_SECONDS, rounds=extent.rounds_of_latency)
        for name, found in seen.items():
            self._keep_latency(name, found)
        self._results.compared["ordered_latency"] = keys.latency_ratio(seen)
        if extent.full:
            sizes = await keys.memory(self._bed)
            self._results.keep_amount(f"listener in order, MB after {keys.DISTINCT:,} keys", sizes[-1])
            self._results.compared["keys_memory"] = keys.memory_ratio(sizes)

    async def _growth(self) -> None:
        self._results.keep_amount("redis_bytes", await growth.redis_bytes(self._bed, count=self._extent.events))
        if self._extent.full:
            await self._full_growth()

    async def _full_growth(self) -> None:
        bed = self._bed
        # Idle listeners come first: after a million rows, PostgreSQL is busy for a while.
        for name, found in zip(IDLE, await growth.idle(bed, listeners=IDLE_LISTENERS), strict=True):
            self._results.keep_amount(name, found)
        ended = await pipeline.stored(bed, listeners=1, count=WAITING, size=SIZE, duplicates=0)
        self._keep(f"catching up with {WAITING:,}", [ended])
        rounds = [one async for one in growth.at_rows(bed, 10_000_000, count=self._extent.events)]
        for name, one in zip(("empty table", "10 million rows"), rounds, strict=True):
            self._keep(name, [one])
        await bed.forget_rows()
        memory = await growth.memory_without_postgres(bed, waiting=WAITING)
        self._results.keep_amount("memory_mb", memory)

    async def _rounds(self, name: str, once: Callable[[], Awaitable[Measured]], rounds: int | None = None) -> None:
        self._keep(name, [await once() for _ in range(rounds or self._extent.rounds)])


def _at(rate: int) -> str:
    return f"publish to row at {rate:,}/s"
