"""Reading stops while a key is blocked, where the policy says so."""

from typing import Any

from tests.support.rows import FakeRows
from unlost.listener.core.facts import Fact, KeysBlocked
from unlost.listener.pipeline.key_watch import KeyWatch


async def test_reading_stops_while_a_key_is_blocked_and_goes_on_once_none_is():
    facts = list[Fact]()
    rows: Any = FakeRows()
    watch = KeyWatch(store=rows, stops=True, facts=facts.append)
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
    watch = KeyWatch(store=rows, stops=True, facts=lambda _: None)
    looking = watch.look()
    rows.any_blocked = _meanwhile(watch)
    await looking
    assert watch.why, "the letter was registered while PostgreSQL was asked"


async def test_with_another_policy_nothing_stops_and_nothing_is_asked():
    rows: Any = FakeRows()
    rows.blocks.add("k")
    watch = KeyWatch(store=rows, stops=False, facts=lambda _: None)
    watch.letter_registered()
    await watch.run()
    assert watch.why == ""


def _meanwhile(watch: KeyWatch) -> Any:
    async def any_blocked() -> bool:
        watch.letter_registered()
        return False

    return any_blocked
