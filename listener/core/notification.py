"""A notification: something that people should see, and is reported once to each receiver."""

from typing import Literal

import msgspec

Happening = Literal["letters.new_group", "letters.healing_ended", "source.gap", "audit.not_clean", "notifications.many"]


class Notification(msgspec.Struct, frozen=True):
    """One happening for one receiver. ``key`` names the happening; ``attempts`` counts the one that is made now."""

    key: str
    target: str
    kind: Happening
    facts: dict[str, str | int | None]
    at: float
    attempts: int = 1
