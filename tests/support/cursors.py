"""Cursors in memory, as PostgreSQL keeps them."""

from collections.abc import Mapping, Sequence

from unlost.listener.core.cursor import ordinal_of
from unlost.listener.core.store_mark import StoreMark


class FakeCursors:
    """For ``GroupCursors``, of one group. Reads and saves take ``answers`` first, an error or a cursor."""

    def __init__(self, stored: str | None = None, *, answers: Sequence[str | Exception | None] = ()) -> None:
        self.answers = list(answers)
        self.saved_meanwhile: str | None = None
        """The cursor that a peer saves just before the next reset."""
        self._first = stored
        self._kept: dict[str, str] = {}

    @property
    def stored(self) -> str | None:
        """The cursor of the only source."""
        return next(iter(self._kept.values()), self._first)

    async def database(self) -> str:
        return "0123abcd"

    async def start(self, source: str, group: str, cursor: str) -> str:
        return self._kept.setdefault(source, self._first or cursor)

    async def read(self, source: str, group: str) -> str | None:
        return self._answer() if self.answers else self._kept.get(source, self._first)

    async def read_all(self, sources: Sequence[str], group: str) -> Mapping[str, str]:
        return {source: self._kept[source] for source in sources if source in self._kept}

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        if self.answers:
            return self._answer()
        before = self._kept.get(source, self._first)
        if before is None or (ordinal_of(before) or 0) < (ordinal_of(cursor) or 0):
            self._kept[source] = cursor
        return self._kept.get(source, before)

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        before, self.saved_meanwhile = self.saved_meanwhile or self._kept.get(source, self._first), None
        self._kept[source] = new if before is None or before == old else before
        return self._kept[source]

    def _answer(self) -> str | None:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
