"""How the rerun of one letter's event ended, and the port through which events are run again."""

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
    """The event was a row before: the handler did not run."""


class FailedAgain(msgspec.Struct, frozen=True):
    """All attempts failed once more, or the event was condemned."""

    attempts: tuple[Failure, ...]
    reason: Reason


Outcome = Stored | AlreadyStored | FailedAgain


class Rerun(Protocol):
    """Runs single events through the same claim, handle and store path as a listener, under their own ids.

    Entering connects and declares, and raises ``Transient`` or ``Misconfigured`` with a clear sentence. ``run``
    may be called many times at once; attempts are bounded; it never writes a letter. It raises
    ``Transient`` once no event could be run for too long. That, or cancelling ``run``, leaves the event as a crash
    would: whoever runs it next finds out what is stored.
    """

    async def __aenter__(self) -> Self:
        """Be ready to run events."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Give back what is held."""

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """The listeners of the group that are at work now, each with what its handler is called; None: without one."""

    async def run(self, event: Event) -> Outcome:
        """Run one event to its end."""
