"""The state of a journal beside its events: one document, changed by comparing its revision."""

from collections.abc import Callable

import msgspec

from unlost.producer.journal.groups import Group
from unlost.producer.journal.jetstream.connection import (
    NO_MESSAGE,
    WRONG_LAST,
    WRONG_LAST_TOO,
    JetStreamConnection,
    PublishAck,
    RequestRefused,
)
from unlost.producer.journal.jetstream.reading import Found
from unlost.producer.journal.jetstream.streams import state_stream, state_subject
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.timelines import Timeline

ATTEMPTS = 50


class State(msgspec.Struct, frozen=True):
    """The document. ``dropped``: the number up to which retention has taken entries; ``total``: their bodies' bytes."""

    identity: str
    dropped: int = 0
    total: int = 0
    dropped_unread: int = 0
    probed_at: float | None = None
    groups: tuple[Group, ...] = ()
    copied: tuple[Timeline, ...] = ()
    """The timelines of the journal that was copied into this one, if any."""


Change = Callable[[State], State]


def with_groups(state: State, reported: list[Group]) -> State:
    """The state after these reports."""
    known = {one.name: one for one in state.groups} | {one.name: one for one in reported}
    return msgspec.structs.replace(state, groups=tuple(sorted(known.values(), key=lambda one: one.name)))


def within(state: State, last: int) -> State:
    """The state of a stream that ends here: it may be older than its state, if it was restored from a backup.

    A timeline that begins right after the last entry may stay: it is empty, and the next one begins there too.
    """
    groups = tuple(Group(one.name, min(one.settled, last), one.at, one.forgotten) for one in state.groups)
    shared = tuple(one for one in state.copied if one.first <= last + 1)
    dropped, total = (state.dropped, state.total) if state.dropped <= last else (0, 0)
    return msgspec.structs.replace(state, groups=groups, copied=shared, dropped=dropped, total=total)


class StateKept:
    """Reads and changes the state of one journal. A state of another journal, under the same name, is empty."""

    def __init__(self, connection: JetStreamConnection, stream: str, identity: str) -> None:
        self._connection = connection
        self._stream = stream
        self._identity = identity

    async def read(self) -> State:
        """The state now."""
        return (await self._read())[0]

    async def change(self, change: Change) -> State:
        """Change it durably, and return what is stored then."""
        for _ in range(ATTEMPTS):
            before, revision = await self._read()
            after = change(before)
            if after == before:
                return before
            expected = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
            try:
                await self._connection.ask(
                    state_subject(self._stream), msgspec.json.encode(after), PublishAck, headers=expected
                )
            except RequestRefused as refused:
                if refused.code not in (WRONG_LAST, WRONG_LAST_TOO):
                    raise
                continue
            return after
        raise JournalError(f"the state of the journal {self._stream} is changed by others all the time")

    async def _read(self) -> tuple[State, int]:
        try:
            found = await self._connection.api(
                f"STREAM.MSG.GET.{state_stream(self._stream)}", {"last_by_subj": state_subject(self._stream)}, Found
            )
        except RequestRefused as refused:
            if refused.code != NO_MESSAGE:
                raise
            return State(self._identity), 0
        state = msgspec.json.decode(found.message.data, type=State)
        return (state if state.identity == self._identity else State(self._identity)), found.message.seq
