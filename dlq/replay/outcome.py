"""The outcomes of running a letter's event again, and the port that runs events."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import msgspec

from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import Failure
from unlost.listener.core.event import Event


class Stored(msgspec.Struct, frozen=True):
    """The event is now a row."""


class AlreadyStored(msgspec.Struct, frozen=True):
    """The event was a row already, so the handler did not run."""


class FailedAgain(msgspec.Struct, frozen=True):
    """All attempts failed again, or the event was condemned without one."""

    attempts: tuple[Failure, ...]
    reason: Reason


Outcome = Stored | AlreadyStored | FailedAgain


class Rerun(Protocol):
    """Runs single events through a listener's path (claim, handle, store), under their own ids.

    Entering connects and declares. It raises ``Transient`` or ``Misconfigured`` with a clear sentence. ``run`` may be
    called concurrently. Its attempts are bounded, and it never writes a letter. It raises ``Transient`` if no event
    could be run for too long. That, or cancelling ``run``, leaves the event as a crash would: the next owner finds out
    what is stored.
    """

    async def __aenter__(self) -> Self:
        """Connect and get ready to run events."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Release everything."""

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """The live listeners of the group, each with the name of its handler or None."""

    async def run(self, event: Event) -> Outcome:
        """Run one event until it has an outcome."""
