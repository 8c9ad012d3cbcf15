"""The table of events, without a server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import Event
from unlost.listener.ports.rows import INSERTED, HandlerConnection, NewRow, Result, TransactionPipeline

AWAY = Transient("away")


class FakeRows:
    """For ``Rows``: each call takes the next of ``answers``, an error or none. The last one repeats."""

    def __init__(self, *answers: Exception | None, log: list[object] | None = None) -> None:
        self.answers = list(answers) or [None]
        self.inserts: list[list[str]] = []
        self.probes = 0
        self.refused: dict[str, Exception] = {}
        """Rows at fault."""
        self.settles: dict[str, Done | Dead] = {}
        self.same: bool | Transient | Permanent = True
        """Whether a row of the same id has the same content."""
        self.blocks: set[str] = set()
        """Keys that a letter blocks."""
        self.log = [] if log is None else log

    async def insert(self, new: Sequence[NewRow]) -> list[Result]:
        ids = [row.event.event_id for row in new]
        self.inserts.append(ids)
        await self._answer()
        for event_id in ids:
            if event_id in self.refused:
                raise self.refused[event_id]
        return [INSERTED] * len(ids)

    async def probe(self) -> None:
        self.probes += 1
        await self._answer()

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        await self._answer()
        return {one.event_id: self.settles[one.event_id] for one in requests if one.event_id in self.settles}

    async def blocked(self, keys: Mapping[str, str]) -> set[str]:
        await self._answer()
        return {one for one, key in keys.items() if key in self.blocks}

    async def any_stops(self, *, unsaid: bool) -> bool:
        await self._answer()
        return unsaid and bool(self.blocks)

    async def same_content(self, event: Event) -> bool:
        self.log.append(f"compare {event.event_id}")
        if isinstance(self.same, Transient | Permanent):
            raise self.same
        return self.same

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        raise AssertionError(f"no transaction is expected here: {row.event.event_id}")

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        return []

    async def one(self, event_id: str) -> dict[str, Any] | None:
        return None

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
