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


class Reports:
    """Nothing waits, and nobody declared a gap."""

    async def cursors(self) -> list[str]:
        return []

    async def is_read(self) -> bool:
        return True

    async def count_gaps(self) -> int:
        return 0

    async def gaps(self, most: int) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("rows", "letters", "wrong"),
    [
        ([{"a"}, {"a", "moves"}], [{"a": 1}, {}], {}),
        ([{"a"}, {"a", "moves"}], [{"a": 1}], {"doubled": 1}),
        ([{"a"}, {"a"}, {"a", "moves"}], [{"a": 1}, {"a": 1, "moves": 1}, {"moves": 1}, {}], {}),
        ([{"a"}], [{}], {"missing": 1}),
    ],
    ids=["a letter becomes a row", "one stays doubled", "a letter becomes a row while others move", "nothing moves"],
)
async def test_both_are_looked_at_until_they_are_in_one_place_or_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, rows: list[set[str]], letters: list[dict[str, int]], wrong: dict[str, int]
) -> None:
    """Each query of rows and letters gets the next of these, and then the last of them again and again."""

    @contextlib.asynccontextmanager
    async def everybody(_: object) -> AsyncIterator[tuple[None, Reports]]:
        yield None, Reports()

    async def journal(_: object, __: str, after: str | None = None) -> AsyncIterator[list[AcceptedEvent]]:
        if not looked:
            looked.append(True)
            yield [AcceptedEvent(event_id=one, cursor="", digest="d", at=0.0, state="whole") for one in ("a", "moves")]

    async def found(_: object, ids: Sequence[str], *, handled_from: int | None) -> dict[str, Row]:
        now = rows.pop(0) if len(rows) > 1 else rows[0]
        return {one: Row("d") for one in ids if one in now}

    async def listed(*_: object) -> tuple[Counter[str], int]:
        return Counter(letters.pop(0) if len(letters) > 1 else letters[0]), 0

    async def nothing(*_: object) -> Any:
        return None

    async def retained(*_: object) -> Retained:
        return Retained()

    async def held(*_: object) -> set[str]:
        return set()

    looked: list[bool] = []
    for name, fake in {"everybody": everybody, "in_list_and": listed, "AGAIN": 0.01}.items():
        monkeypatch.setattr(cli, name, fake)
    for name, fake in {
        "journal": journal, "rows": found, "handled_from": nothing, "retained": retained, "in_flight": held,
    }.items():  # fmt: skip
        monkeypatch.setattr(query, name, fake)
    account, _ = await cli.audited(AuditSettings(settle=0.3), ())
    assert account.wrong() == wrong
