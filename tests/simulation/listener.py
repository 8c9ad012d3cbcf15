"""One listener of a simulation: the product's own ``Listening``, started again and again on simulated servers."""

import asyncio
import dataclasses
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from tests.simulation.broker import BrokerSource, SimulatedBroker
from tests.simulation.effects import SimulatedEffects, SimulatedReceiver
from tests.simulation.law import Law
from tests.simulation.ordered import KeyLaw, OrderedHealing
from tests.simulation.postgres import SimulatedPostgres
from tests.simulation.postgres_adapters import (
    Session,
    SimulatedCursors,
    SimulatedMembership,
    SimulatedPostgresClaims,
    SimulatedRegister,
    SimulatedStore,
    nothing,
)
from tests.simulation.redis import SimulatedRedis, SimulatedRedisClaims
from tests.simulation.schedule import Happening, Schedule
from tests.simulation.source import SimulatedSource
from tests.simulation.topic import SimulatedTopic, topic_source
from tests.simulation.wire import Link
from tests.simulation.world import AFTERLIFE, RUNNING, Process, World
from tests.support.effects import NoEffects
from tests.support.gaps import KeptGaps
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.listening import Listening
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.sources import Build, builders
from unlost.listener.app.wiring import IDLE_GRACE, Servers
from unlost.listener.core.cause import UNCLAIMED
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject, Transient
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.policy import Policy
from unlost.listener.ports.dead_letters import (
    Burial,
    Gone,
    HealingGroup,
    HealingLetter,
    Resolved,
    StoreLoss,
    Tried,
)
from unlost.listener.ports.effects import EffectRows
from unlost.listener.ports.source import Source
from unlost.listener.routing.finding import find_handler

LEASE = 2.5
"""Long enough to notice a silent Redis, and to replicate claims elsewhere, before a lease expires."""
ROLL_LIFE = 1.6
PEER_WAIT = 0.2
HANDLE_ATTEMPTS, HANDLE_TIMEOUT = 3, 2.0
RESTART_SECONDS = 0.4
HANDLERS = {
    "recorded": "",
    "plain": "tests.simulation.handlers:plain",
    "transaction": "tests.simulation.handlers:in_transaction",
    "odd": "tests.simulation.handlers:other",
    "plain by route": "tests.simulation.handlers:by_route",
    "transaction by route": "tests.simulation.handlers:by_route_in_transaction",
    "plain by policy": "tests.simulation.handlers:by_policy",
    "transaction by policy": "tests.simulation.handlers:by_policy_in_transaction",
}


NO_FIELD = "payload.no_field"


def work_of(plan: Schedule) -> str:
    """The name of the handler; a function, or the same as routes that declare the key, and perhaps policies."""
    if plan.policies:
        return f"{plan.work} by policy"
    return f"{plan.work} by route" if plan.declared == "route" else plan.work


def with_key(build: Build, key: str) -> Build:
    """Build a source that declares the key of its events, as the profile of a feed does."""

    def built(saved: Callable[[], str | None]) -> Source:
        source = build(saved)
        vars(source)["key"] = key
        return source

    return built


def workers_of(seed: int) -> int:
    """Some schedules have a single worker, so that events wait for it, and transactions follow each other."""
    return 1 if seed % 4 == 3 else 16


class Settings(ListenerSettings):
    """Small segments, because a run has few events."""

    def policy(self) -> Policy:
        return dataclasses.replace(super().policy(), segment=2, handled_segment=2)


