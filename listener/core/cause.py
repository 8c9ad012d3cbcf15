"""Why an event becomes a dead letter."""

from typing import Literal

import msgspec

Stage = Literal["receive", "claim", "handle", "store"]
Reason = Literal["exhausted", "rejected", "invalid", "conflict", "crash_loop", "overflow", "stopped"]
UNCLAIMED: frozenset[Reason] = frozenset(("overflow", "stopped"))
"""Such letters are written without the claim: another listener may store the event, and then the letter is resolved."""


class DeadLetterCause(msgspec.Struct, frozen=True, gc=False):
    """Why an event is to be buried."""

    reason: Reason
    stage: Stage
