"""Whose turn it is, and how long a turn may take."""

import asyncio
from dataclasses import dataclass, field

from tests.support.stand_ins import Clock
from unlost.ops.kit.telemetry.pacer import SHARE, Pacer


@dataclass
class Working:
    """Takes a third of the share for each of its pieces."""

    clock: Clock
    name: str
    pieces: int
    log: list[str] = field(default_factory=list)

    def advance(self) -> bool:
        self.log.append(self.name)
        self.clock.now += SHARE * 0.34
        self.pieces -= 1
        return self.pieces > 0


async def turns(log: list[str]) -> list[str]:
    """The work in each turn of the loop, until none is left."""
    each: list[str] = []
    while True:
        before = len(log)
        await asyncio.sleep(0)
        if len(log) == before:
            return each
        each.append("".join(log[before:]))


async def test_all_have_one_share_of_a_turn_together_and_come_in_turn():
    clock = Clock(0.0)
    log: list[str] = []
    pacer = Pacer(clock)
    for name, pieces in (("a", 7), ("b", 1), ("c", 4)):
        pacer.add(Working(clock, name, pieces, log))
    assert log == [], "nothing is done immediately"
    assert await turns(log) == ["aaa", "bcc", "aaa", "cca"]


async def test_one_that_comes_back_during_a_turn_is_not_forgotten():
    clock = Clock(0.0)
    log: list[str] = []
    pacer = Pacer(clock)

    class Returning(Working):
        def advance(self) -> bool:
            if super().advance():
                pacer.add(self)
            return False

    pacer.add(Returning(clock, "a", 5, log))
    assert await turns(log) == ["aaa", "aa"]
