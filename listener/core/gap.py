"""A gap: events of a source that a listener could not receive. It is declared, never passed over in silence."""

from collections.abc import Mapping
from typing import Literal

import msgspec

How = Literal["unknown_cursor", "sequence", "silence", "disconnected", "refused", "expired"]
"""``unknown_cursor``: the source no longer knew where to continue. ``sequence``: numbers are missing. ``silence``: it
sent nothing for too long. ``disconnected``: it was away, and does not resume. ``refused``: it resumed
at a later position than requested. ``expired``: it dropped messages before they were read."""


class Gap(msgspec.Struct, frozen=True):
    """One gap. ``after`` and ``resumed_at``: cursors or sequence numbers around it, if known.

    ``missing``: how many events, if known. ``began_at`` and ``declared_at``: epoch seconds.
    """

    gap_id: str
    source: str
    how: How
    after: str | None
    resumed_at: str | None
    missing: int | None
    began_at: float
    declared_at: float


class LastContact(msgspec.Struct, frozen=True):
    """The last contact of a listener with a source: how many seconds ago it heard of it, and was connected to it.

    ``numbers``: the last ones that it counted, by name. ``heard_at``: epoch seconds by PostgreSQL's clock.
    """

    heard_ago: float
    connected_ago: float
    numbers: Mapping[str, int] | None
    heard_at: float = 0.0


FetchOutcome = Literal["filled", "partly", "failed"]
"""The outcome of fetching a gap's events. ``partly``: a limit was reached; more may be missing."""


class GapTry(msgspec.Struct, frozen=True):
    """A gap whose events are to be fetched, and which try this is, from 1."""

    gap: Gap
    tries: int
