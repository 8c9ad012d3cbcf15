"""A pause that a person ordered: a listener reads nothing, or a route of the handler runs nothing, until it ends."""

from typing import Literal

import msgspec

Paused = Literal["listener", "route"]


class Pause(msgspec.Struct, frozen=True):
    """One pause. ``since``: an epoch second of PostgreSQL's."""

    kind: Paused
    name: str
    by: str
    why: str
    since: float

    def __str__(self) -> str:
        return f"paused by {self.by}: {self.why}"
