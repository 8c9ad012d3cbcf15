"""Letters that PostgreSQL refuses wait alone, and waiting ones are checked again. No real server is used."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.fakes import as_a
from tests.support.register import FakeLetters, FakeRegister
from tests.support.stand_ins import Clock
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.facts import AttemptFailed, Fact, LettersResolved
from unlost.listener.pipeline import registrar as module
from unlost.listener.pipeline.registrar import Registrar
from unlost.listener.ports.dead_letters import Burial, LetterRegister, Letters, Standing


def _ignore(_: Sequence[Burial]) -> None:
    """Nobody waits for letters to be registered."""


class Around:
    """A registrar, and everything that it talks to."""

    def __init__(self, register: FakeRegister, *, registered: Callable[[Sequence[Burial]], None] = _ignore) -> None:
        self.clock, self.letters, self.register = Clock(), FakeLetters(), register
        self.facts: list[Fact] = []
        self.registrar = Registrar(
            register=as_a(LetterRegister, register), letters=as_a(Letters, self.letters), reopened=lambda: None,
            registered=registered, look_again_after=10.0, clocks=Clocks(lambda: 0.0, self.clock),
            facts=self.facts.append,
        )  # fmt: skip

    async def entered(self, ids: str, *later: float) -> None:
        """Enter letters of these events, and check again at each of these times."""
        running = asyncio.create_task(self.registrar.run())
        await _affinity()
        self.registrar.put([Burial(one, b"", f"letter {one}", claimed=one.islower()) for one in ids])
        await _affinity()
        for time in later:
            self.clock.now = time
            self.registrar.put(())  # wakes it
            await _affinity()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def _affinity() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def test_one_that_is_refused_stands_back_and_its_neighbours_get_in():
    around = Around(FakeRegister({"c"}))
    await around.entered("abcd")
    assert around.register.calls[0] == "abcd"
    assert "c" in around.register.calls
    assert sorted(around.register.entered) == ["ab", "d"]
    assert around.facts == [AttemptFailed("bury", "permanent", "it is refused", False, 1, "c")]


async def test_a_waiting_letter_is_checked_once_more():
    around = Around(FakeRegister(set()))
    await around.entered("ab", 109.0, 110.5, 121.0, 500.0)
    assert around.register.calls == ["ab", "ab"]
    assert not around.registrar.unsure


async def test_letters_that_were_refused_together_are_checked_once_more():
    around = Around(FakeRegister({"c"}))
    await around.entered("abcd", 110.5, 121.0, 500.0)
    assert sorted("".join(around.register.entered)) == ["a", "a", "b", "b", "d", "d"]


async def test_a_letter_whose_event_another_holds_is_checked_until_it_ends():
    around = Around(FakeRegister(set(), a="open"))
    await around.entered("ab", 110.5, 121.0, 132.0)
    assert around.register.calls == ["ab", "ab", "a", "a"]
    assert around.registrar.unsure


async def test_an_unclaimed_letter_whose_event_is_open_is_checked_once_more():
    around = Around(FakeRegister(set(), A="open"))
    await around.entered("A", 110.5, 121.0, 132.0)
    assert around.register.calls == ["A", "A"]


async def test_a_needless_letter_is_resolved_with_the_reason():
    around = Around(FakeRegister(set(), a="stored", b="elsewhere", c="taken"))
    await around.entered("abcd", 110.5)
    assert around.letters.resolved == [
        ("letter a", "already stored"), ("letter b", "another letter of the same event waits")
    ]  # fmt: skip
    assert [fact for fact in around.facts if isinstance(fact, LettersResolved)] == [
        LettersResolved(["letter a"], "already stored"),
        LettersResolved(["letter b"], "another letter of the same event waits"),
    ]
    assert around.register.calls == ["abcd", "cd"]


async def test_a_letter_that_could_not_be_entered_is_entered_later(monkeypatch: Any):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    around = Around(FakeRegister(set()))
    around.register.fails = 2
    await around.entered("ab")
    assert around.register.calls == ["ab", "ab", "ab"]


async def test_two_letters_of_one_event_are_entered_one_after_the_other():
    around = Around(FakeRegister(set()))
    await around.entered("aba")
    assert around.register.calls == ["ab", "a"]


async def test_a_letter_refused_at_the_second_check_is_not_checked_again():
    around = Around(FakeRegister(set(), later={"a"}))
    await around.entered("ab", 110.5, 121.0, 500.0)
    assert around.register.calls[:2] == ["ab", "ab"]
    assert sorted(around.register.calls[2:]) == ["a", "b"]
    assert not around.registrar.unsure


class HeldAtFirst(FakeRegister):
    """Another's lease of the event ``h`` runs when its letter is entered first."""

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        held = "h" not in "".join(self.calls)
        standings = await super().enter(burials)
        return ["open" if held and one.claim_id == "h" else s for one, s in zip(burials, standings, strict=True)]


async def test_a_letter_that_must_block_its_key_is_entered_until_it_does():
    registered = list[str]()
    around = Around(HeldAtFirst(set()), registered=lambda some: registered.extend(one.claim_id for one in some))
    running = asyncio.create_task(around.registrar.run())
    await _affinity()
    around.registrar.put([Burial("h", b"", "l1", order_key="k"), Burial("f", b"", "l2", order_key="another")])
    await _affinity()
    assert registered == ["f"]
    around.clock.now += 1.5
    around.registrar.put(())
    await _affinity()
    assert registered == ["f", "h"]
    running.cancel()
    await asyncio.wait([running])


async def test_a_letter_with_a_key_that_postgresql_refuses_is_entered_again():
    registered = list[str]()
    around = Around(FakeRegister({"r"}), registered=lambda some: registered.extend(one.claim_id for one in some))
    running = asyncio.create_task(around.registrar.run())
    await _affinity()
    around.registrar.put([Burial("r", b"", "l1", order_key="k")])
    for _ in range(3):
        await _affinity()
        around.clock.now += 1.5
        around.registrar.put(())
    await _affinity()
    assert around.register.calls.count("r") > 2, "no later event of the key may go on before it is entered"
    assert registered == []
    running.cancel()
    await asyncio.wait([running])
