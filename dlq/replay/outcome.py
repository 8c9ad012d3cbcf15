"""The outcomes of running a letter's event again, and the port that runs events."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn, Protocol, Self

import msgspec

from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Edited, Event


class NowStored(msgspec.Struct, frozen=True):
    """The event is now a row."""


class AlreadyStored(msgspec.Struct, frozen=True):
    """The event was a row already, so the handler did not run."""


class FailedAgain(msgspec.Struct, frozen=True):
    """All attempts failed again, or the event was buried without one."""

    attempts: tuple[Failure, ...]
    reason: Reason


class StillBlocked(msgspec.Struct, frozen=True):
    """The event was not run: an earlier letter of its key waits."""


Outcome = NowStored | AlreadyStored | FailedAgain | StillBlocked


class Rerun(Protocol):
    """Runs events through a listener's path (claim, handle, store), under their own ids.

    Entering connects and declares. It raises ``Transient`` or ``Misconfigured`` with a clear sentence. Attempts are
    bounded, and no letter is written. Leaving while events run is like a crash: the next owner finds out
    what is stored.
    """

    @property
    def at_once(self) -> int:
        """How many events keep it busy. It works on them in batches."""

    async def __aenter__(self) -> Self:
        """Connect and get ready to run events."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Release everything."""

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """The live listeners of the group, each with the name of its handler or None."""

    def start(
        self,
        event: Event,
        ended: Callable[[Outcome], None],
        edited: Edited | None = None,
        *,
        order_key: str | None = None,
    ) -> None:
        """Start one event, or a version of it that a person made. ``ended`` is called once, with its outcome.

        No two events in work have the same id, or the same key.
        """

    def start_effect(self, event_id: str, number: int, ended: Callable[[Outcome], None]) -> None:
        """Deliver one effect of an event, once. ``ended`` is called once. The handler does not run."""

    async def unable(self) -> NoReturn:
        """Wait until no event could be run for too long; then raise ``Transient``."""
