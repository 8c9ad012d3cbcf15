"""The groups that a journal in PostgreSQL knows, for ``unlost journal``, beside its producers."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.groups import Group
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.postgres import statements
from unlost.producer.journal.postgres.marks import mark_in
from unlost.producer.journal.postgres.session import LIBRARY_ERRORS, PostgresSession


class ServerGroups:
    """The groups of one journal. Raises errors of the library."""

    def __init__(self, loop: LoopThread, session: PostgresSession) -> None:
        self._loop = loop
        self._session = session

    def known(self) -> list[Group]:
        """All groups, including forgotten ones."""
        return [Group(*row) for row in self._fetch(statements.GROUPS)]

    def newest(self) -> int:
        """The number of the newest entry."""
        return next((int(head["newest"]) for head in self._fetch(statements.HEAD)), 0)

    def forget(self, name: str) -> bool:
        """Mark the group as forgotten. Returns whether it was known."""
        return bool(self._fetch(statements.FORGET_GROUP, name))

    def holding(self, mark: bytes) -> int:
        """How many entries hold this mark."""
        return int(self._fetch(statements.HOLDING, mark)[0][0])

    def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        return self._loop.run(self._session.call(lambda connection: connection.fetch(statement, *values)))


@contextmanager
def opened(url: str) -> Iterator[ServerGroups]:
    """Open an existing journal. Errors while it is open become ``JournalError``. Raises ``Moved`` if it has a mark."""
    loop, session = LoopThread("journal in PostgreSQL"), PostgresSession(url)
    try:
        refuse_marked(masked(url), loop.run(session.call(mark_in)))
        yield ServerGroups(loop, session)
    except asyncpg.UndefinedTableError:
        raise JournalError(f"{masked(url)} has no journal: no producer has made one there yet") from None
    except LIBRARY_ERRORS as error:
        raise JournalError(f"{masked(url)} cannot be used as a journal: {masked(str(error))}") from None
    finally:
        loop.close(session.cut)
