"""Schedules of the ordered kind: events with keys, letters that heal later, and what must hold for each key.

Order    when a row is written, or a handler starts, every earlier event of its key that the journal has is a row
Parking  no handler has run for an event whose letter says ``blocked``
Policy   with ``continue``, a letter counts as a row, and no letter says ``blocked``; with ``stop``, none reads on.
         An event of a route that goes on heeds no letter, and its own letter is heeded by none
The end  a key is blocked only behind a letter that nobody can heal

Left out are a store or a journal that goes back, and a journal that removes what was not read: order is not promised
across a declared gap.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from tests.simulation.handlers import POLICIES
from tests.simulation.schedule import JOURNAL_RESTORES, RESTORES, Happening, Schedule, schedule
from unlost.listener.core.errors import Transient
from unlost.listener.ports.dead_letters import HealingGroup, HealingLetter, Resolved, Tried

if TYPE_CHECKING:
    from tests.simulation.law import Law
    from tests.simulation.listener import Disk, Scene, Start

PATH = "payload.key"
HAPPENINGS_SALT, DECLARED_SALT, POLICIES_SALT = 141, 142, 143
AFTER_LETTER = ("park", "park", "continue", "park", "park", "stop")
STOP_SECONDS = 2.0
"""Within this time a listener that reaches PostgreSQL knows that a key is blocked."""
MOST_TRIES = 8
AGAIN_SECONDS = 0.5
LEASED_SECONDS = 6.0
FOR_HUMANS = frozenset(("crash_loop", "conflict", "invalid"))


def ordered(seed: int) -> Schedule:
    """The ordered schedule of this seed: the faults of the usual one, and events of a few keys."""
    usual = schedule(seed)
    rng = random.Random(seed * 2_654_435_761 + HAPPENINGS_SALT)
    happenings, fixed = _happenings(rng), rng.random() < 0.7
    after_letter = AFTER_LETTER[seed % len(AFTER_LETTER)]
    declared = _declared(seed, usual)
    policies, happenings = _with_policies(seed, happenings) if declared == "route" else ((), happenings)
    if after_letter == "stop" or "stops" in policies:  # nothing is read behind a letter that nobody can heal
        happenings, fixed = tuple(_healing(one) for one in happenings if one.content == 0), True
    return msgspec.structs.replace(
        usual,
        declared=declared,
        policies=policies,
        happenings=happenings,
        after_letter=after_letter,
        faults=tuple(one for one in usual.faults if one.what not in (*RESTORES, *JOURNAL_RESTORES, "retention")),
        resumes=True,
        acks=False,
        odd="",
        dead=(0.0, 0.0),
        order_by=PATH,
        fixed_at=rng.uniform(2.0, 6.0) if fixed else 0.0,
    )


def _declared(seed: int, usual: Schedule) -> str:
    """Choose what declares the key. Rows without a handler have no routes."""
    place = random.Random(seed * 2_654_435_761 + DECLARED_SALT).choice(("", "", "route", "source"))
    return "source" if place == "route" and (usual.work == "recorded" or usual.effects) else place


def _with_policies(seed: int, happenings: Sequence[Happening]) -> tuple[tuple[str, ...], tuple[Happening, ...]]:
    """Choose types that have policies of their own, and give some events these types."""
    rng = random.Random(seed * 2_654_435_761 + POLICIES_SALT)
    policies = rng.choice(((), ("goes on",), ("goes on", "stops")))
    types = {one.event_id: rng.choice(("", *policies)) for one in happenings}
    slower = 2.0 if "stops" in policies else 1.0  # so that some would be read behind a letter
    return policies, tuple(
        msgspec.structs.replace(one, type=types[one.event_id], at=one.at * slower) for one in happenings
    )


def _healing(one: Happening) -> Happening:
    """The same event, without what only a person could heal."""
    return msgspec.structs.replace(one, poison=False, valid=True, failures=0, seconds=min(one.seconds, 0.2))


def _happenings(rng: random.Random) -> tuple[Happening, ...]:
    keys = [f"k{n}" for n in range(rng.choice((1, 1, 2, 3)))]
    happenings: list[Happening] = []
    for number in range(rng.randint(3, 12)):
        chance, at = rng.random(), rng.uniform(0.3, 3.0)
        if chance < 0.08 and happenings:
            earlier = rng.choice(happenings)
            at = min(earlier.at + rng.uniform(0, 3), 6.0)
            content = earlier.content if rng.random() < 0.7 else 1
            happenings.append(msgspec.structs.replace(earlier, name=f"e{number}", at=at, content=content))
            continue
        happenings.append(
            Happening(
                f"e{number}", at, f"e{number}",
                seconds=rng.choice((0.0, 0.01, 0.05, 0.2, 0.2, 0.8)),
                failures=rng.choice((1, 3, 4, 5)) if rng.random() < 0.15 else 0,
                rejected=rng.random() < 0.12,
                poison=rng.random() < 0.03,
                key=rng.choice([*keys, *keys, ""]) if chance < 0.95 else "",
                valid=chance < 0.98,
            )
        )  # fmt: skip
    return tuple(happenings)


class KeyLaw:
    """The order of each key, as the judge checks it."""

    def __init__(self, law: Law, plan: Schedule) -> None:
        self._law = law
        self._after_letter = plan.after_letter
        self._policies = {one: POLICIES[one] for one in plan.policies}
        self._of_event = {one.event_id: self._policies.get(one.type, plan.after_letter) for one in plan.happenings}
        self._reads: dict[tuple[Start, float], set[float]] = {}
        """When a process read while a key was blocked, by process and by the time since when it is."""
        self._ran: set[str] = set()
        self._keys: list[str] = []
        """The key of each entry of the journal, by serial number."""

    def before(self, event_id: str) -> list[str]:
        """The earlier events of the same key that the journal has. Each id counts once, at its first place."""
        law = self._law
        places: dict[str, int] = {}
        for place, serial in enumerate(law.histories.present):
            places.setdefault(law.journal[serial - 1][0], place)
        if event_id not in places:
            return []  # its part of the journal was lost
        present, key = law.histories.present, self._key_of(law.histories.present[places[event_id]])
        return [
            one
            for one, place in places.items()
            if one and key and place < places[event_id] and present[place] not in law.histories.forgiven
            and self._key_of(present[place]) == key
        ]  # fmt: skip

    def _key_of(self, serial: int) -> str:
        while len(self._keys) < serial:
            payload = json.loads(self._law.frames[len(self._keys)]).get("payload")
            self._keys.append(str(payload.get("key", "")))
        return self._keys[serial - 1]

    def _policy_of(self, event_id: str) -> str:
        return self._of_event.get(event_id, self._after_letter)

    def in_order(self, event_id: str, what: str) -> None:
        """Check that nothing of the key that came before is missing."""
        law, goes_on = self._law, self._policy_of(event_id) == "continue"
        missing = [
            one
            for one in self.before(event_id)
            if one not in law.postgres.rows
            and not (one in law.lettered and (goes_on or self._policy_of(one) == "continue"))
        ]
        if missing:
            self._law.world.break_law(f"{what} {event_id}, and {', '.join(missing)} of its key came before")

    def handler_starts(self, event_id: str) -> None:
        self.in_order(event_id, "a handler starts")
        self._ran.add(event_id)

    def read(self, process: Start) -> None:
        """Check that reading has stopped. A listener that was waiting for an event reads what comes next."""
        law = self._law
        keyed = [
            one.at
            for name, one in law.postgres.buried.items()
            if one.order_key is not None and self._policy_of(name) == "stop"
        ]
        if not keyed or (now := law.world.now) - STOP_SECONDS < min(keyed):
            return
        since = now - STOP_SECONDS
        if process.frozen_since(since) or any(one.troubled_since(since) for one in process.links):
            return
        reads = self._reads.setdefault((process, min(keyed)), set())
        reads.add(now)
        if len(reads) > 1:
            law.world.break_law(f"{process.name} reads on, though a key has been blocked since {min(keyed):.3f}")

    def buried(self, event_id: str, reason: str) -> None:
        if reason == "blocked" and self._policy_of(event_id) == "continue":
            self._law.world.break_law(f"{event_id} was parked, although its key goes on")
        if reason == "blocked" and event_id in self._ran:
            self._law.world.break_law(f"{event_id} was parked after its handler had run")

    def judge(self, scene: Scene) -> None:
        """Check that each key that is still blocked is blocked by a letter that nobody can heal."""
        waiting = {letter_id: one for disk in scene.disks.values() for letter_id, one in disk.fleet.items()}
        for letter_id in self._law.postgres.firsts():
            if letter_id not in waiting or may_heal(scene, *waiting[letter_id]):
                self._law.world.break_law(f"a key stays blocked by {letter_id}")


def may_heal(scene: Scene, letter: HealingLetter, reason: str) -> bool:
    """Whether this letter heals some time."""
    if reason in FOR_HUMANS or letter.tries >= MOST_TRIES:
        return False
    happening = _happening(scene, letter)
    return not happening.poison and (scene.plan.fixed_at > 0.0 or not happening.rejected)


def _happening(scene: Scene, letter: HealingLetter) -> Happening:
    assert isinstance(letter.frame, bytes)
    return scene.happenings[json.loads(letter.frame)["event_id"]]


class OrderedHealing:
    """The fleet's list of letters: any listener heals what PostgreSQL has registered, the first of each key alone."""

    def __init__(self, disks: Callable[[], Sequence[Disk]], process: Start) -> None:
        self._disks = disks
        self._process = process
        self.at_work: set[str] = set()
        """Letters that were taken, and neither tried nor given back yet."""

    def ready(self) -> list[tuple[Disk, HealingLetter]]:
        """The letters that may be tried some time."""
        memory = self._process.scene.postgres.memory
        first = memory.firsts()
        # A letter whose event was stored, and which could not be resolved then, is tried again.
        stored = {one for one, buried in memory.by_letter().items() if buried in memory.rows}
        return [
            (disk, letter)
            for disk in self._disks()
            for letter, reason in disk.fleet.values()
            if may_heal(self._process.scene, letter, reason)
            and (letter.letter_id in first | stored if letter.order_key else reason == "stopped")
        ]  # fmt: skip

    async def groups(self, most: int) -> Sequence[HealingGroup]:
        return [HealingGroup("all")][:most] if await self._free() else []

    async def _free(self) -> list[tuple[Disk, HealingLetter]]:
        """Ask PostgreSQL which letters may be tried now."""
        process = self._process
        await process.session.ask("letters?", process.scene.postgres.memory.firsts)
        now = process.scene.world.now
        return [
            (disk, one)
            for disk, one in self.ready()
            if disk.leased.get(one.letter_id, 0.0) <= now and self._is_fixed(one)
        ]

    def _is_fixed(self, letter: HealingLetter) -> bool:
        scene = self._process.scene
        return not _happening(scene, letter).rejected or scene.world.now >= scene.plan.fixed_at

    async def take(self, group: HealingGroup, most: int) -> Sequence[HealingLetter]:
        taken = (await self._free())[:most]
        for disk, one in taken:
            disk.leased[one.letter_id] = self._process.scene.world.now + LEASED_SECONDS
            disk.count_try(one.letter_id)
            self.at_work.add(one.letter_id)
        return [one for _, one in taken]

    async def refuted(self, letter_ids: Sequence[str]) -> Sequence[str]:
        memory = self._process.scene.postgres.memory
        settled = [disk.waiting[one] for disk in self._disks() for one in letter_ids if one in disk.waiting]
        asked = [Resolved(one, one.claim_id) for one in settled]
        gone = await self._process.session.ask(f"gone? {letter_ids}", lambda: memory.gone(asked))
        assert isinstance(gone, list)
        return [one.burial.letter_id for one in gone]

    async def untried(self, letter_ids: Sequence[str]) -> None:
        self.at_work -= {*letter_ids}
        self._again(letter_ids, 0.0)

    async def ended(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> Sequence[str]:
        self.at_work -= {one.letter_id for one in tried}
        over = [one.letter_id for one in tried if one.what not in ("failed", "behind")]
        for disk in self._disks():
            if mine := [one for one in over if one in disk.waiting]:
                await disk.resolve(self._process, mine)
        self._again([one.letter_id for one in tried if one.letter_id not in over], AGAIN_SECONDS)
        return over

    def _again(self, letter_ids: Sequence[str], seconds: float) -> None:
        for disk in self._disks():
            for letter_id in letter_ids:
                if letter_id in disk.leased:
                    disk.leased[letter_id] = self._process.scene.world.now + seconds

    async def renew(self, groups: Sequence[HealingGroup], letter_ids: Sequence[str]) -> None:
        self._again(letter_ids, LEASED_SECONDS)

    async def leave(self, group: HealingGroup, failures: int, delay: float) -> None:
        """Nothing is kept of groups here."""
        if self._process.session is None:
            raise Transient("never connected")
