"""Letters that PostgreSQL refuses wait alone, and waiting ones are checked again. No real server is used."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import AttemptFailed, Fact, LettersResolved
from unlost.listener.pipeline import registrar as module
from unlost.listener.pipeline.registrar import Registrar
from unlost.listener.ports.dead_letters import Burial, Standing


class Clock:
    """Stands still until the test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Register:
    """Refuses each batch that contains one of ``refused``. For the others it gives the answers it was given."""

    def __init__(self, refused: set[str], **standings: Standing) -> None:
        self._refused = refused
        self._standings = standings
        self.asked: list[str] = []
        self.entered: list[str] = []
        self.fails = 0

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        await asyncio.sleep(0)
        ids = "".join(sorted(one.claim_id for one in burials))
        if not ids:
            return []
        self.asked.append(ids)
        if self.fails:
            self.fails -= 1
            raise Transient("away")
        if self._refused & {*ids}:
            raise Permanent("it is refused")
        self.entered.append(ids)
        return [self._standings.get(one.claim_id, "buried") for one in burials]

    async def loss(self, after: str) -> None:
        return None


class Letters:
    """Records what is resolved."""

    def __init__(self) -> None:
        self.resolved: list[tuple[str, str]] = []

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        return
        yield

    async def checked(self) -> str:
        return ""

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        self.resolved += [(letter_id, why) for letter_id in letter_ids]
        return letter_ids


class Around:
    """A registrar, and everything that it talks to."""

    def __init__(self, register: Register) -> None:
        self.clock, self.letters, self.register = Clock(), Letters(), register
        self.facts: list[Fact] = []
        self.registrar = Registrar(
            register=cast("Any", register), letters=cast("Any", self.letters), reopened=lambda: None,
            look_again_after=10.0, clocks=Clocks(lambda: 0.0, self.clock), facts=self.facts.append,
        )  # fmt: skip

    async def entered(self, ids: str, *later: float) -> None:
        """Enter letters of these events, and check again at each of these times."""
        running = asyncio.create_task(self.registrar.run())
        await _affinity()
        self.registrar.put([Burial(one, b"", f"letter {one}", claimed=one.islower()) for one in ids])
        await _affinity()
        for time in later:
            self.clock.now = time
            self.registrar._changed.set()
            await _affinity()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def _affinity() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def test_one_that_is_refused_stands_back_and_its_neighbours_get_in():
    around = Around(Register({"c"}))
    await around.entered("abcd")
    assert around.register.asked[0] == "abcd"
    assert "c" in around.register.asked
    assert sorted(around.register.entered) == ["ab", "d"]
    assert around.facts == [AttemptFailed("bury", "permanent", "it is refused", False, 1, "c")]


async def test_what_waits_is_looked_at_once_more_alone_or_not():
    around = Around(Register(set()))
    await around.entered("ab", 109.0, 110.5, 121.0, 500.0)
    assert around.register.asked == ["ab", "ab"]
    assert not around.registrar.unsure


async def test_what_was_refused_together_is_looked_at_once_more_as_well():
    around = Around(Register({"c"}))
    await around.entered("abcd", 110.5, 121.0, 500.0)
    assert sorted("".join(around.register.entered)) == ["a", "a", "b", "b", "d", "d"]


async def test_what_another_holds_is_looked_at_until_it_does_not():
    around = Around(Register(set(), a="open"))
    await around.entered("ab", 110.5, 121.0, 132.0)
    assert around.register.asked == ["ab", "ab", "a", "a"]
    assert around.registrar.unsure


async def test_what_is_open_and_was_claimed_by_nobody_is_looked_at_once_more():
    around = Around(Register(set(), A="open"))
    await around.entered("A", 110.5, 121.0, 132.0)
    assert around.register.asked == ["A", "A"]


async def test_what_is_needless_is_resolved_and_says_why():
    around = Around(Register(set(), a="stored", b="elsewhere", c="taken"))
    await around.entered("abcd", 110.5)
    assert around.letters.resolved == [
        ("letter a", "already stored"), ("letter b", "another letter of the same event waits")
    ]  # fmt: skip
    assert [fact for fact in around.facts if isinstance(fact, LettersResolved)] == [
        LettersResolved(["letter a"], "already stored"),
        LettersResolved(["letter b"], "another letter of the same event waits"),
    ]
    assert around.register.asked == ["abcd", "cd"]


async def test_what_could_not_be_entered_is_entered_later(monkeypatch: Any):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    around = Around(Register(set()))
    around.register.fails = 2
    await around.entered("ab")
    assert around.register.asked == ["ab", "ab", "ab"]


async def test_two_letters_of_one_event_are_entered_one_after_the_other():
    around = Around(Register(set()))
    await around.entered("aba")
    assert around.register.asked == ["ab", "a"]


class LaterRefusing(Register):
    """Accepts everything once, and then refuses one of them."""

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        standings = await super().enter(burials)
        self._refused = {"a"}
        return standings


async def test_what_is_refused_at_the_second_look_is_not_looked_at_a_third_time():
    around = Around(LaterRefusing(set()))
    await around.entered("ab", 110.5, 121.0, 500.0)
    assert around.register.asked[:2] == ["ab", "ab"]
    assert sorted(around.register.asked[2:]) == ["a", "b"]
    assert not around.registrar.unsure
