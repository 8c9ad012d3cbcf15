"""Letters of a fleet under a virtual clock: shipping, edits and replays, with kills, outages, lost disks and backups.

Listeners write letters into real files and run the product's own ``Shipping``. Operators run the product's own
``edit`` and ``Replay`` on the fleet's list, and change states beside the files. The list itself is simulated
(``fleet.py``). The judge looks at the end, when everything was healed and had time to be shipped.
"""

import asyncio
import contextlib
import itertools
import random
import tempfile
import types
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self
from unittest import mock

from tests.simulation.fleet import Fleet, Link, SimulatedList, SimulatedTable, key_of
from tests.simulation.world import Process, World
from tests.support.letters import letter
from unlost.dlq.edit import editing as editing_module
from unlost.dlq.edit.change import PatchChange
from unlost.dlq.edit.editing import edit
from unlost.dlq.record.file import DamagedLine, LineFile, read_letters
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import LetterState, Record, What, later_than
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import Sidecar, states
from unlost.dlq.record.versions import history_of
from unlost.dlq.replay import replaying as replaying_module
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, NowStored, Outcome
from unlost.dlq.replay.plan import ReplayLimits
from unlost.dlq.replay.replaying import Replay
from unlost.dlq.store.port import Locked, Unreachable
from unlost.listener.app import shipping as shipping_module
from unlost.listener.app.shipping import Shipping
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Edited, Event

SECONDS, CALM = 20.0, 15.0
"""How long things happen, and how long they may take to settle afterwards."""
EPOCH = 1_700_000_000.0
LISTENERS = ("a", "b", "c")
FLAKY = 0.04