@functools.cache
def settings_of(
    name: str, work: str, peer_wait: float, workers: int, order_by: str, after_letter: str, partitions: str
) -> ListenerSettings:
    """Short times, so that a run is short. Their order is that of the defaults."""
    given = {
        "instance_id": name, "handler": HANDLERS[work], "lease": LEASE, "handle_delay": 0.2, "insert_delay": 0.2,
        "startup_delay": 0.2, "startup_attempts": 2, "database_attempts": 2, "redis_timeout": 0.1,
        "database_timeout": 0.7, "handle_timeout": HANDLE_TIMEOUT, "handle_attempts": HANDLE_ATTEMPTS,
        "reconnect_first": 0.2, "reconnect_max": 1.0,
        "ws_url": "ws://source/", "shutdown_timeout": 1.0, "peer_wait": peer_wait,
        "handle_concurrency": workers, "order_by": order_by, "order_after_letter": after_letter,
        "partitions": partitions, "effect_hosts": "receiver.test", "effect_first": 0.2, "effect_max": 1.0,
        "effect_attempts": 50, "effect_timeout": 1.0,
    }  # fmt: skip
    return Settings.load({key: str(value) for key, value in given.items()})


def _found(name: str) -> Handler:
    """All starts share the handlers that are functions: these have no state. An application belongs to one start."""
    return find_handler(name) if ":by_" in name else _function(name)


_function = functools.cache(find_handler)

GROUP_SECONDS = 30.0


class Disk:
    """The dead-letter file of one instance: durable after a while, or full."""

    def __init__(self, world: World, law: Law) -> None:
        self.world = world
        self.law = law
        self.full = False
        self.waiting: dict[str, Burial] = {}
        self.stopped: dict[str, HealingLetter] = {}
        self.resolved: dict[str, tuple[float, Burial, HealingLetter | None]] = {}
        self.fleet: dict[str, tuple[HealingLetter, str]] = {}
        """In ordered runs, every letter that waits, with its reason."""
        self.leased: dict[str, float] = {}
        self.checked = ""

    def count_try(self, letter_id: str) -> None:
        """A healing listener tries this letter."""
        letter, reason = self.fleet[letter_id]
        self.fleet[letter_id] = letter._replace(tries=letter.tries + 1), reason

    async def write(self, process: "Start", flights: Sequence[InFlight]) -> list[Burial]:
        await self._backends(process)
        burials = []
        for flight in flights:
            assert flight.cause is not None
            reason = flight.cause.reason
            letter_id = f"letter {len(self.law.letters_by_id) + 1}"
            key = flight.blocking_key
            claimed = reason not in UNCLAIMED or key is not None
            burial = Burial(flight.claim_id, flight.event.digest, letter_id, claimed, key, flight.stops)
            self.waiting[letter_id] = burial
            if self.law.order is not None:
                self.fleet[letter_id] = HealingLetter(letter_id, flight.event.frame, 0, claimed, order_key=key), reason
            elif reason == "stopped":
                self.stopped[letter_id] = HealingLetter(letter_id, flight.event.frame)
            self.law.buried(process, burial, flight.event.event_id, reason)
            burials.append(burial)
        await asyncio.sleep(0.001 * self.world.rng.random())
        return burials

    async def resolve(self, process: "Start", letter_ids: Sequence[str]) -> list[str]:
        await self._backends(process)
        waited = [letter_id for letter_id in letter_ids if letter_id in self.waiting]
        for letter_id in waited:
            burial = self.waiting.pop(letter_id)
            self.fleet.pop(letter_id, None)
            self.resolved[letter_id] = self.world.now, burial, self.stopped.pop(letter_id, None)
            self.law.resolved(burial)
        return waited

    async def reopened(self, process: "Start", loss: StoreLoss, gone: Gone) -> list[Burial]:
        late = [burial for at, burial, _ in self.resolved.values() if at >= loss.since]
        lost = [one.burial for one in await gone([Resolved(one, one.claim_id) for one in late])] if late else []
        await self._backends(process)
        for burial in lost:
            _, self.waiting[burial.letter_id], kept = self.resolved.pop(burial.letter_id)
            if kept is not None:
                self.stopped[burial.letter_id] = kept
            self.law.reopened(burial)
        self.checked = loss.loss_id
        return lost

    async def kept(self, process: "Start") -> list[HealingLetter]:
        if self.stopped:
            await self._backends(process)
        return list(self.stopped.values())

    async def _backends(self, process: "Start") -> None:
        if process.state is AFTERLIFE:
            raise asyncio.CancelledError
        await asyncio.sleep(0.001 + 0.004 * self.world.rng.random())
        if self.full:
            raise Transient("no room on the disk")


