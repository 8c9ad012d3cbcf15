"""Which cursor PostgreSQL has according to the committer, and in which store."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.cursors import FakeCursors
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.source.committer import CursorCommitter

BEFORE, LATER, BACK = StoreMark("g", 7, "p"), StoreMark("g", 9, "p"), StoreMark("h", 8, "p")


class Committing:
    """A committer whose watermark and store the test sets."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.watermark: Any = SimpleNamespace(cursor="j-8", reading=0)
        self.store: StoreMark | None = BEFORE
        self.committer = CursorCommitter(
            lambda: self.watermark, FakeCursors(answers=answers), store=lambda: self.store, source="s", group="g",
            facts=lambda fact: None,
        )  # fmt: skip


async def test_returns_what_postgresql_answered_however_far_it_came_since() -> None:
    place = Committing("j-8")
    assert place.committer.stored is None
    await place.committer.save()
    place.store = LATER
    assert place.committer.stored == "j-8"


@pytest.mark.parametrize("store", [BACK, StoreMark("g", 9, "q"), None])
async def test_a_cursor_that_another_store_confirmed_does_not_count(store: StoreMark | None) -> None:
    place = Committing("j-8", "j-3")
    await place.committer.save()
    place.store = store
    assert place.committer.stored is None
    place.watermark = SimpleNamespace(cursor="j-3", reading=1)
    await place.committer.save()
    assert place.committer.stored == "j-3"


async def test_a_refused_write_shows_that_nothing_is_known_and_a_failed_one_nothing_new() -> None:
    place = Committing("j-8", Transient("away"), None)
    await place.committer.save()
    place.watermark = SimpleNamespace(cursor="j-9", reading=0)
    await place.committer.save()
    assert place.committer.stored == "j-8"
    await place.committer.save()
    assert place.committer.stored is None
