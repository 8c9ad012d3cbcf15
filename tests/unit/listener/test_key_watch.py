"""Reading stops while a key is blocked, where the policy says so."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.rows import FakeRows
from unlost.listener.core.facts import Fact, KeysBlocked
from unlost.listener.pipeline.key_watch import KeyWatch
from unlost.listener.ports.dead_letters import Burial

LETTER = Burial("e", b"", "l", order_key="k")


async def test_reading_stops_while_a_key_is_blocked_and_goes_on_once_none_is():
    facts = list[Fact]()
    rows: Any = FakeRows()
    watch = KeyWatch(store=rows, stops=True, unsaid=True, facts=facts.append)
    await watch.look()
    assert watch.why == ""
    rows.blocks.add("k")
    await watch.look()
    assert "dlq keys" in watch.why
    rows.blocks.clear()
    await watch.look()
    assert watch.why == ""
    assert facts == [KeysBlocked(True), KeysBlocked(False)]


async def test_an_answer_from_before_a_letter_does_not_count():
    rows: Any = FakeRows()
    watch = KeyWatch(store=rows, stops=True, unsaid=True, facts=lambda _: None)
    looking = watch.look()
    rows.any_stops = _meanwhile(watch)
    await looking
    assert watch.why, "the letter was registered while PostgreSQL was asked"


async def test_with_another_policy_nothing_stops_and_nothing_is_asked():
    rows: Any = FakeRows()
    rows.blocks.add("k")
    watch = KeyWatch(store=rows, stops=False, facts=lambda _: None)
    watch.registered([LETTER])
    await watch.run()
    assert watch.why == ""


@pytest.mark.parametrize(
    ("about", "letter", "unsaid", "stops"),
    [
        ("of a route that stops", replace(LETTER, stops=True), False, True),
        ("of a route that does not, in a group that does", replace(LETTER, stops=False), True, False),
        ("of before letters said so", LETTER, True, True),
        ("the same, in a group that parks", LETTER, False, False),
        ("without a key", replace(LETTER, stops=True, order_key=None), True, False),
    ],
)
async def test_only_a_letter_whose_policy_says_so_stops_reading(about: str, letter: Burial, unsaid: bool, stops: bool):
    rows: Any = FakeRows()
    watch = KeyWatch(store=rows, stops=True, unsaid=unsaid, facts=lambda _: None)
    watch.registered([letter])
    assert bool(watch.why) is stops, about


def _meanwhile(watch: KeyWatch) -> Any:
    async def any_stops(*, unsaid: bool) -> bool:
        watch.registered([LETTER])
        return False

    return any_stops
