"""Why an event becomes a dead letter."""

from typing import Literal

import msgspec

Stage = Literal["receive", "claim", "handle", "store"]
Reason = Literal["exhausted", "rejected", "invalid", "conflict", "crash_loop", "overflow", "stopped"]
UNCLAIMED: frozenset[Reason] = frozenset(("overflow", "stopped"))
"""Letters with these reasons are written without a claim. If another listener stores the event, they are resolved."""


class DeadLetterCause(msgspec.Struct, frozen=True, gc=False):
    """The reason for burying an event, and the stage at which it failed."""

    reason: Reason
    stage: Stage
