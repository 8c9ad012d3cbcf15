"""Runs one schedule and returns the verdict."""

import hashlib
from collections.abc import Callable

import msgspec

from tests.simulation.faults import strike
from tests.simulation.listener import RESTART_SECONDS, Scene, Start
from tests.simulation.postgres import Transaction
from tests.simulation.schedule import Fault, Happening, Schedule
from tests.simulation.world import World
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse
from unlost.listener.source.stream.envelope import split

CALM_BEFORE_END = 0.5
LONGEST = 60.0
"""Seconds after the last fault is healed within which everything must be settled."""


class Verdict(msgspec.Struct, frozen=True):
    """The result of a run. ``broken`` is empty if the law held."""

    schedule: Schedule
    broken: str
    seconds: float
    trace: list[str]


class Play:
    """One run: listeners start, faults strike and are healed, and then everything must end well."""

    def __init__(self, plan: Schedule, *, traced: bool) -> None:
        self.plan = plan
        self.world = World(plan.seed, traced=traced)
        self.scene = Scene(plan, self.world)
        self.scene.poisoned = self._poisoned
        self.current: dict[str, Start] = {}
        self.starts: list[Start] = []
        self._pending = 0

    def run(self) -> str:
        """Run it. Returns the violation, or an empty text."""
        world, plan = self.world, self.plan
        for name, at in plan.listeners:
            self.at(at, self.start, name)
        for happening in plan.happenings:
            self.at(happening.at, self._publish, happening)
        for fault in plan.faults:
            self.at(fault.at, self._strike, fault)
        try:
            self._to_the_end()
            return world.broken or ""
        finally:
            world.end(list(self.starts))

    def at(self, delay: float, what: Callable[..., None], *args: object) -> None:
        def act() -> None:
            self._pending -= 1
            what(*args)

        self._pending += 1
        self.world.later(delay, act)

    def _to_the_end(self) -> None:
        world = self.world
        while self._pending and world.broken is None:
            world.run(until=world.now + 0.25)
        limit = world.now + LONGEST
        while world.broken is None:
            world.run(until=world.now + 0.25)
            if self._quiet():
                break
            if world.now > limit and world.broken is None:
                world.break_law(
                    f"stuck: {self._missing() or 'something is still held in memory'}, long after all was healed"
                )
        if world.broken is None:
            stopped = [letter for disk in self.scene.disks.values() for letter in disk.stopped]
            if self.scene.law.order is not None:
                self.scene.law.order.judge(self.scene)
            self.scene.law.judge(calm=self._calm(), stopped=stopped)

    def _quiet(self) -> bool:
        if self._pending or any(start.busy for start in self.current.values()):
            return False
        return not self._missing()

    def _missing(self) -> list[str]:
        law, resumes = self.scene.law, self.plan.resumes
        if self.scene.broker is not None:
            return law.unsettled(resumes=True) or (["acknowledgements"] if self.scene.broker.unacknowledged else [])
        if self.scene.topic is not None:
            return law.unsettled(resumes=True) or ([] if law.positions_arrived() else ["positions"])
        return law.unsettled(resumes=resumes) or ([] if law.cursor_arrived(resumes=resumes) else ["the cursor"])

    def _calm(self) -> bool:
        """Whether nothing happened that could excuse a letter beside a row, or a second letter."""
        return not self.plan.faults and not any(one.poison for one in self.plan.happenings)

    # -- listeners ------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        old = self.current.get(name)
        if old is not None and old.state in ("running", "frozen"):
            return
        start = Start(self.scene, name, len(self.starts) + 1)  # type: ignore[abstract]
        self.world.note(name, f"starts as {start.token}")
        start.on_exit = lambda: self.at(RESTART_SECONDS, self.start, name)
        self.current[name] = start
        self.starts.append(start)
        self.scene.law.starts(start)

    def kill(self, start: Start) -> None:
        if start.state not in ("running", "frozen"):
            return
        self.world.note(start.name, "KILLED")
        start.kill()
        self.scene.source.forget(start)
        for transaction in list(self.scene.postgres.memory.transactions):
            if transaction.token == start.token:
                self._hang_up(start, transaction)

    def _hang_up(self, start: Start, transaction: Transaction) -> None:
        postgres = self.scene.postgres

        def rolled_back() -> None:
            postgres.memory.rollback(transaction)
            postgres.unblock()

        postgres.link(start.name).hang_up(start, rolled_back)

    def _poisoned(self, start: Start) -> None:
        self.kill(start)
        self.at(RESTART_SECONDS, self.start, start.name)

    # -- what happens ---------------------------------------------------------------------------

    def _publish(self, happening: Happening) -> None:
        source = self.scene.source
        if source.state != "up":
            self.at(0.5, self._publish, happening)
            return
        frame = split([source.publish(happening.frame())]).bodies[0]
        try:
            event = parse(frame, max_bytes=1 << 20)
            announced = (event.event_id, event.digest, event.event_id)
        except InvalidEvent:
            digest = hashlib.sha256(frame).digest()
            announced = ("", digest, f"invalid:{digest.hex()}")
        self.world.note("source", f"accepted {announced[2]}")
        self.scene.law.accepted(*announced, frame)

    def _strike(self, fault: Fault) -> None:
        self.world.note("FAULT", f"{fault.what} {fault.target} {fault.server} for {fault.seconds} s")
        heal = strike(self, fault)

        def healed() -> None:
            self.world.note("FAULT", f"healed: {fault.what} {fault.target} {fault.server}")
            heal()

        self.at(fault.seconds, healed)


def run(plan: Schedule, *, traced: bool = False) -> Verdict:
    """Run a schedule."""
    play = Play(plan, traced=traced)
    broken = play.run()
    return Verdict(plan, broken, play.world.now, play.world.trace or [])