class Play:
    """One run, made from a seed."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.world = World(seed)
        self.rng = random.Random(seed)
        self.directory = directory
        self.fleet = Fleet(self.world)
        self.starts: list[Process] = []
        self.shipping: dict[str, Process] = {}
        self.written: dict[str, bytes] = {}
        """All letters, by id."""
        self.lost_disks: set[str] = set()
        self.went_back = False
        self.by_hand: set[str] = set()
        """Letters that were changed beside a file."""
        self._numbers = itertools.count(1)
        self._flaky = FLAKY if self.rng.random() < 0.7 else 0.0

    def run(self) -> str:
        """Run it; return what is wrong, or an empty text."""
        for name in LISTENERS:
            self.start(name)
        for _ in range(40):
            self._at(self._happening())
        if self.rng.random() < 0.3:
            self._goes_back()
        self.world.run(until=SECONDS)
        self._flaky, self.fleet.away = 0.0, False
        for name in LISTENERS:
            self._killed(self.shipping[name])
            self.start(name)
        self.world.run(until=SECONDS + CALM)
        self.operator("last replay", self._replay)
        self.world.run(until=SECONDS + 2 * CALM)
        found = self.world.broken or self._judged()
        self.world.end(self.starts)
        return found

    # -- what happens ---------------------------------------------------------------------------

    def _at(self, what: Callable[[], None]) -> None:
        self.world.later(self.rng.uniform(0.0, SECONDS), what)

    def _happening(self) -> Callable[[], None]:
        kinds: list[Callable[[], None]] = [
            lambda: self.bury(self.rng.choice(LISTENERS)),
            lambda: self.restart(self.rng.choice(LISTENERS)),
            self.outage,
            lambda: self.operator("edit", self._edit, killed_after=self.rng.choice((None, 0.05, 0.3))),
            lambda: self.operator("replay", self._replay, killed_after=self.rng.choice((None, None, 0.05, 0.3, 1.0))),
            lambda: self.changed_by_hand(self.rng.choice(LISTENERS)),
            lambda: self.disk_lost(self.rng.choice(LISTENERS)),
        ]
        return self.rng.choices(kinds, (12, 3, 2, 8, 6, 4, 0.5))[0]

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.jsonl"

    def bury(self, name: str) -> None:
        made = []
        for _ in range(self.rng.randint(1, 4)):
            event = f"e{next(self._numbers):03}"
            made.append(letter(event, at=EPOCH + self.world.now))
            self.written[made[-1].letter_id] = encode(made[-1])
        LineFile(self.path(name)).append([encode(one) for one in made])

    def start(self, name: str) -> None:
        process = Process(self.world, name)  # type: ignore[abstract]
        self.starts.append(process)
        self.shipping[name] = process

        async def ship() -> None:
            link = Link(self.fleet, process, self._flaky)
            shipping = Shipping(
                self.path(name), SimulatedTable(link), instance=name, heal_after=lambda _: None,  # type: ignore[arg-type]
                facts=lambda _: None, changed=asyncio.Event(),
            )  # fmt: skip
            await shipping.run()

        _begin(process, ship)

    def restart(self, name: str) -> None:
        """Kill it at this step, and start it again."""
        self._killed(self.shipping[name])
        self.start(name)

    def _killed(self, process: Process) -> None:
        process.kill()

    def outage(self) -> None:
        self.fleet.away = True
        self.world.later(self.rng.uniform(0.1, 5.0), lambda: setattr(self.fleet, "away", False))

    def operator(
        self, name: str, work: Callable[[Process], Coroutine[Any, Any, None]], killed_after: float | None = None
    ) -> None:
        process = Process(self.world, name)  # type: ignore[abstract]
        self.starts.append(process)
        _begin(process, lambda: work(process))
        if killed_after is not None:
            self.world.later(killed_after, lambda: self._killed(process))

    async def _edit(self, process: Process) -> None:
        store = SimulatedList(Link(self.fleet, process, self._flaky), process)
        value = next(self._numbers)
        change = PatchChange(f'[{{"op": "replace", "path": "/payload/n", "value": {value}}}]'.encode())
        some = frozenset(self.rng.sample(sorted(self.fleet.lines), min(3, len(self.fleet.lines))))
        if some:
            with contextlib.suppress(Unreachable, Locked):
                await edit(store, Selection(ids=tuple(some)), change, by="ana", why="", about="test")  # type: ignore[arg-type]

    async def _replay(self, process: Process) -> None:
        store = SimulatedList(Link(self.fleet, process, self._flaky), process)
        with contextlib.suppress(Unreachable, Locked):
            async with store.replaying(Selection(), 0, "test") as taking:
                await Replay(SimulatedRerun(self.fleet), taking, ReplayLimits(max_replays=9), lambda _: None).run()

    def changed_by_hand(self, name: str) -> None:
        """Somebody archives or restores a letter beside the file."""
        if not self.path(name).exists():
            return
        known = states(self.path(name))
        ids = [one.letter.letter_id for one in read_letters(self.path(name)) if not isinstance(one, DamagedLine)]
        letter_id = self.rng.choice(ids)
        state = known.get(letter_id, LetterState())
        what: What = "restored" if state.status == "archived" else "archived"
        if state.status != "resolved":
            self.by_hand.add(letter_id)
            sidecar = Sidecar(self.path(name))
            sidecar.append([Record(letter_id, what, later_than(state, EPOCH + self.world.now), "by hand")])
            sidecar.close()

    def disk_lost(self, name: str) -> None:
        """The listener is killed, and its disk is empty afterwards. What was not shipped is lost with it."""
        self._killed(self.shipping[name])
        if self.path(name).exists():
            for one in read_letters(self.path(name)):
                if not isinstance(one, DamagedLine) and one.letter.letter_id not in self.fleet.lines:
                    self.written.pop(one.letter.letter_id, None)
            self.lost_disks |= {letter_id for letter_id, owner in self.fleet.owners.items() if owner == name}
            for file in self.directory.glob(f"{name}.jsonl*"):
                file.unlink()
        self.start(name)

    def _goes_back(self) -> None:
        at = self.rng.uniform(1.0, SECONDS - 1.0)
        self.world.later(at, self.fleet.back_up)

        def back() -> None:
            self.went_back = True
            for process in self.starts:
                if process not in self.shipping.values():
                    self._killed(process)  # operators of before do not work on after a restore
            self.fleet.restore()

        self.world.later(self.rng.uniform(at, SECONDS), back)

    # -- the judge ------------------------------------------------------------------------------

    def _judged(self) -> str:
        on_disk = dict(self._on_disk())
        kept = on_disk if self.went_back else self.written
        for letter_id, line in kept.items():
            if self.fleet.lines.get(letter_id) != line:
                return f"letter {letter_id} is not in the fleet's list as it was written"
        for name in LISTENERS:
            if self.path(name).exists() and (found := self._differs(name)):
                return found
        return self._versions() or self._rows()

    def _on_disk(self) -> Iterator[tuple[str, bytes]]:
        for name in LISTENERS:
            for one in read_letters(self.path(name)) if self.path(name).exists() else ():
                if not isinstance(one, DamagedLine):
                    yield one.letter.letter_id, encode(one.letter)

    def _differs(self, name: str) -> str:
        mine = states(self.path(name))
        for one in read_letters(self.path(name)):
            if isinstance(one, DamagedLine):
                return f"{name}'s file is damaged: {one.reason}"
            letter_id = one.letter.letter_id
            here, there = mine.get(letter_id, LetterState()), self.fleet.states[letter_id]
            for about in ("version", "edited_at"):
                one_side, other = getattr(here, about), getattr(there, about)
                if one_side != other:
                    return f"{about} of {letter_id}: {one_side} beside the file, {other} in the list"
            beside = history_of(self.path(name), [letter_id]).get(letter_id, [])
            if not all(key_of(record) in self.fleet.records for record in beside):
                return f"a record of {letter_id} beside the file is not in the list"
            if (here.status == "resolved") != (there.status == "resolved"):
                return f"{letter_id} is {here.status} beside the file, and {there.status} in the list"
        return ""

    def _versions(self) -> str:
        """Each edit that was reported as made is kept, in the list and beside the file."""
        if self.went_back:
            return ""
        for record in self.fleet.accepted:
            if self.fleet.records.get(key_of(record)) != record:
                return f"version {record.edit and record.edit.version} of {record.letter_id} is lost"
            owner = self.fleet.owners[record.letter_id]
            if record.letter_id in self.lost_disks:
                continue
            beside = history_of(self.path(owner), [record.letter_id]).get(record.letter_id, [])
            if not any(one.edit == record.edit for one in beside):
                return f"version {record.edit and record.edit.version} of {record.letter_id} is not beside its file"
        return ""

    def _rows(self) -> str:
        for letter_id, state in self.fleet.states.items():
            entry = self.fleet.entry(letter_id)
            row = self.fleet.rows.get(entry.letter.event_id or "")
            if state.status == "resolved" and row is not None and row[1] != (entry.edited or entry.letter.event):
                return f"the row of {letter_id} is not what its version {state.version} says"
            if state.status == "resolved" and row is None and not self.went_back:
                return f"{letter_id} is resolved, and its event is no row"
            if state.status == "resolved" and row is not None and row[0] != state.version and not self.went_back:
                return f"the row of {letter_id} has version {row[0]}, and the letter has version {state.version}"
            if state.waits and state.replays < 9 and not self.went_back and row is None:
                return f"{letter_id} still waits after the last replay: {state}"
        return ""


class SimulatedRerun:
    """Runs events: the primary key decides, and a row with other content is a conflict."""

    at_once = 4

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        return ()

    async def unable(self) -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing sets it")

    def start_effect(self, event_id: str, number: int, ended: Callable[[Outcome], None]) -> None:
        raise AssertionError(f"no effect of {event_id} is expected")

    def start(
        self,
        event: Event,
        ended: Callable[[Outcome], None],
        edited: Edited | None = None,
        *,
        order_key: str | None = None,
    ) -> None:
        del order_key
        task = asyncio.create_task(self._run(event, ended, edited))
        self._tasks.add(task)

    async def _run(self, event: Event, ended: Callable[[Outcome], None], edited: Edited | None) -> None:
        fleet = self._fleet
        await asyncio.sleep(0.01 + 0.4 * fleet.world.rng.random())
        while fleet.away:  # noqa: ASYNC110  an outage holds up the insert
            await asyncio.sleep(0.1)
        version = 1 if edited is None else edited.version
        stored = fleet.rows.setdefault(event.event_id, (version, event.frame))
        if stored[1] != event.frame:
            ended(
                FailedAgain((Failure(0.0, "store", "permanent", "Conflict", "another version is stored"),), "conflict")
            )
        else:
            ended(NowStored() if stored[0] == version else AlreadyStored())


def _begin(process: Process, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    def begin() -> None:
        task = process.create_task(work())

        def ended(task: "asyncio.Task[None]") -> None:
            if process.state == "running" and not task.cancelled() and (error := task.exception()) is not None:
                process.world.break_law(f"{process.name} ended with {error!r}")

        task.add_done_callback(ended)

    process.call_soon(begin)


async def _inline(work: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """A thread's work, done at once. A kill comes before or after it."""
    await asyncio.sleep(0.001)
    return work(*args, **more)


@contextlib.contextmanager
def _clocks(world: World) -> Iterator[None]:
    clock = types.SimpleNamespace(time=lambda: EPOCH + round(world.now, 6), monotonic=lambda: world.now)
    with contextlib.ExitStack() as stack:
        for module in (shipping_module, replaying_module, editing_module):
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch.object(shipping_module, "NOTE_EVERY_SECONDS", 0.5))
        stack.enter_context(mock.patch.object(shipping_module, "AT_ONCE", 3))
        stack.enter_context(mock.patch.object(asyncio, "to_thread", _inline))
        stack.enter_context(mock.patch("os.fsync"))
        yield


def run(seed: int) -> str:
    """Run the schedule of a seed; return what broke, or an empty text."""
    with tempfile.TemporaryDirectory() as directory:
        play = Play(seed, Path(directory))
        with _clocks(play.world):
            return play.run()


def broken_seeds(seeds: Sequence[int]) -> dict[int, str]:
    """The seeds that break something, each with the reason."""
    return {seed: found for seed in seeds if (found := run(seed))}
