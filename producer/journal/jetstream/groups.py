"""The groups that a journal in JetStream knows, for ``unlost journal``, beside its producers."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.groups import Group
from unlost.producer.journal.jetstream.connection import LIBRARY_ERRORS, NO_STREAM, JetStreamConnection, RequestRefused
from unlost.producer.journal.jetstream.reading import EntryReader
from unlost.producer.journal.jetstream.state import State, StateKept
from unlost.producer.journal.jetstream.streams import StreamInfo, info_of
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.moves import refuse_marked
from unlost.producer.journal.nats_address import read_address
from unlost.producer.journal.port import JournalError

T = TypeVar("T")


class StreamGroups:
    """The groups of one journal. Raises errors of the library."""

    def __init__(self, loop: LoopThread, connection: JetStreamConnection, stream: str, where: str) -> None:
        self._loop = loop
        self._connection = connection
        self._stream = stream
        info = self._info()
        refuse_marked(where, info.mark)
        self._state = StateKept(connection, stream, info.identity)

    def known(self) -> list[Group]:
        """All groups, including forgotten ones."""
        return list(self._run(self._state.read).groups)

    def newest(self) -> int:
        """The number of the newest entry."""
        return self._info().state.last_seq

    def forget(self, name: str) -> bool:
        """Mark the group as forgotten. Returns whether it was known."""
        found = any(one.name == name and not one.forgotten for one in self.known())
        if found:
            self._run(lambda: self._state.change(lambda state: _without(state, name)))
        return found

    def holding(self, mark: bytes) -> int:
        """Count the entries whose bodies hold this mark. It reads all of them."""
        return self._run(lambda: EntryReader(self._connection, self._stream).holding(mark))

    def _info(self) -> StreamInfo:
        return self._run(lambda: info_of(self._connection, self._stream))

    def _run(self, use: Callable[[], Awaitable[T]]) -> T:
        async def used() -> T:
            return await use()

        return self._loop.run(used())


def _without(state: State, name: str) -> State:
    groups = [msgspec.structs.replace(one, forgotten=one.forgotten or one.name == name) for one in state.groups]
    return msgspec.structs.replace(state, groups=tuple(groups))


@contextmanager
def opened(url: str) -> Iterator[StreamGroups]:
    """Open an existing journal. Errors while it is open become ``JournalError``. Raises ``Moved`` if it has a mark."""
    address = read_address(url)
    loop, connection = LoopThread("journal in JetStream"), JetStreamConnection(address, "unlost journal")
    try:
        yield StreamGroups(loop, connection, address.stream, address.shown)
    except RequestRefused as refused:
        if refused.code != NO_STREAM:
            raise JournalError(f"{address.shown} cannot be used as a journal: {masked(str(refused))}") from None
        raise JournalError(f"{address.shown} has no journal: no producer has made one there yet") from None
    except LIBRARY_ERRORS as error:
        why = masked(str(error)) or type(error).__name__
        raise JournalError(f"{address.shown} cannot be used as a journal: {why}") from None
    finally:
        loop.run(connection.close())
        loop.close()
