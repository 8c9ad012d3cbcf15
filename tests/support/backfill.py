"""A feed whose gaps are fetched page by page, and rows that know none of its events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from tests.support.rows import FakeRows
from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.gap import Gap
from unlost.listener.source.feed.hook import Action


class FetchedPages:
    """A feed that is fetched: pages, or errors in their place."""

    def __init__(self, *pages: list[Action] | Exception | None) -> None:
        self.pages = pages
        self.closed = 0
        self.yielded: Callable[[], None] = lambda: None
        self.asked = 0

    async def fetch(self, gap: Gap) -> AsyncIterator[Iterable[Action]]:
        self.asked += 1
        try:
            for one in self.pages:
                if isinstance(one, Exception):
                    raise one
                if one is None:
                    await asyncio.Event().wait()
                else:
                    self.yielded()
                    yield one
        finally:
            self.closed += 1


class RowsOfNothing(FakeRows):
    """Knows nothing, or does not answer."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        if self.error is not None:
            raise self.error
        return {}