class SimulatedHealing:
    """The letters that an orderly stop left, as one group that only their own listener tries again."""

    def __init__(self, disk: Disk, process: "Start") -> None:
        self._disk = disk
        self._process = process
        self._until: dict[str, float] = {}
        self._group_until = 0.0
        self.at_work: set[str] = set()
        """Letters that were taken, and neither tried nor given back yet."""

    @property
    def _taken(self) -> set[str]:
        return {letter_id for letter_id, until in self._until.items() if self._disk.world.now < until}

    async def groups(self, most: int) -> Sequence[HealingGroup]:
        now = self._disk.world.now
        if now < self._group_until or not self._disk.stopped.keys() - self._taken:
            return []
        self._group_until = now + GROUP_SECONDS
        return [HealingGroup("stopped")][:most]

    async def take(self, group: HealingGroup, most: int) -> Sequence[HealingLetter]:
        kept = await self._disk.kept(self._process)
        taken = [one for one in kept if one.letter_id not in self._taken][:most]
        self.at_work |= {one.letter_id for one in taken}
        self._until |= {one.letter_id: self._disk.world.now + GROUP_SECONDS for one in taken}
        return taken

    async def refuted(self, letter_ids: Sequence[str]) -> Sequence[str]:
        return ()

    async def untried(self, letter_ids: Sequence[str]) -> None:
        self.at_work -= {*letter_ids}
        self._free(letter_ids)

    async def ended(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> Sequence[str]:
        letter_ids = [one.letter_id for one in tried]
        self.at_work -= {*letter_ids}
        ended = await self._disk.resolve(self._process, letter_ids)
        self._free(letter_ids)
        return ended

    def _free(self, letter_ids: Sequence[str]) -> None:
        for letter_id in letter_ids:
            self._until.pop(letter_id, None)

    async def renew(self, groups: Sequence[HealingGroup], letter_ids: Sequence[str]) -> None:
        until = self._disk.world.now + GROUP_SECONDS
        if groups:
            self._group_until = until
        self._until |= {letter_id: until for letter_id in letter_ids if letter_id in self._until}

    async def leave(self, group: HealingGroup, failures: int, delay: float) -> None:
        """It is taken again at once: what failed has another letter by now."""
        self._group_until = 0.0


class Scene:
    """The parts that all listeners of one run share."""

    def __init__(self, plan: Schedule, world: World) -> None:
        self.plan = plan
        self.world = world
        self.law = Law(
            world, lease=LEASE, roll_life=ROLL_LIFE, poison={one.event_id for one in plan.happenings if one.poison},
            losses=len(plan.faults),
        )  # fmt: skip
        self.redis = SimulatedRedis(world, self.law)
        self.postgres = SimulatedPostgres(world, self.law)
        self.law.postgres = self.postgres.memory
        self.law.may_exhaust = self._may_exhaust
        self.law.in_transactions = plan.work == "transaction"
        self.law.order = KeyLaw(self.law, plan) if plan.order_by else None
        self.law.with_effects = plan.effects
        self.broker = SimulatedBroker(world, self.law) if plan.acks else None
        self.topic = SimulatedTopic(world, self.law) if plan.topic else None
        self.law.topic = self.topic
        self.source = self.broker or self.topic or SimulatedSource(world, self.law, resumes=plan.resumes)
        if isinstance(self.source, SimulatedSource):
            self.source.unreachable_for = plan.reads_nothing if len(plan.listeners) > 1 else ""
        self.disks: dict[str, Disk] = {}
        self.happenings = {one.event_id: one for one in reversed(plan.happenings)}
        self.tries: dict[str, int] = {}
        self.poisoned: Callable[[Start], None] = lambda _: None

    def _may_exhaust(self, process: "Start", event_id: str) -> bool:
        """A wire that loses single requests cannot be distinguished from an event that fails. An event that fails by
        itself, but not often enough, may lose one more attempt to a fault that ended before it was noticed.
        """
        happening = self.happenings[event_id]
        unreliable = any(
            (one.what, one.target, one.server) in ((what, process.name, "postgres") for what in ("flaky", "slow"))
            for one in self.plan.faults
        )
        disturbed = process.frozen_since(0.0) or process.links[1].troubled_since(0.0)
        enough = 1 if disturbed else HANDLE_ATTEMPTS
        fails = happening.failures >= enough or happening.seconds >= HANDLE_TIMEOUT
        # Where listeners share few events, too few fail at each to tell what all need from what each event is.
        fails |= bool(self.plan.dead[1] and (self.plan.faults or len(self.plan.listeners) > 1))
        return unreliable or (self.plan.work != "recorded" and fails)

    def disk(self, name: str) -> Disk:
        return self.disks.setdefault(name, Disk(self.world, self.law))


class Start(Process):
    """One process start of a listener."""

    def __init__(self, scene: Scene, name: str, number: int) -> None:
        super().__init__(scene.world, name)
        self.scene = scene
        self.number = number
        self.stopping = False
        self.unaccounted = False
        self.settings = settings_of(
            name,
            "odd" if name == scene.plan.odd else work_of(scene.plan),
            PEER_WAIT if scene.plan.affinity else 0.0,
            workers_of(scene.plan.seed),
            NO_FIELD if scene.plan.declared else scene.plan.order_by,
            scene.plan.after_letter,
            "on" if scene.plan.partitions and name != scene.plan.reads_all else "off",
        )
        self.links: list[Link] = [scene.redis.link(name), scene.postgres.link(name)]
        self.healing: SimulatedHealing | OrderedHealing = SimulatedHealing(scene.disk(name), self)
        self.listening = Listening(
            self.settings,
            self,
            self._hear,
            connect=self._connect,
            clocks=Clocks(self.time, self.time),
            name=lambda: str(number),
            sources=self._sources,
            rng=scene.world.rng.random,
            find=_found,
        )
        self.engine = self.listening.engine
        self.token = self.engine.token
        self.main = self.create_task(self._run())
        self.main.add_done_callback(self._ended)
        self.on_exit: Callable[[], None] = lambda: None

    def _sources(self, *given: Any) -> Sequence[Build]:
        source = self.scene.source
        if isinstance(source, SimulatedBroker):
            return [lambda _: BrokerSource(self, source)]
        if isinstance(source, SimulatedTopic):
            return [lambda _: topic_source(self, source, *given[:4])]
        plan = self.scene.plan
        built = partial(builders, open_connection=source.connect(self))(*given)
        return [with_key(one, plan.order_by) for one in built] if plan.declared == "source" else built

    # -- what the engine uses -------------------------------------------------------------------

    def _connect(self, settings: ConnectionSettings, token: str) -> Servers:
        scene = self.scene
        self.session = session = Session(
            scene.postgres.memory, scene.postgres.wire(self), timeout=settings.database_timeout,
            changed=scene.postgres.unblock,
        )  # fmt: skip
        if scene.plan.order_by:
            self.healing = OrderedHealing(lambda: list(scene.disks.values()), self)
        effects: EffectRows = NoEffects()
        if scene.plan.effects:
            effects = SimulatedEffects(session, token=token)
        return Servers(
            redis=SimulatedRedisClaims(
                scene.redis.memory, scene.redis.wire(self), token=token, lease_seconds=settings.lease,
                timeout=settings.redis_timeout,
            ),
            postgres=SimulatedPostgresClaims(session, token=token, lease_seconds=settings.lease),
            membership=SimulatedMembership(session, token=token, life_seconds=ROLL_LIFE, handler=settings.handler_name),
            register=SimulatedRegister(session, token=token),
            healing=self.healing,
            store=SimulatedStore(
                session, token=token, longest_idle=max(settings.lease, settings.handle_timeout) + IDLE_GRACE
            ),
            cursors=SimulatedCursors(session),
            gaps=KeptGaps(),
            effects=effects,
            channel=SimulatedReceiver(scene, self) if scene.plan.effects else NoEffects(),
            pauses=None,
            migrate=session_opened(session),
            close=nothing,
        )  # fmt: skip

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        """The dead-letter sink. Its letters survive this start."""
        return await self.scene.disk(self.name).write(self, flights)

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """See ``Letters``."""
        if waiting := list(self.scene.disk(self.name).waiting.values()):
            yield waiting

    async def checked(self) -> str:
        """See ``Letters``."""
        return self.scene.disk(self.name).checked

    async def reopened(self, loss: StoreLoss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """See ``Letters``."""
        yield await self.scene.disk(self.name).reopened(self, loss, gone)

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """See ``Letters``."""
        return await self.scene.disk(self.name).resolve(self, letter_ids)

    def _hear(self, fact: Fact) -> None:
        if self.state is RUNNING:
            if self.world.trace is not None and type(fact).__name__ not in ("BatchDone", "FramesReceived"):
                self.world.note(self.name, f"· {fact}")
            self.scene.law.hear(self, fact)

    # -- what the daemon does -------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            drained = await self.listening.run()
            self.unaccounted = drained is not None and drained.missing > 0
            if self.unaccounted and not self.scene.disk(self.name).full:
                self.world.break_law(f"{self.name} stopped with {drained} although its disk had room")
            self.scene.law.stopped(self, self.healing.at_work)
        except Transient:
            return  # PostgreSQL was away at the start: like a real process, it ends and is started again
        await self.engine.close()

    def stop(self) -> None:
        """SIGTERM."""
        self.stopping = True
        self.call_soon(self.listening.stop)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self.state is not RUNNING:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.world.break_law(f"{self.name} ended with {error!r}")
        self.state = "exited"
        self.on_exit()

    # -- what the judge and the handlers use ----------------------------------------------------

    def may_run(self, event_id: str) -> bool:
        return self.engine.manager.may_run(event_id)

    @property
    def busy(self) -> bool:
        pipeline = self.engine.pipeline
        return (
            pipeline.intake.count > 0
            or len(self.engine.manager.leases) > 0
            or pipeline.registrar.unsure
            or (self.engine.manager.agreement.reached and not pipeline.healer.done)
            or (isinstance(self.healing, OrderedHealing) and bool(self.healing.ready()))
            or not self.listening.effects.done
        )

    async def handle(self, delivery: Delivery, connection: Any) -> None:
        """Do what the schedule says that the handler does with this event."""
        happening = self.scene.happenings[delivery.event_id]
        law = self.scene.law
        if self.world.trace is not None:
            self.world.note(self.name, f"HANDLER {delivery.event_id} attempt {delivery.attempt} epoch {delivery.epoch}")
        run = law.handler_starts(self, delivery.event_id, delivery.epoch, delivery.attempt)
        failed = True
        try:
            await self._act(happening, connection)
            if self.scene.plan.effects:
                delivery.effects.post(f"https://receiver.test/{delivery.event_id}")
            failed = False
        finally:
            if self.state is RUNNING:
                law.handler_ends(run, failed=failed)

    async def _act(self, happening: Happening, connection: Any) -> None:
        if happening.poison:
            self.scene.poisoned(self)
        await asyncio.sleep(happening.seconds)
        if connection is not None:
            await connection.execute(happening.event_id)
        away, back = self.scene.plan.dead
        if away <= self.world.now < back:
            raise ConnectionError("as the schedule says")
        tries = self.scene.tries[happening.event_id] = self.scene.tries.get(happening.event_id, 0) + 1
        if happening.rejected and not 0.0 < self.scene.plan.fixed_at <= self.world.now:
            raise Reject("as the schedule says")
        if tries <= happening.failures:
            raise ValueError("as the schedule says")


def session_opened(session: Session) -> Callable[[], Any]:
    """Migrating needs only one answer of the server."""

    async def migrate() -> None:
        await session.ask("migrate", lambda: None)

    return migrate
