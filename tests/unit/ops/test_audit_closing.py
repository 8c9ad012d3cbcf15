"""Events that move between two queries of an audit are looked at again, whatever else is found wrong."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from unlost.ops.audit import cli, query
from unlost.ops.audit.account import Row
from unlost.ops.audit.places import AuditSettings
from unlost.ops.audit.query import AcceptedEvent, Retained


class System:
    """Two accepted events. "a" is a row; "moves" becomes one after so many queries.

    ``letters``: what each look finds; the last of them is found again and again.
    """

    def __init__(self, letters: list[dict[str, int]], *, moves_after: int) -> None:
        self._letters = letters
        self._moves_after = moves_after
        self._read = False

    @contextlib.asynccontextmanager
    async def everybody(self, _: object) -> AsyncIterator[tuple[None, "System"]]:
        yield None, self

    async def journal(self, *_: object, shard: object) -> AsyncIterator[list[AcceptedEvent]]:
        if not self._read:
            self._read = True
            yield [AcceptedEvent(one, "", "d") for one in ("a", "moves")]

    async def rows(self, _: object, ids: Sequence[str], *, handled_from: int | None) -> dict[str, Row]:
        self._moves_after -= "moves" in ids
        return {one: Row("d") for one in ids if one == "a" or self._moves_after < 0}

    async def in_list_and(self, *_: object) -> tuple[Counter[str], int]:
        return Counter(self._letters.pop(0) if len(self._letters) > 1 else self._letters[0]), 0

    async def handled_from(self, *_: object) -> None:
        return None

    async def retained(self, *_: object) -> Retained:
        return Retained()

    async def in_flight(self, *_: object) -> set[str]:
        return set()

    async def cursors(self) -> list[Any]:
        return []

    async def is_read(self) -> bool:
        return True

    async def count_gaps(self) -> int:
        return 0

    async def gaps(self, _: int) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("letters", "moves_after", "wrong"),
    [
        ([{"a": 1}, {}], 1, {}),
        ([{}, {"moves": 1}, {}], 1, {}),
        ([{"a": 1}], 2, {"doubled": 1}),
        ([{}], 1_000_000, {"missing": 1}),
    ],
    ids=["a letter became a row", "while it was looked for", "another stays doubled", "nothing moves"],
)
async def test_all_are_looked_at_until_they_are_in_one_place_or_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, letters: list[dict[str, int]], moves_after: int, wrong: dict[str, int]
) -> None:
    system = System([*letters], moves_after=moves_after)
    for name in ("everybody", "in_list_and"):
        monkeypatch.setattr(cli, name, getattr(system, name))
    for name in ("journal", "rows", "handled_from", "retained", "in_flight"):
        monkeypatch.setattr(query, name, getattr(system, name))
    monkeypatch.setattr(cli, "AGAIN", 0.01)
    account, _ = await cli.audited(AuditSettings(settle=0.3), ())
    assert account.wrong() == wrong
