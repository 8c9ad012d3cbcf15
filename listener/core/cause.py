"""Why an event becomes a dead letter."""

from typing import Literal

import msgspec

Stage = Literal["receive", "claim", "handle", "store", "effect"]
Reason = Literal[
    "exhausted",
    "rejected",
    "invalid",
    "conflict",
    "crash_loop",
    "overflow",
    "stopped",
    "deferred",
    "effect",
    "blocked",
]
UNCLAIMED: frozenset[Reason] = frozenset(("overflow", "stopped"))
"""Letters with these reasons are written without a claim. If another listener stores the event, they are resolved."""


class DeadLetterCause(msgspec.Struct, frozen=True, gc=False):
    """The reason for burying an event, and the stage at which it failed."""

    reason: Reason
    stage: Stage

    @property
    def is_of_the_event(self) -> bool:
        """Whether any listener would find the same: an invalid frame or a conflict. Each has a claim of its own."""
        return self.reason == "conflict" or (self.reason == "invalid" and self.stage == "receive")
